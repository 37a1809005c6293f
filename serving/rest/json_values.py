"""JSON values in Python, where it differs from what RapidJSON holds.

A value is None, bool, int, float, str, list or dict, as Python's own parser gives it. Strings may
hold bytes that are no UTF-8, an object may hold a name twice, and a whole number that 64 bits
cannot hold is a double.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_LOWEST_INT64 = -(2**63)
_HIGHEST_UINT64 = 2**64 - 1


class RepeatedNames(dict[str, Any]):
    """An object in which a name stands twice: a look-up finds the first, as RapidJSON does.

    Args:
        pairs: every member, in order.
    """

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(reversed(pairs))
        self.pairs = pairs


def make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes a JSON object of its members.

    Args:
        pairs: name and value of every member, in order.
    """
    unique = dict(pairs)
    return unique if len(unique) == len(pairs) else RepeatedNames(pairs)


def list_members(value: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    """Name and value of every member in order, those with a repeated name included."""
    return value.pairs if isinstance(value, RepeatedNames) else value.items()


def to_text(data: bytes) -> str:
    """Text of bytes; those that are no UTF-8 survive, and `to_bytes` gives them back."""
    return data.decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    """The bytes that `to_text` made the text of."""
    return text.encode("utf-8", "surrogateescape")


def is_double(value: Any) -> bool:
    """Whether RapidJSON holds this number as a double: a fraction, an exponent, or over 64 bits."""
    if type(value) is int:
        return not _LOWEST_INT64 <= value <= _HIGHEST_UINT64
    return type(value) is float


def name_type(value: Any) -> str:
    """Name of a value's type as TensorFlow Serving's messages have it."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, dict):
        return "Object"
    if isinstance(value, list):
        return "Array"
    return "String" if isinstance(value, str) else "Number"
