"""Who may use the server: a bearer token for all, and web pages of other origins."""

from __future__ import annotations

import base64
import binascii
import hmac
import json

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.settings import ServerSettings

REST_PREFIX = b"/v1/"
HEALTH_PATH = "/healthz"


def is_rest(raw_path: bytes) -> bool:
    """Whether a path belongs to TensorFlow Serving's REST API, whose paths ignore case."""
    return raw_path[: len(REST_PREFIX)].lower() == REST_PREFIX


class CorsHeaders:
    """ASGI middleware: says which web pages of other origins may read a reply.

    With Serving's ``--rest_api_enable_cors_support`` replies of the REST API have Serving's three
    headers, for everyone; ``--cors_origin`` allows single origins everything. Nobody is the
    default. Preflights of the REST API are Serving's and answered with it; those of the rest here.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._for_all = settings.enable_cors
        self._origins = frozenset(settings.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        rest = is_rest(scope["raw_path"])
        origin = Headers(scope=scope).get("origin", "")

        async def send_allowed(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._allow(MutableHeaders(scope=message), origin, rest)
            await send(message)

        if scope["method"] == "OPTIONS" and not rest and origin in self._origins:
            await send_allowed({"type": "http.response.start", "status": 204, "headers": []})
            await send_allowed({"type": "http.response.body", "body": b""})
            return None
        return await self._app(scope, receive, send_allowed)

    def _allow(self, headers: MutableHeaders, origin: str, rest: bool) -> None:
        if self._origins:
            headers.add_vary_header("Origin")
        if origin in self._origins:
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Allow-Methods"] = "POST, GET"
            headers["Access-Control-Allow-Headers"] = "Content-Type, Authorization"
        elif self._for_all and rest:
            headers["Access-Control-Allow-Origin"] = "*"
            headers["Access-Control-Allow-Methods"] = "POST, GET"
            headers["Access-Control-Allow-Headers"] = "Content-Type"


class BearerToken:
    """ASGI middleware: asks for the token, except at ``/healthz`` and in CORS preflights.

    Browsers cannot be told to send a bearer token with a page they open. Outside of the REST API
    the token may therefore come as the password of HTTP's basic authentication, for which they
    ask their user.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or scope["path"] == HEALTH_PATH or scope["method"] == "OPTIONS":
            return await self._app(scope, receive, send)
        rest = is_rest(scope["raw_path"])
        given = Headers(scope=scope).get("authorization", "")
        if token_matches(given, self._token, basic_too=not rest):
            return await self._app(scope, receive, send)
        message = "This server wants a token: send `Authorization: Bearer TOKEN`"
        scope["state"]["error"] = message
        content = json.dumps({"error": message}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            (b"www-authenticate", b"Bearer" if rest else b'Basic realm="esc_tf", charset="UTF-8"'),
        ]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": content})
        return None


def token_matches(authorization: str, token: str, basic_too: bool = False) -> bool:
    """Whether an ``Authorization`` header brings the token, in time that says nothing of it.

    >>> token_matches("Bearer abc", "abc"), token_matches("bearer abd", "abc")
    (True, False)
    """
    scheme, _, given = authorization.partition(" ")
    given = given.strip()
    if scheme.lower() == "basic" and basic_too:
        try:
            given = base64.b64decode(given, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())
