"""The server's HTTP side as one ASGI application."""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from serving import metrics
from serving.access_log import AccessLog
from serving.api import RestApi, Services
from serving.envelope import Draining, Envelope, raw_target
from serving.limits import RequestLimits
from serving.page_api import page_routes
from serving.security import HEALTH_PATH, BearerToken, CorsHeaders, is_rest


def create_app(services: Services, log: AccessLog, draining: Draining) -> Starlette:
    """Make the application.

    Args:
        services: models, limits and threads.
        log: the access log.
        draining: tells when the server is about to stop.

    Returns:
        ``/v1/…`` as TensorFlow Serving has it, ``/healthz``, the metrics, and the web page.
    """
    settings = services.settings
    routes: list[BaseRoute] = [Route(HEALTH_PATH, _tell_health(services, draining))]
    if settings.metrics_path is not None:
        routes.append(Route(settings.metrics_path, _tell_metrics(services)))
    routes += page_routes(services.manager, settings)
    middleware = [
        Middleware(Envelope, log=log, draining=draining),
        Middleware(CorsHeaders, settings=settings),
    ]
    if settings.auth_token is not None:
        middleware.append(Middleware(BearerToken, token=settings.auth_token))
    middleware.append(
        Middleware(
            RequestLimits, settings=settings, pending=services.pending, metrics=services.metrics
        )
    )
    app = Starlette(
        routes=routes,
        middleware=middleware,
        exception_handlers={HTTPException: _answer_http_error},
    )
    # Not a route, since routes see the decoded path, in which a model's name may hold anything.
    app.router.default = _Rest(RestApi(services))
    return app


def _tell_health(services: Services, draining: Draining) -> Callable[[Request], Response]:
    def tell(request: Request) -> Response:
        ready = services.manager.is_ready()
        status = "draining" if draining.started else "ok" if ready else "loading"
        return JSONResponse({"status": status}, 200 if status == "ok" else 503)

    return tell


def _tell_metrics(services: Services) -> Callable[[Request], Response]:
    def tell(request: Request) -> Response:
        return Response(services.metrics.render(), headers={"content-type": metrics.CONTENT_TYPE})

    return tell


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


class _Rest:
    """TensorFlow Serving's part, and 404 for what belongs to nobody."""

    def __init__(self, api: RestApi) -> None:
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_rest(scope["raw_path"]):
            return await self._api(scope, receive, send)
        target = raw_target(scope).decode("latin-1")
        answer = JSONResponse({"error": f"Not Found: {scope['method']} {target}"}, 404)
        return await answer(scope, receive, send)
