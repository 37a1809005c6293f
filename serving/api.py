"""TensorFlow Serving's REST API as an ASGI application: everything under ``/v1/``."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import time
from collections.abc import Mapping, Sequence

import numpy as np
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from serving.admission import ClientGoneError, WorkQueue
from serving.envelope import raw_target
from serving.errors import ServingError
from serving.limits import PendingBytes, decompressed
from serving.metrics import Metrics
from serving.models.manager import ModelManager
from serving.models.servable import Servable
from serving.rest import requests, responses
from serving.rest.paths import Route, parse_path
from serving.settings import ServerSettings

# Statuses and metadata are told by threads of their own, so that a server whose queue is full
# still says how it is.
_NUM_TELLING = 2
_MAX_TELLING_QUEUE = 1000


@dataclasses.dataclass
class Services:
    """What all requests share.

    Args:
        manager: lends the models.
        settings: limits.
        metrics: what is counted.
        pending: bytes of the requests under way.
        work: threads that run models.
        telling: threads that only tell what is known.
    """

    manager: ModelManager
    settings: ServerSettings
    metrics: Metrics
    pending: PendingBytes
    work: WorkQueue
    telling: WorkQueue

    @classmethod
    def build(cls, manager: ModelManager, settings: ServerSettings, metrics: Metrics) -> Services:
        """Make what the settings say."""
        pending = PendingBytes(settings.max_pending_bytes, settings.retry_after_s)
        work = WorkQueue(settings.num_threads, settings.max_queue, settings.retry_after_s)
        metrics.watch(
            "queue_length",
            "Requests that wait for a thread or for their batch.",
            lambda: work.waiting + manager.num_queued,
        )
        metrics.watch("running", "REST requests that have a thread.", lambda: work.running)
        metrics.watch("pending_bytes", "Bytes of the requests under way.", lambda: pending.held)
        telling = WorkQueue(_NUM_TELLING, _MAX_TELLING_QUEUE, settings.retry_after_s)
        return cls(manager, settings, metrics, pending, work, telling)

    def run(
        self,
        servable: Servable,
        api: str,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        deadline: float | None,
        outputs: Sequence[str] | None = None,
    ) -> dict[str, np.ndarray]:
        """Run a signature, and record how long that took; see ``Servable.run``."""
        started = time.monotonic()
        results = servable.run(signature_name, inputs, outputs, deadline)
        self.metrics.record_runtime(servable.model_name, api, time.monotonic() - started)
        return results

    def close(self) -> None:
        """Let the threads end."""
        self.work.close()
        self.telling.close()


class RestApi:
    """Answers requests of the REST API.

    Args:
        services: what all requests share.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        body = await _read_body(receive)
        if scope["method"] == "OPTIONS":
            return await self._preflight(scope, send)
        started = time.monotonic()
        call = _Call(self._services, scope)
        metrics = self._services.metrics
        headers = [(b"content-type", b"application/json")]
        try:
            content = await call.answer(body, started, receive)
        except ClientGoneError:
            metrics.count_request(call.model_name, "CANCELLED")
            return None
        except ServingError as error:
            metrics.count_request(call.model_name, error.code)
            scope["state"]["error"] = error.message
            if error.retry_after_s is not None:
                headers.append((b"retry-after", str(error.retry_after_s).encode()))
            content = responses.format_error(error)
            return await _reply(send, error.http_status, headers, content)
        metrics.count_request(call.model_name, "OK")
        metrics.record_latency(call.model_name, call.api, "REST", time.monotonic() - started)
        return await _reply(send, 200, headers, content)

    async def _preflight(self, scope: Scope, send: Send) -> None:
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        allowed = bool(origins) and re.search(rb"https?://", origins[0]) is not None
        self._services.metrics.count_request("", "OK" if allowed else "FAILED_PRECONDITION")
        await _reply(send, 200 if allowed else 400, [], b"")


class _Call:
    """One call of the API, from the request's target to the reply's body."""

    def __init__(self, services: Services, scope: Scope) -> None:
        self.model_name = ""
        self.api = ""  # as in the path; empty for status and metadata, as Serving counts them
        self._services = services
        self._scope = scope

    async def answer(self, body: bytes, started: float, receive: Receive) -> bytes:
        route = parse_path(self._scope["method"], raw_target(self._scope).decode("latin-1"))
        self.model_name = self._scope["state"]["model"] = route.model_name
        limit = self._services.settings.request_timeout_s
        deadline = None if limit is None else started + limit
        if route.kind in ("status", "metadata"):
            tell = functools.partial(self._tell, route)
            return await self._services.telling.run(tell, deadline)
        self.api = route.kind
        work = functools.partial(self._work, route, body, deadline)
        return await self._services.work.run(
            work, deadline, functools.partial(_wait_until_gone, receive)
        )

    def _tell(self, route: Route) -> bytes:
        manager = self._services.manager
        if route.kind == "status":
            return responses.format_status(
                manager.status(route.model_name, route.version, route.label)
            )
        with manager.lease(route.model_name, route.version, route.label) as servable:
            return responses.format_metadata(
                servable.model_name, servable.version, servable.signature_defs
            )

    def _work(self, route: Route, body: bytes, deadline: float | None) -> bytes:
        services = self._services
        with contextlib.ExitStack() as held:
            if any(
                name == b"content-encoding" and b"gzip" in value
                for name, value in self._scope["headers"]
            ):
                limit = services.settings.max_request_bytes
                body = held.enter_context(decompressed(body, limit, services.pending))
            return _WORK[route.kind](services, route, body, deadline)


def _predict(services: Services, route: Route, body: bytes, deadline: float | None) -> bytes:
    document = requests.read_document(body)  # before the model is looked for, as Serving does
    with services.manager.lease(route.model_name, route.version, route.label) as servable:
        call = requests.parse_predict(document, servable.signatures)
        outputs = services.run(servable, "predict", call.signature_name, call.inputs, deadline)
        specs = servable.signatures[call.signature_name].outputs
        return responses.format_predict(outputs, specs, call.row_format)


def _classify(services: Services, route: Route, body: bytes, deadline: float | None) -> bytes:
    examples = requests.read_examples(body)
    with services.manager.lease(route.model_name, route.version, route.label) as servable:
        call = requests.parse_classify(examples, servable.signatures)
        outputs = services.run(servable, "classify", call.signature_name, call.inputs, deadline)
        specs = servable.signatures[call.signature_name].outputs
        return responses.format_classify(outputs, specs, len(call.examples))


def _regress(services: Services, route: Route, body: bytes, deadline: float | None) -> bytes:
    examples = requests.read_examples(body)
    with services.manager.lease(route.model_name, route.version, route.label) as servable:
        call = requests.parse_regress(examples, servable.signatures)
        outputs = services.run(servable, "regress", call.signature_name, call.inputs, deadline)
        specs = servable.signatures[call.signature_name].outputs
        return responses.format_regress(outputs, specs, len(call.examples))


_WORK = {"predict": _predict, "classify": _classify, "regress": _regress}


async def _read_body(receive: Receive) -> bytes:
    """The whole body.

    Raises:
        ClientDisconnect: it will not come.
    """
    pieces = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces)


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _reply(
    send: Send, status: int, headers: list[tuple[bytes, bytes]], content: bytes
) -> None:
    headers = [*headers, (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
