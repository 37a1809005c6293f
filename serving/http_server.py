"""uvicorn, with patience that ends, and a stop that loses no request.

uvicorn waits for ever for a client that connects and says nothing, and for one that does not read
its answer; when it is stopped it closes idle connections at once, which loses requests that are on
their way. Both are different here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from serving.envelope import Draining

_LOG = logging.getLogger(__name__)
#: Longer than the idle time of usual load balancers, which must be the first to close.
_KEEP_ALIVE_S = 75
#: For how long a connection that is idle when the server stops may still bring a request.
_IDLE_GRACE_S = 1.0
_POLL_S = 0.02


class HttpServer(uvicorn.Server):
    """Serves one application on sockets that are bound already.

    Args:
        app: an ASGI application.
        draining: is started when the server is told to stop.
        client_timeout_s: for a client to send the head of a request, or to read some of its answer.
        drain_timeout_s: for accepted requests to be answered once the server is told to stop.
        on_listening: is called once clients can connect.

    Attributes:
        num_lost: connections that were cut when the drain timeout was over.
    """

    def __init__(
        self,
        app: ASGIApp,
        draining: Draining,
        client_timeout_s: float,
        drain_timeout_s: float,
        on_listening: Callable[[], object] = lambda: None,
    ) -> None:
        protocol = type("_Protocol", (_Protocol,), {"client_timeout_s": client_timeout_s})
        config = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
        super().__init__(config)
        self.num_lost = 0
        self._draining = draining
        self._on_listening = on_listening
        self._drain_timeout_s = drain_timeout_s

    def stop(self) -> None:
        """Answer what is accepted, take nothing new, and end."""
        self._draining.started = True
        self.should_exit = True

    def stop_now(self) -> None:
        """End without waiting for answers."""
        self._drain_timeout_s = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen: called by uvicorn."""
        await super().startup(sockets)
        self._on_listening()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the caller."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain: called by uvicorn once ``stop`` was."""
        loop = asyncio.get_running_loop()
        await self._accept_the_rest(sockets or ())
        stopped = loop.time()
        state = self.server_state
        while state.connections:
            waited = loop.time() - stopped
            if waited >= self._drain_timeout_s:
                break
            for connection in list(state.connections):
                # One whose request is under way is told to end after its answer.
                if waited >= _IDLE_GRACE_S or not _is_idle(connection):
                    connection.shutdown()
            await asyncio.sleep(_POLL_S)
        self.num_lost = sum(not _is_idle(connection) for connection in state.connections)
        for connection in list(state.connections):
            connection.transport.abort()
        for task in list(state.tasks):
            task.cancel()

    async def _accept_the_rest(self, sockets: Sequence[socket.socket]) -> None:
        """Take the connections that the kernel has accepted, then close the listening sockets."""
        accepted = []
        for listener in sockets:
            with contextlib.suppress(BlockingIOError):
                while True:
                    accepted.append(listener.accept()[0])
        for server in self.servers:
            server.close()
        for listener in sockets:
            listener.close()
        loop = asyncio.get_running_loop()
        for connection in accepted:
            connection.setblocking(False)
            await loop.connect_accepted_socket(self._make_protocol, connection)

    def _make_protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


def _is_idle(connection: object) -> bool:
    cycle = getattr(connection, "cycle", None)
    return cycle is None or cycle.response_complete


class _Protocol(H11Protocol):
    """One connection; a client that neither writes nor reads loses it."""

    client_timeout_s = 20.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._unsent = 0
        self._has_spoken = False
        self._watchdog = self.loop.call_later(self.client_timeout_s, self._watch_reader)
        self._head_timer: asyncio.TimerHandle | None = None
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._watchdog.cancel()
        self._forget_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._has_spoken = True
        super().data_received(data)
        if not _is_idle(self):
            self._forget_head()
        else:
            self._wait_for_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # The head of the next request may have begun to come before this one was answered.
        if _is_idle(self) and self.conn.trailing_data[0] and not self.transport.is_closing():
            self._wait_for_head()

    def send_400_response(self, msg: str) -> None:
        self._answer_and_close(HTTPStatus.BAD_REQUEST, msg)

    def _wait_for_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.client_timeout_s, self._give_up_on_head)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up_on_head(self) -> None:
        if not self._has_spoken:
            self.transport.close()  # as browsers open connections that they may need later
        elif not self.transport.is_closing():
            message = "The head of the request took too long to arrive"
            self._answer_and_close(HTTPStatus.REQUEST_TIMEOUT, message)

    def _answer_and_close(self, status: HTTPStatus, message: str) -> None:
        content = json.dumps({"error": message}).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(content)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + content)
        self.transport.close()

    def _watch_reader(self) -> None:
        """End the connection when its client has read nothing of its answer since the last look."""
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent >= self._unsent > 0:
            self.transport.abort()
            return
        self._unsent = unsent
        self._watchdog = self.loop.call_later(self.client_timeout_s, self._watch_reader)
