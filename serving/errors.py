"""The one error that every part of the server raises, with its HTTP status.

The codes are gRPC's canonical ones by name, so that the REST dialect and the gRPC service answer
the same failure with the same code and the same words.
"""

from __future__ import annotations

import types
from collections.abc import Mapping

#: HTTP status of each canonical code. Source: TensorFlow Serving, `model_servers/http_server.cc`.
HTTP_STATUS: Mapping[str, int] = types.MappingProxyType(
    {
        "CANCELLED": 499,
        "UNKNOWN": 500,
        "INVALID_ARGUMENT": 400,
        "DEADLINE_EXCEEDED": 504,
        "NOT_FOUND": 404,
        "ALREADY_EXISTS": 409,
        "PERMISSION_DENIED": 403,
        "RESOURCE_EXHAUSTED": 429,
        "FAILED_PRECONDITION": 400,
        "ABORTED": 409,
        "OUT_OF_RANGE": 400,
        "UNIMPLEMENTED": 501,
        "INTERNAL": 500,
        "UNAVAILABLE": 503,
        "DATA_LOSS": 500,
        "UNAUTHENTICATED": 401,
    }
)


class ServingError(Exception):
    """A request that gets no result.

    Args:
        code: canonical gRPC code by name, such as ``INVALID_ARGUMENT``; one of ``HTTP_STATUS``.
        message: what the client reads, in TensorFlow Serving's words where it has any.
        retry_after_s: seconds after which the same request may succeed; None where that is not
            known.

    Raises:
        ValueError: when no such code exists.
    """

    def __init__(self, code: str, message: str, retry_after_s: int | None = None) -> None:
        if code not in HTTP_STATUS:
            raise ValueError(f"{code!r} is no canonical code; one of {', '.join(HTTP_STATUS)}")
        super().__init__(code, message, retry_after_s)
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message

    @property
    def http_status(self) -> int:
        """HTTP status that TensorFlow Serving answers for this code."""
        return HTTP_STATUS[self.code]
