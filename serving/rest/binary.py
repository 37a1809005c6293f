"""Bytes in JSON: an object with the one name ``b64``."""

from __future__ import annotations

import binascii
from typing import Any

import pybase64

from serving.errors import ServingError
from serving.rest.json_text import describe
from serving.rest.json_values import list_members, to_bytes

BASE64_NAME = "b64"

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_WHITESPACE = b" \t\n\v\f\r"
_PADDING = b"=."


def is_base64_object(value: Any) -> bool:
    """Whether a JSON value stands for bytes: one member, named ``b64``, that is a string."""
    return (
        isinstance(value, dict)
        and len(list(list_members(value))) == 1
        and isinstance(value.get(BASE64_NAME), str)
    )


def decode_base64_object(value: Any) -> bytes:
    """Bytes that a JSON object stands for.

    Raises:
        ServingError: INVALID_ARGUMENT where it is no such object or no base64.
    """
    if not is_base64_object(value):
        raise ServingError(
            "INVALID_ARGUMENT",
            f"JSON Value: {describe(value)} not formatted correctly for base64 data",
        )
    return decode_base64(to_bytes(value[BASE64_NAME]))


def decode_base64(text: bytes) -> bytes:
    """Decodes base64 as `absl::Base64Unescape` does.

    White space is skipped anywhere; the padding may be left out but not be of another length, and
    may be written with dots; bits beyond the last byte are ignored.

    Raises:
        ServingError: INVALID_ARGUMENT where it is no base64.
    """
    try:
        return pybase64.b64decode(text, validate=True)  # many times as fast as what follows
    except ValueError:
        pass
    rest = text.translate(None, _ALPHABET)
    if rest.strip(_PADDING):  # besides padding there is white space, or what does not belong
        text = text.translate(None, _WHITESPACE)
        rest = rest.translate(None, _WHITESPACE)
    num_characters = len(text) - len(rest)
    missing = -num_characters % 4
    if (
        rest.strip(_PADDING)
        or not text.endswith(rest)
        or missing == 3
        or len(rest) not in (0, missing)
    ):
        raise ServingError("INVALID_ARGUMENT", "Unable to base64 decode")
    return binascii.a2b_base64(text[:num_characters] + b"=" * missing)
