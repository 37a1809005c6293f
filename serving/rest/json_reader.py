"""Parses a body: by Python's parser in C where its result is RapidJSON's, else by our own."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from serving.errors import ServingError
from serving.rest.json_scanner import scan_json
from serving.rest.json_values import make_object, to_text

# Well below Python's own limit on recursion, which the C parser counts on and the caller uses too.
_MAX_RECURSION = 200

_DECODER = json.JSONDecoder(object_pairs_hook=make_object)
_START_OF_LIST_OR_OBJECT = re.compile(r"[ \t\n\r]*(?=[\[{])")
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
# Digits to "0" and "E" to "e", so that one search finds every exponent of three digits.
_FOLD_NUMBERS = bytes.maketrans(b"123456789E", b"000000000e")


def parse_json(body: bytes) -> Any:
    """Parses a body as TensorFlow Serving does, NaN, Infinity and -Infinity included.

    Args:
        body: JSON text; what follows its first value is ignored.

    Returns:
        The value as `json_values` describes it.

    Raises:
        ServingError: INVALID_ARGUMENT for an empty body or one that is no JSON.
    """
    if not body:
        raise ServingError("INVALID_ARGUMENT", "JSON Parse error: The document is empty")
    if _has_one_meaning(body):
        text = to_text(body)
        start = _START_OF_LIST_OR_OBJECT.match(text)
        if start is not None:
            try:
                return _DECODER.raw_decode(text, start.end())[0]
            except (ValueError, RecursionError):
                pass  # the scanner says in RapidJSON's words what is wrong, and where
    return scan_json(body)


def _has_one_meaning(body: bytes) -> bool:
    """Whether Python's parser gives RapidJSON's result if it gives one at all.

    Not so for numbers beyond a double, which Python makes infinite, for halves of surrogate pairs,
    which it accepts, and for deep nesting. False for some bodies without any of these is no harm.
    """
    # Base64 holds what looks like such numbers, so strings are left out where that is quick.
    escapes = b"\\" in body
    outside = body if escapes else b'""'.join(body.split(b'"')[::2])
    folded = outside.translate(_FOLD_NUMBERS, b"+")
    if b"e000" in folded or b"0" * 309 in folded:
        return False
    if escapes and (b"\\ud" in body or b"\\uD" in body):
        return False
    return outside.count(b"[") + outside.count(b"{") <= _MAX_RECURSION or _is_shallow(body)


def _is_shallow(body: bytes) -> bool:
    brackets = _STRINGS.sub(b"", body).translate(None, _NO_BRACKETS)
    opening = np.isin(np.frombuffer(brackets, np.uint8), list(b"[{"))
    steps = np.where(opening, np.int8(1), np.int8(-1))
    depth = np.cumsum(steps, dtype=np.int32)
    return depth.size == 0 or int(depth.max()) <= _MAX_RECURSION
