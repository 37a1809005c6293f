"""The page's routes: its files under ``/`` and ``/page/``, and what its script asks for.

    GET  /page/models                         which models are served, and which it can use
    POST /page/analyse?model=NAME             a sound → JSON objects, one a line
    POST /page/features?model=NAME&start_s=S  a sound → its hidden features in one window

Both take ``version=N`` too; without it the newest one answers.

Sounds are the bodies of the requests as they are, of type ``application/octet-stream``: browsers
send that to a page of another origin only if it is allowed to, so that no foreign page can make a
server on loopback compute. No name in a request is ever a path.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import threading
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from importlib import resources
from typing import Any, Protocol

from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from serving.errors import ServingError
from serving.page.analysis import analyse
from serving.page.hearing import Listener, NotUsableError, RunsSignatures, explain_use
from serving.page.sound import PageLimits, UploadedSound, UploadError
from serving.settings import MIB, ServerSettings

UPLOAD_TYPE = "application/octet-stream"
_STREAM_TYPE = "application/x-ndjson"
_FILES = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "drawing.js": "text/javascript; charset=utf-8",
    "results.js": "text/javascript; charset=utf-8",
    "recorder.js": "text/javascript; charset=utf-8",
    "recorder_worklet.js": "text/javascript; charset=utf-8",
}
#: Sent with every reply of the page: nothing from elsewhere, nothing inline, in nobody's frame.
SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; media-src blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

_Endpoint = Callable[[Request], Awaitable[Response]]


class LeasesModels(Protocol):
    """What the page needs of the model manager."""

    @property
    def model_names(self) -> Sequence[str]:
        """Names of all models that are configured."""

    def lease(
        self, model_name: str, version: int | None = None, label: str | None = None
    ) -> contextlib.AbstractContextManager[Any]:
        """Hold a version of a model loaded."""

    def status(self, model_name: str, version: int | None, label: str | None) -> Sequence[Any]:
        """States of the model's versions."""


def page_routes(
    manager: LeasesModels, settings: ServerSettings, limits: PageLimits | None = None
) -> list[Route]:
    """Routes of the page.

    Who may use them, and how slowly a sound may come, is up to the application around them.

    Args:
        manager: lends the models.
        settings: the server's; ``max_request_bytes`` holds for sounds, too.
        limits: on sounds; None: the default ones.

    Returns:
        Routes for ``/`` and everything under ``/page/``.
    """
    limits = limits or PageLimits()
    most = min(limits.max_upload_bytes, settings.max_request_bytes)
    limits = dataclasses.replace(limits, max_upload_bytes=most)
    page = _Page(manager, limits, settings.retry_after_s)
    return [
        Route("/", _serve_file("index.html"), methods=["GET"]),
        *(
            Route(f"/page/{name}", _serve_file(name), methods=["GET"])
            for name in _FILES
            if name != "index.html"
        ),
        Route("/page/models", _answer_errors(page.list_models), methods=["GET"]),
        Route("/page/analyse", _answer_errors(page.analyse), methods=["POST"]),
        Route("/page/features", _answer_errors(page.find_features), methods=["POST"]),
    ]


class _RefusedError(Exception):
    """A request that is refused for a reason that only HTTP has a code for."""

    def __init__(self, http_status: int, message: str) -> None:
        super().__init__(message)
        self.http_status = http_status


class _LinesResponse(StreamingResponse):
    """Lines as they come; whatever ends the reply, the generator of the lines is closed."""

    def __init__(self, first: bytes, lines: Generator[bytes, None, None]) -> None:
        async def stream() -> AsyncIterator[bytes]:
            yield first
            async for line in iterate_in_threadpool(lines):
                yield line

        headers = {**SECURITY_HEADERS, **_NEVER_STORE}
        super().__init__(stream(), media_type=_STREAM_TYPE, headers=headers)
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Not left to the garbage collector, which may come late: a model is held by it.
            self._lines.close()


