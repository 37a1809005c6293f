"""Runs the HTTP and gRPC servers until a signal, and lets them end without losing a request.

The first SIGTERM or Ctrl-C starts the draining: ``/healthz`` turns 503, nothing new is taken, what
was accepted is answered. The second ends at once.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from esc_tf.errors import RequestError
from serving.envelope import Draining
from serving.http_server import HttpServer

if TYPE_CHECKING:
    import grpc
    from starlette.types import ASGIApp

_LOG = logging.getLogger(__name__)


def bind(host: str, port: int) -> socket.socket:
    """Take a TCP port; nobody can connect before the server listens.

    Raises:
        RequestError: it cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise RequestError(
            f"HTTP cannot listen on {host} port {port}: {error.strerror or error}; choose another "
            "with --rest_api_port or --host"
        ) from None
    return bound


def run_servers(
    app: ASGIApp,
    http_socket: socket.socket | None,
    grpc_server: grpc.Server | None,
    draining: Draining,
    *,
    client_timeout_s: float,
    drain_timeout_s: float,
    on_listening: Callable[[], object],
) -> bool:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        app: what answers over HTTP.
        http_socket: from ``bind``; None for no HTTP.
        grpc_server: bound; None for no gRPC.
        draining: is started by the signal.
        client_timeout_s: see ``HttpServer``.
        drain_timeout_s: for accepted requests to be answered after the signal.
        on_listening: is called once clients can connect.

    Returns:
        Whether everything that was accepted was answered.
    """
    servers = _Servers(http_socket, grpc_server, draining, drain_timeout_s)
    if http_socket is not None:
        servers.http = HttpServer(app, draining, client_timeout_s, drain_timeout_s, on_listening)
    return asyncio.run(servers.run(on_listening))


class _Servers:
    def __init__(
        self,
        http_socket: socket.socket | None,
        grpc_server: grpc.Server | None,
        draining: Draining,
        drain_timeout_s: float,
    ) -> None:
        self.http: HttpServer | None = None
        self._socket = http_socket
        self._grpc = grpc_server
        self._draining = draining
        self._drain_timeout_s = drain_timeout_s
        self._stopped: asyncio.Event
        self._grpc_ended: threading.Event | None = None
        self._hurried = False

    async def run(self, on_listening: Callable[[], object]) -> bool:
        self._stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            # A shell that starts us in the background may have told us to ignore Ctrl-C.
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._stop, number)
        if self._grpc is not None:
            self._grpc.start()
        if self.http is not None and self._socket is not None:
            await self.http.serve([self._socket])
        else:
            on_listening()
            await self._stopped.wait()
        if self._grpc_ended is not None:
            await loop.run_in_executor(None, self._grpc_ended.wait)
        num_lost = 0 if self.http is None else self.http.num_lost
        if num_lost:
            _LOG.error("%d requests were not answered in time", num_lost)
        return not num_lost and not self._hurried

    def _stop(self, number: int) -> None:
        if self._draining.started:
            _LOG.warning("second signal: ending at once")
            self._hurried = True
            if self.http is not None:
                self.http.stop_now()
            if self._grpc is not None:
                self._grpc_ended = self._grpc.stop(None)
            return
        name = signal.Signals(number).name
        _LOG.info("%s: answering what was accepted, taking nothing new", name)
        self._draining.started = True
        if self._grpc is not None:
            self._grpc_ended = self._grpc.stop(self._drain_timeout_s)
        if self.http is not None:
            self.http.stop()
        self._stopped.set()
