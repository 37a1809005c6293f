"""What surrounds every HTTP request: the access log, errors nobody expected, and the draining."""

from __future__ import annotations

import json
import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.access_log import AccessLog, AccessRecord

_LOG = logging.getLogger(__name__)
CLIENT_CLOSED_REQUEST = 499


class Draining:
    """Whether the server answers what it has accepted and takes nothing new."""

    def __init__(self) -> None:
        self.started = False


class Envelope:
    """ASGI middleware around everything else.

    A failure that nothing caught is logged with its traceback and answered by 500 with an error
    body. While the server drains, each reply ends its connection.

    Args:
        app: what answers.
        log: gets a record of each request.
        draining: whether the server is about to stop.
    """

    def __init__(self, app: ASGIApp, log: AccessLog, draining: Draining) -> None:
        self._app = app
        self._log = log
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = time.monotonic()
        state = scope.setdefault("state", {})
        client = scope.get("client")
        record = AccessRecord(
            client=f"{client[0]}:{client[1]}" if client else "",
            method=scope["method"],
            path=raw_target(scope).decode("latin-1"),
            status=CLIENT_CLOSED_REQUEST,
        )

        async def receive_and_note() -> Message:
            message = await receive()
            record.request_bytes += len(message.get("body", b""))
            return message

        async def send_and_note(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                if self._draining.started:
                    message = {
                        **message,
                        "headers": [*message.get("headers", ()), (b"connection", b"close")],
                    }
            record.response_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive_and_note, send_and_note)
        except Exception as error:
            _LOG.exception("%s %s failed", record.method, json.dumps(record.path))
            state["error"] = f"{type(error).__name__}: {error}"
            if record.status == CLIENT_CLOSED_REQUEST:
                await _send_500(send_and_note)
            else:
                raise  # a reply was under way: the connection must end to say that it is cut
        finally:
            record.model = state.get("model", "")
            record.error = state.get("error", "")
            record.duration_ms = 1000 * (time.monotonic() - started)
            self._log.write(record)


def raw_target(scope: Scope) -> bytes:
    """Path and query as the client wrote them."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope.get("query_string", b"")
    return path + b"?" + query if query else path


async def _send_500(send: Send) -> None:
    content = b'{"error": "Internal error; the server\'s log says more"}'
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
    ]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": content})
