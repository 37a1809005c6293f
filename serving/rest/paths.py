"""Which call a method and a path mean: predict, classify, regress, status or metadata."""

from __future__ import annotations

import dataclasses
import re
import urllib.parse
from typing import Literal, cast

from serving.errors import ServingError

Kind = Literal["predict", "classify", "regress", "status", "metadata"]

# Everything but the verb is compared without regard to case, as in TensorFlow Serving.
_VERSION_OR_LABEL = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(
    r"(?i)/v1/models/(?P<name>[^/:]+)" + _VERSION_OR_LABEL + r":(?P<verb>classify|regress|predict)"
)
_GET = re.compile(
    r"(?i)/v1/models(?:/(?P<name>[^/:]+))?" + _VERSION_OR_LABEL + r"(?:/(?P<part>metadata))?"
)

_LARGEST_VERSION = 2**63 - 1


@dataclasses.dataclass(frozen=True)
class Route:
    """One call of the API.

    Args:
        kind: what is asked for.
        model_name: the model, percent-decoded.
        version: the version in the path; None without one.
        label: the version label in the path, percent-decoded; None without one.
    """

    kind: Kind
    model_name: str
    version: int | None = None
    label: str | None = None


def parse_path(method: str, path: str) -> Route:
    """Reads the call from a request line.

    Args:
        method: HTTP method in capitals.
        path: path as it was sent: still percent-encoded, and with its ``?query`` if it has one,
            which belongs to the path here as it does for TensorFlow Serving.

    Raises:
        ServingError: INVALID_ARGUMENT for a path or method that means no call, a version beyond 64
            bits, or a path without a model.
    """
    malformed = ServingError("INVALID_ARGUMENT", f"Malformed request: {method} {path}")
    pattern = {"POST": _POST, "GET": _GET}.get(method)
    match = pattern.fullmatch(path) if pattern else None
    if match is None:
        raise malformed
    found = match.groupdict()
    version = _read_version(found["version"])
    if method == "POST":
        kind = found["verb"]
        if kind != kind.lower():
            raise malformed
    else:
        kind = "metadata" if found["part"] == "metadata" else "status"
        if found["name"] is None:
            raise ServingError("INVALID_ARGUMENT", "Missing model name in request.")
    label = found["label"]
    return Route(
        kind=cast(Kind, kind),
        model_name=_decode(found["name"]),
        version=version,
        label=None if label is None else _decode(label),
    )


def _read_version(digits: str | None) -> int | None:
    if digits is None:
        return None
    # Compared by length first: int() refuses thousands of digits with an error of its own.
    if len(digits.lstrip("0")) > len(str(_LARGEST_VERSION)) or int(digits) > _LARGEST_VERSION:
        raise ServingError("INVALID_ARGUMENT", f"Failed to convert version: {digits} to numeric.")
    return int(digits)


def _decode(text: str) -> str:
    return urllib.parse.unquote_to_bytes(text).decode("utf-8", "surrogateescape")
