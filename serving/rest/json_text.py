"""JSON text as RapidJSON's writers lay it out: strings, indented lists, and values in messages."""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Sequence
from typing import Any

from serving.rest.json_values import is_double, list_members, to_bytes

_INDENT = "    "
_MUST_BE_ESCAPED = re.compile(r'[\x00-\x1f"\\]')
_SHORT_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\f": "\\f",
    "\r": "\\r",
}

# A message shows a value until that many bytes are written, to the end of the word they fall in.
_MAX_MESSAGE_BYTES = 256
# Where that word is a long string, a clip in base64 say, TensorFlow Serving repeats it whole.
_MAX_STRING_CHARACTERS = 1024


def quote(text: str) -> str:
    """The JSON string of a text; only what JSON demands is escaped, the rest stays UTF-8."""
    return f'"{_MUST_BE_ESCAPED.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    return _SHORT_ESCAPES.get(character) or f"\\u{ord(character):04X}"


def indent(level: int) -> str:
    """A new line at a depth of lists and objects."""
    return "\n" + _INDENT * level


def join_list(texts: Sequence[str], level: int, single_line: bool) -> str:
    """A JSON list of values that are text already.

    Args:
        texts: the values.
        level: lists and objects around this list.
        single_line: values follow each other; else each has a line of its own.
    """
    if not texts:
        return "[]"
    if single_line:
        return f"[{', '.join(texts)}]"
    inner = indent(level + 1)
    return f"[{inner}{f',{inner}'.join(texts)}{indent(level)}]"


def join_object(members: Sequence[tuple[str, str]], level: int) -> str:
    """A JSON object of values that are text already, one line for each member.

    Args:
        members: names, unquoted, and values.
        level: lists and objects around this object.
    """
    inner = indent(level + 1)
    lines = f",{inner}".join(f"{quote(name)}: {text}" for name, text in members)
    return f"{{{inner}{lines}{indent(level)}}}"


def describe(value: Any) -> str:
    """A value as TensorFlow Serving's messages show it: lists on one line, cut when it gets long.

    Two things are cut that TensorFlow Serving writes: strings after 1,024 characters. As there, the
    text ends before the first number that is not finite.
    """
    writer = _MessageWriter()
    writer.write(value, level=0)
    return "".join(writer.parts)


class _MessageWriter:
    """Writes until the limit; each method says whether there is room for more."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.num_bytes = 0

    def put(self, text: str) -> bool:
        if self.num_bytes >= _MAX_MESSAGE_BYTES:
            return False
        self.parts.append(text)
        self.num_bytes += len(to_bytes(text))
        return True

    def write(self, value: Any, level: int, before: str = "") -> bool:
        if isinstance(value, list):
            return self.write_list(value, level, before)
        if isinstance(value, dict):
            return self.write_object(value, level, before)
        if is_double(value) and not math.isfinite(value):
            self.put(before)
            return False
        return self.put(before + _scalar_text(value))

    def write_list(self, value: list[Any], level: int, before: str) -> bool:
        if not self.put(before + "["):
            return False
        for index, item in enumerate(value):
            if not self.write(item, level + 1, ", " if index else ""):
                return False
        return self.put("]")

    def write_object(self, value: dict[str, Any], level: int, before: str) -> bool:
        if not self.put(before + "{"):
            return False
        for index, (name, item) in enumerate(list_members(value)):
            line = ("," if index else "") + indent(level + 1) + _string_text(name)
            if not self.put(line) or not self.write(item, level + 1, ": "):
                return False
        return self.put((indent(level) if value else "") + "}")


def _scalar_text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string_text(value)
    return double_text(float(value)) if is_double(value) else str(value)


def _string_text(text: str) -> str:
    return quote(text[:_MAX_STRING_CHARACTERS])


def double_text(value: float) -> str:
    """The shortest decimal that is this double, laid out as RapidJSON does: 1.0, 1e30, 0.00001."""
    sign, digits, exponent = decimal.Decimal(repr(value)).as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits)).rstrip("0")
    minus = "-" if sign else ""
    if not text:
        return minus + "0.0"
    point = len(digits) + exponent  # digits before the point
    if len(text) <= point <= 21:
        return f"{minus}{text.ljust(point, '0')}.0"
    if 0 < point <= 21:
        return f"{minus}{text[:point]}.{text[point:]}"
    if -6 < point <= 0:
        return f"{minus}0.{'0' * -point}{text}"
    fraction = f".{text[1:]}" if len(text) > 1 else ""
    return f"{minus}{text[0]}{fraction}e{point - 1}"
