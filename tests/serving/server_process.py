"""``python -m serving`` as a process of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.serving.running_server import Answer, read_answer

ROOT = Path(__file__).resolve().parents[2]


def find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


class ServerProcess:
    """A server that is ready when the block begins, and gone when it ends.

    Args:
        flags: beside the ports.
        environment: added to the test's own.
    """

    def __init__(self, *flags: str, environment: Mapping[str, str] | None = None) -> None:
        self.port = find_free_port()
        self.grpc_port = find_free_port()
        self.errors: list[str] = []
        self._ready = threading.Event()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        command = [sys.executable, "-m", "serving", *flags]
        command += [f"--rest_api_port={self.port}", f"--port={self.grpc_port}"]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", **(environment or {})},
            stdout=self._log,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read_errors)
        self._reader.start()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors.append(line)
            if line.startswith("INFO: serving "):
                self._ready.set()
        self._ready.set()

    def __enter__(self) -> ServerProcess:
        self._ready.wait(300)
        assert self.process.poll() is None, self.errors
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        self._log.close()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        code = self.process.wait(120)
        self._reader.join()
        if self.process.stderr is not None:
            self.process.stderr.close()
        return code

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def request(self, method: str, path: str, body: Any = None) -> Answer:
        """One request on a connection of its own; a body that is no bytes goes as JSON."""
        with contextlib.closing(self.connect()) as connection:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, content)
            return read_answer(connection)

    def read_log(self) -> list[dict[str, Any]]:
        """The access log so far."""
        content = os.pread(self._log.fileno(), 1 << 30, 0)
        return [json.loads(line) for line in content.splitlines()]

    def measure_peak_bytes(self) -> int:
        """The most memory that the process has held."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [row for row in status.splitlines() if row.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
