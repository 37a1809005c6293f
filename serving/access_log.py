"""The access log: one line on stdout for each HTTP request and each gRPC call."""

from __future__ import annotations

import dataclasses
import datetime
import json
import sys
import threading
from typing import TextIO


@dataclasses.dataclass
class AccessRecord:
    """What is known of a request once it is answered.

    Args:
        protocol: ``HTTP`` or ``gRPC``.
        client: address and port; empty where it is not known.
        method: HTTP method; empty for gRPC.
        path: as the client wrote it, or the gRPC method.
        status: HTTP status, or the canonical code by name.
        duration_ms: from the head of the request to the end of the reply.
        request_bytes: length of its body.
        response_bytes: length of the reply's body.
        model: name in the request, if it is a model's.
        error: what the client was told, if it got no result.
    """

    protocol: str = "HTTP"
    client: str = ""
    method: str = ""
    path: str = ""
    status: int | str = ""
    duration_ms: float = 0.0
    request_bytes: int = 0
    response_bytes: int = 0
    model: str = ""
    error: str = ""


class AccessLog:
    """Writes records as lines.

    What comes from a client is written as JSON strings in either format, so that no request can
    break a line or forge one.

    Args:
        log_format: ``json``, ``text`` or ``none``.
        stream: where to write; stdout without it.
    """

    def __init__(self, log_format: str = "json", stream: TextIO | None = None) -> None:
        self._format = log_format
        self._stream = stream or sys.stdout
        self._lock = threading.Lock()

    def write(self, record: AccessRecord) -> None:
        """Write a record. A stdout that is gone does not stop the server."""
        if self._format == "none":
            return
        line = (self._as_json if self._format == "json" else self._as_text)(record)
        try:
            with self._lock:
                self._stream.write(line + "\n")
                self._stream.flush()
        except (OSError, ValueError):
            self._format = "none"

    def _as_json(self, record: AccessRecord) -> str:
        fields = {"time": _now(), **dataclasses.asdict(record)}
        fields["duration_ms"] = round(record.duration_ms, 3)
        return json.dumps({key: value for key, value in fields.items() if value != ""})

    def _as_text(self, record: AccessRecord) -> str:
        words = [_now(), record.client or "-", record.protocol]
        words += [record.method] if record.method else []
        words += [json.dumps(record.path), str(record.status), f"{record.duration_ms:.1f}ms"]
        words += [f"{record.request_bytes}B", f"{record.response_bytes}B"]
        words += [json.dumps(record.error)] if record.error else []
        return " ".join(words)


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
