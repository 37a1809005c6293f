"""Limits on what clients send: how much, how slowly, and how much of all of them together.

A body is refused by its ``Content-Length`` before a byte of it is read, or else as soon as it has
grown too long; what is refused is never held in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import ServingError
from serving.metrics import Metrics
from serving.settings import ServerSettings

#: A body may take the client timeout, and one second more for each so many bytes that have come.
MIN_BYTES_PER_S = 10_000
#: How long a refused body is read and thrown away, so that the client comes to read the answer.
LINGER_S = 10.0
#: Decompressed bodies up to this size may have any ratio to their compressed size.
_ALWAYS_DECOMPRESSED = 1 << 20
MAX_DECOMPRESSION_RATIO = 100
_PIECE = 1 << 20


class RefusedError(Exception):
    """A request that met a limit.

    Args:
        http_status: 408, 413 or 503.
        reason: one word for the metrics.
        message: what the client reads.
        retry_after_s: when to try again, if that may help.
    """

    def __init__(
        self, http_status: int, reason: str, message: str, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s


class PendingBytes:
    """Bytes of all requests under way; no more than a limit together."""

    def __init__(self, limit: int, retry_after_s: int = 1) -> None:
        self._limit = limit
        self._retry_after_s = retry_after_s
        self._lock = threading.Lock()
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes held now."""
        return self._held

    def hold(self, num_bytes: int) -> None:
        """Count bytes that have come.

        Raises:
            RefusedError: 503, there are too many.
        """
        with self._lock:
            if self._held + num_bytes > self._limit:
                raise RefusedError(
                    503,
                    "memory",
                    f"The requests under way hold {self._limit} bytes; try again soon",
                    self._retry_after_s,
                )
            self._held += num_bytes

    def release(self, num_bytes: int) -> None:
        """Count bytes that are gone."""
        with self._lock:
            self._held -= num_bytes


class RequestLimits:
    """ASGI middleware: 413 for too long a body, 408 for too slow a one, 503 for too many of them.

    Args:
        app: gets what passes.
        settings: the limits.
        pending: counts the bytes of all requests.
        metrics: counts refusals.
    """

    def __init__(
        self, app: ASGIApp, settings: ServerSettings, pending: PendingBytes, metrics: Metrics
    ) -> None:
        self._app = app
        self._settings = settings
        self._pending = pending
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        body = _LimitedBody(receive, self._settings, self._pending)
        headers = dict(scope["headers"])
        refusal: RefusedError | None = None
        replying = False

        async def send_and_note(message: Message) -> None:
            nonlocal replying
            replying = True
            await send(message)

        try:
            body.check_length(headers.get(b"content-length"))
            await self._app(scope, body.receive, send_and_note)
        except RefusedError as raised:
            self._metrics.count_refusal(raised.reason)
            if replying:
                raise
            # Its traceback holds what has come of the body.
            refusal = raised.with_traceback(None)
        finally:
            body.release()
        if refusal is not None:
            scope["state"]["error"] = refusal.message
            linger = refusal.http_status != 408 and b"expect" not in headers
            await _refuse(refusal, body.discard if linger else None, send)


class _LimitedBody:
    def __init__(self, receive: Receive, settings: ServerSettings, pending: PendingBytes) -> None:
        self._receive = receive
        self._settings = settings
        self._pending = pending
        self._started = time.monotonic()
        self._num_bytes = 0
        self._complete = False
        self._timer: asyncio.TimerHandle | None = None
        self._reader: asyncio.Task[object] | None = None
        self._is_late = False

    def check_length(self, content_length: bytes | None) -> None:
        if content_length is None or not content_length.isdigit():
            return
        if int(content_length) > self._settings.max_request_bytes:
            raise self._too_long()

    async def receive(self) -> Message:
        if self._complete:
            return await self._receive()
        message = await self._receive_in_time()
        if message["type"] == "http.request":
            if not message.get("more_body", False):
                self._complete = True
                if self._timer is not None:
                    self._timer.cancel()
            num_bytes = len(message.get("body", b""))
            if self._num_bytes + num_bytes > self._settings.max_request_bytes:
                raise self._too_long()
            self._pending.hold(num_bytes)
            self._num_bytes += num_bytes
        return message

    async def _receive_in_time(self) -> Message:
        self._reader = asyncio.current_task()
        if self._timer is None:
            self._watch()
        try:
            return await self._receive()
        except asyncio.CancelledError:
            if not self._is_late:
                raise
            if sys.version_info >= (3, 11) and self._reader is not None:
                self._reader.uncancel()
            raise RefusedError(408, "slow_client", "The request took too long to arrive") from None
        finally:
            self._reader = None

    def _watch(self) -> None:
        """Cancel the reader when its time is over; one timer for all pieces of a body."""
        allowed = self._settings.client_timeout_s + self._num_bytes / MIN_BYTES_PER_S
        left = self._started + allowed - time.monotonic()
        if left > 0:
            self._timer = asyncio.get_running_loop().call_later(left, self._watch)
        elif self._reader is not None:
            self._is_late = True
            self._reader.cancel()
        else:  # the piece that has come is being looked at; the next must be there
            self._timer = asyncio.get_running_loop().call_later(0.01, self._watch)

    async def discard(self) -> None:
        """Read the rest and throw it away, for some seconds."""

        async def read() -> None:
            while not self._complete:
                message = await self._receive()
                self._complete = not message.get("more_body", False)

        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(read(), LINGER_S)

    def release(self) -> None:
        """Count the body as gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._pending.release(self._num_bytes)
        self._num_bytes = 0

    def _too_long(self) -> RefusedError:
        return too_large(self._settings.max_request_bytes)


def too_large(limit: int) -> RefusedError:
    """The refusal of a request longer than ``limit`` bytes."""
    return RefusedError(413, "too_large", f"The request is longer than {limit} bytes")


async def _refuse(
    refusal: RefusedError, discard: Callable[[], Awaitable[None]] | None, send: Send
) -> None:
    content = json.dumps({"error": refusal.message}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
    ]
    if refusal.retry_after_s is not None:
        headers.append((b"retry-after", str(refusal.retry_after_s).encode()))
    status = refusal.http_status
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": True})
    # A connection closed while its client still writes would be reset, and the answer lost.
    if discard is not None:
        await discard()
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@contextlib.contextmanager
def decompressed(body: bytes, max_bytes: int, pending: PendingBytes) -> Iterator[bytes]:
    """Hold a gzip body decompressed.

    Args:
        body: as it came.
        max_bytes: what it may become.
        pending: counts what it becomes.

    Yields:
        The content.

    Raises:
        RefusedError: 413, it would become too long, or more than 100 times as long as it is and
            more than 1 MiB; 503, too much is held.
        ServingError: INVALID_ARGUMENT, it is no gzip.
    """
    limit = min(max_bytes, max(_ALWAYS_DECOMPRESSED, MAX_DECOMPRESSION_RATIO * len(body)))
    decompressor = zlib.decompressobj(16 + zlib.MAX_WBITS)
    pieces: list[bytes] = []
    num_bytes = 0
    rest = body
    try:
        while not decompressor.eof:
            try:
                piece = decompressor.decompress(rest, _PIECE)
            except zlib.error:
                piece = b""
            rest = decompressor.unconsumed_tail
            if not piece and not decompressor.eof:
                raise ServingError("INVALID_ARGUMENT", "Failed to uncompress the gzipped body")
            if num_bytes + len(piece) > limit:
                raise too_large(limit)
            pending.hold(len(piece))
            num_bytes += len(piece)
            pieces.append(piece)
        yield b"".join(pieces)
    finally:
        pending.release(num_bytes)