class _Page:
    def __init__(self, manager: LeasesModels, limits: PageLimits, retry_after_s: int) -> None:
        self._manager = manager
        self._limits = limits
        self._retry_after_s = retry_after_s
        self._slots = threading.BoundedSemaphore(limits.max_requests)

    async def list_models(self, request: Request) -> Response:
        models = await run_in_threadpool(self._describe_models)
        limits = {
            "max_upload_bytes": self._limits.max_upload_bytes,
            "max_duration_s": self._limits.max_duration_s,
        }
        return _reply({"models": models, "limits": limits})

    async def analyse(self, request: Request) -> Response:
        held = contextlib.ExitStack()
        try:
            sound, listener = await self._receive(request, held)
            lines = _write_lines(analyse(sound, listener), held)
            # The first line here, so that a sound that cannot be used is answered by its status.
            first = await run_in_threadpool(next, lines)
        except BaseException:
            held.close()
            raise

        return _LinesResponse(first, lines)

    async def find_features(self, request: Request) -> Response:
        start_s = _read_number(request, "start_s", float)
        with contextlib.ExitStack() as held:
            sound, listener = await self._receive(request, held)
            if not listener.has_features:
                raise NotUsableError("This model has no hidden features to show.")
            return _reply(await run_in_threadpool(listener.find_features, sound, start_s or 0.0))

    async def _receive(
        self, request: Request, held: contextlib.ExitStack
    ) -> tuple[UploadedSound, Listener]:
        """The sound and who hears it; what they hold is given back when ``held`` is closed."""
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != UPLOAD_TYPE:
            raise _RefusedError(415, f"Send the sound as {UPLOAD_TYPE}.")
        model_name = request.query_params.get("model", "")
        version = _read_number(request, "version", int)
        if not self._slots.acquire(blocking=False):
            raise ServingError(
                "UNAVAILABLE",
                "Other sounds are being analysed. Try again soon.",
                self._retry_after_s,
            )
        held.callback(self._slots.release)
        content = await self._read_body(request)

        def prepare() -> tuple[UploadedSound, Listener]:
            servable = held.enter_context(self._manager.lease(model_name, version))
            return UploadedSound(content, self._limits), Listener(servable)

        return await run_in_threadpool(prepare)

    async def _read_body(self, request: Request) -> bytes:
        most = self._limits.max_upload_bytes
        content, num_bytes = bytearray(), 0
        async for chunk in request.stream():
            num_bytes += len(chunk)
            # What is too long is still read, or the client would not come to read the answer.
            if num_bytes <= most:
                content += chunk
            else:
                content.clear()
        if num_bytes > most:
            raise _RefusedError(
                413, f"The file is larger than {most / MIB:g} MiB. Cut it or compress it first."
            )
        return bytes(content)

    def _describe_models(self) -> list[dict[str, Any]]:
        return [
            described
            for name in self._manager.model_names
            for described in self._describe_versions(name)
        ]

    def _describe_versions(self, name: str) -> Iterator[dict[str, Any]]:
        try:
            states = self._manager.status(name, None, None)
        except ServingError as error:
            yield {"name": name, "version": None, "usable": False, "reason": error.message}
            return
        available = sorted((s.version for s in states if s.state == "AVAILABLE"), reverse=True)
        for version in available:
            try:
                with self._manager.lease(name, version) as servable:
                    yield {"name": name, "version": version, **_describe_servable(servable)}
            except ServingError as error:  # unloaded meanwhile, or failing
                yield {"name": name, "version": version, "usable": False, "reason": error.message}
        if not available:
            problems = [state.error_message for state in states if state.error_message]
            reason = problems[0] if problems else "No version of it is loaded."
            yield {"name": name, "version": None, "usable": False, "reason": reason}


def _describe_servable(servable: RunsSignatures) -> dict[str, Any]:
    reason = explain_use(servable.signatures)
    if reason is not None:
        return {"usable": False, "reason": reason}
    listener = Listener(servable)
    return {
        "usable": True,
        "sample_rate_hz": listener.sample_rate_hz,
        "window_s": listener.window_s,
        "has_features": listener.has_features,
        "num_labels": None if listener.label_names is None else len(listener.label_names),
    }


def _write_lines(
    items: Iterator[Mapping[str, Any]], held: contextlib.ExitStack
) -> Generator[bytes, None, None]:
    """Each object as a line of JSON; what is held is given back at the end, however it comes.

    A failure behind the first line is told by a line of its own: the status has been sent by then.
    """
    with held:
        num_written = 0
        try:
            for item in items:
                yield _encode(item)
                num_written += 1
        except (UploadError, ServingError) as error:
            if not num_written:
                raise
            yield _encode({"kind": "error", "error": str(error)})


def _answer_errors(endpoint: _Endpoint) -> _Endpoint:
    @functools.wraps(endpoint)
    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ServingError as error:
            retry = error.retry_after_s
            headers = {} if retry is None else {"Retry-After": str(retry)}
            return _reply({"error": error.message}, error.http_status, headers)
        except (UploadError, NotUsableError) as error:
            return _reply({"error": str(error)}, 422)
        except _RefusedError as error:
            return _reply({"error": str(error)}, error.http_status)
        except ClientDisconnect:
            return _reply({"error": "The connection was closed."}, 400)

    return answer


_NEVER_STORE = {"Cache-Control": "no-store"}


def _reply(
    value: Mapping[str, Any], http_status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(
        _encode(value),
        http_status,
        {**SECURITY_HEADERS, **_NEVER_STORE, **(headers or {})},
        "application/json",
    )


def _encode(value: Mapping[str, Any]) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace") + b"\n"


def _read_number(request: Request, key: str, kind: type[int] | type[float]) -> Any:
    text = request.query_params.get(key)
    if text is None:
        return None
    try:
        number = kind(text)
        if abs(number) < 1 << 63:  # which NaN is not
            return number
    except (ValueError, OverflowError):
        pass
    raise _RefusedError(400, f"{key} must be a number.")


def _serve_file(name: str) -> _Endpoint:
    """An endpoint for one of the page's own files, which is read once."""
    content = resources.files("serving.page").joinpath(name).read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**SECURITY_HEADERS, "ETag": tag, "Cache-Control": "no-cache"}

    async def serve(request: Request) -> Response:
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=_FILES[name])

    return serve
