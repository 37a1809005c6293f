"""A JSON parser without recursion that accepts and refuses what RapidJSON 1.1.0 does.

Python's own parser, which `json_reader` uses wherever it gives the same result, does not say
RapidJSON's words and gives up at some hundred levels. This one holds its stack in a list. Flags, as
TensorFlow Serving sets them: iterative, NaN and Inf, stop when done.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from serving.errors import ServingError
from serving.rest.json_values import make_object, to_text

#: Levels of lists and objects that are read. TensorFlow Serving sets no limit; one level costs this
#: parser about 100 bytes of memory, so that without a limit a body would take a hundredfold.
MAX_NESTING = 1_000_000

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WHITESPACE = re.compile(rb"[ \t\n\r]*")
_PLAIN_CHARACTERS = re.compile(rb'[^"\\\x00-\x1f]*')
_INTEGER_PART = re.compile(rb"-?(?:0|[1-9][0-9]*)")
_DIGITS = re.compile(rb"[0-9]+")
# Items of a list that are plain numbers, each with the comma after it, read a thousand at a time:
# long lists of numbers are what bodies are made of. None of these is too big for a double.
_NUMBERS = re.compile(
    rb"(?:-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?"
    rb"[ \t\n\r]*,[ \t\n\r]*){1,1000}"
)
_FOUR_HEX_DIGITS = re.compile(rb"[0-9A-Fa-f]{4}")

_ESCAPES = {
    b'"': b'"',
    b"\\": b"\\",
    b"/": b"/",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
}
_LITERALS: dict[bytes, tuple[bytes, bool | None]] = {
    b"n": (b"null", None),
    b"t": (b"true", True),
    b"f": (b"false", False),
}

_INVALID_VALUE = "Invalid value."
_MISSING_NAME = "Missing a name for object member."
_MISSING_COLON = "Missing a colon after a name of object member."
_MISSING_AFTER_MEMBER = "Missing a comma or '}' after an object member."
_MISSING_AFTER_ELEMENT = "Missing a comma or ']' after an array element."
_EMPTY = "The document is empty."
_TOO_BIG = "Number too big to be stored in double."

# Where an integer of 309 digits stops fitting a double, tested before its last digit is added.
_LARGEST_BEFORE_LAST_DIGIT = 1.7976931348623157e307
_LARGEST_EXPONENT = 308
_MOST_DIGITS = 309


def raise_parse_error(problem: str, offset: int) -> NoReturn:
    """Raises what TensorFlow Serving answers for a body that is no JSON.

    Args:
        problem: RapidJSON's sentence.
        offset: byte in the body where it was noticed.

    Raises:
        ServingError: INVALID_ARGUMENT, always.
    """
    raise ServingError("INVALID_ARGUMENT", f"JSON Parse error: {problem} at offset: {offset}")


def scan_json(body: bytes) -> Any:
    """Reads the first JSON value of a body; what follows it is ignored.

    Args:
        body: the JSON text, with or without a byte order mark; strings may hold any bytes.

    Returns:
        None, bool, int, float, str, list or dict; objects as by `json_values.make_object`, strings
        as by `json_values.to_text`.

    Raises:
        ServingError: INVALID_ARGUMENT with RapidJSON's sentence and the offset in bytes.
    """
    return _Scanner(body).scan()


def _join_members(names: list[str], values: list[Any]) -> dict[str, Any]:
    return make_object(list(zip(names, values, strict=True)))


class _Scanner:
    def __init__(self, body: bytes) -> None:
        # RapidJSON takes a zero byte for the end, wherever it is, and so ends a string there.
        self.body = body.split(b"\0", 1)[0]
        self.at = 0

    def scan(self) -> Any:
        for byte in _BYTE_ORDER_MARK:
            if self.body[self.at : self.at + 1] == bytes([byte]):
                self.at += 1
        self._skip_whitespace()
        if self._peek() in (b"", b"]", b"}", b",", b":"):
            raise_parse_error(_EMPTY, self.at)
        # Each open list or object: its items, and None or the names of its members so far.
        items: list[Any] = []
        names: list[str] | None = None
        outer: list[tuple[list[Any], list[str] | None]] = []
        while True:
            # Here a value has to begin.
            if names is None and outer:
                self._read_numbers(items)
            token = self._peek()
            value: Any
            if token in (b"[", b"{"):
                self.at += 1
                if len(outer) == MAX_NESTING:
                    raise_parse_error(f"Nested deeper than {MAX_NESTING} levels.", self.at)
                outer.append((items, names))
                items, names = [], None if token == b"[" else []
                self._skip_whitespace()
                if not self._closes(names):
                    if names is not None:
                        self._read_name(names)
                    continue
                value = [] if names is None else {}
                items, names = outer.pop()
            else:
                value = self._read_scalar(token)
            # Here a value is complete: it ends any number of lists and objects, or another follows.
            while True:
                if not outer:
                    return value
                items.append(value)
                self._skip_whitespace()
                if self._peek() == b",":
                    self._read_comma(names)
                    break
                if not self._closes(names):
                    raise_parse_error(
                        _MISSING_AFTER_ELEMENT if names is None else _MISSING_AFTER_MEMBER, self.at
                    )
                value = items if names is None else _join_members(names, items)
                items, names = outer.pop()

    def _peek(self) -> bytes:
        return self.body[self.at : self.at + 1]

    def _skip_whitespace(self) -> None:
        match = _WHITESPACE.match(self.body, self.at)
        assert match is not None
        self.at = match.end()

    def _closes(self, names: list[str] | None) -> bool:
        if self._peek() != (b"]" if names is None else b"}"):
            return False
        self.at += 1
        return True

    def _read_comma(self, names: list[str] | None) -> None:
        self.at += 1
        self._skip_whitespace()
        if names is not None:
            self._read_name(names)

    def _read_name(self, names: list[str]) -> None:
        if self._peek() != b'"':
            raise_parse_error(_MISSING_NAME, self.at)
        names.append(self._read_string())
        self._skip_whitespace()
        if self._peek() != b":":
            raise_parse_error(_MISSING_COLON, self.at)
        self.at += 1
        self._skip_whitespace()

    def _read_scalar(self, token: bytes) -> Any:
        if token == b'"':
            return self._read_string()
        if token in _LITERALS:
            text, value = _LITERALS[token]
            self._expect(text)
            return value
        return self._read_number()

    def _expect(self, text: bytes) -> None:
        """Moves past ``text``, or to the first byte that differs from it, which is an error."""
        for byte in text:
            if self._peek() != bytes([byte]):
                raise_parse_error(_INVALID_VALUE, self.at)
            self.at += 1

    def _read_numbers(self, items: list[Any]) -> None:
        while match := _NUMBERS.match(self.body, self.at):
            items.extend(json.loads(b"[%b]" % match.group().rstrip()[:-1]))
            self.at = match.end()

    def _read_number(self) -> int | float:
        start = self.at
        match = _INTEGER_PART.match(self.body, start)
        if match is None:
            return self._read_token_number()
        self.at = match.end()
        digits = match.group().lstrip(b"-")
        if len(digits) > _MOST_DIGITS or (
            len(digits) == _MOST_DIGITS and float(digits[:-1]) >= _LARGEST_BEFORE_LAST_DIGIT
        ):
            raise_parse_error(_TOO_BIG, start)
        is_whole = True
        fraction_digits = 0
        if self._peek() == b".":
            is_whole = False
            self.at += 1
            fraction_digits = self._read_digits("Miss fraction part in number.")
        if self._peek() in (b"e", b"E"):
            is_whole = False
            self.at += 1
            sign = self._peek()
            if sign in (b"+", b"-"):
                self.at += 1
            exponent_at = self.at
            self._read_digits("Miss exponent in number.")
            exponent = self.body[exponent_at : self.at].lstrip(b"0")
            if sign != b"-" and (
                len(exponent) > 6 or int(exponent or b"0") > _LARGEST_EXPONENT + fraction_digits
            ):
                raise_parse_error(_TOO_BIG, start)
        text = self.body[start : self.at]
        return int(text) if is_whole else float(text)

    def _read_digits(self, problem: str) -> int:
        match = _DIGITS.match(self.body, self.at)
        if match is None:
            raise_parse_error(problem, self.at)
        self.at = match.end()
        return len(match.group())

    def _read_token_number(self) -> float:
        is_negative = self._peek() == b"-"
        if is_negative:
            self.at += 1
        if self._peek() == b"N":
            self._expect(b"NaN")
            return float("nan")
        self._expect(b"Inf")
        if self._peek() == b"i":
            self._expect(b"inity")
        return float("-inf") if is_negative else float("inf")

    def _read_string(self) -> str:
        self.at += 1
        parts: list[bytes] = []
        while True:
            match = _PLAIN_CHARACTERS.match(self.body, self.at)
            assert match is not None
            parts.append(match.group())
            self.at = match.end()
            stop = self._peek()
            if stop == b'"':
                self.at += 1
                return to_text(b"".join(parts))
            if stop == b"":
                raise_parse_error("Missing a closing quotation mark in string.", self.at)
            if stop != b"\\":
                raise_parse_error("Invalid escape character in string.", self.at)
            parts.append(self._read_escape())

    def _read_escape(self) -> bytes:
        start = self.at
        self.at += 2
        letter = self.body[start + 1 : self.at]
        if letter in _ESCAPES:
            return _ESCAPES[letter]
        if letter != b"u":
            raise_parse_error("Invalid escape character in string.", start)
        code_point = self._read_hex(start)
        if 0xD800 <= code_point <= 0xDBFF:
            if self.body[self.at : self.at + 2] != b"\\u":
                raise_parse_error("The surrogate pair in string is invalid.", start)
            self.at += 2
            low = self._read_hex(start)
            if not 0xDC00 <= low <= 0xDFFF:
                raise_parse_error("The surrogate pair in string is invalid.", start)
            code_point = ((code_point - 0xD800) << 10 | (low - 0xDC00)) + 0x10000
        return chr(code_point).encode("utf-8", "surrogatepass")

    def _read_hex(self, escape_at: int) -> int:
        match = _FOUR_HEX_DIGITS.match(self.body, self.at)
        if match is None:
            raise_parse_error("Incorrect hex digit after \\u escape in string.", escape_at)
        self.at = match.end()
        return int(match.group(), 16)
