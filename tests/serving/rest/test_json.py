"""JSON as RapidJSON 1.1.0 reads it with TensorFlow Serving's flags.

The expected sentences and offsets were checked against that library, compiled.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from serving.errors import ServingError
from serving.rest.json_reader import parse_json
from serving.rest.json_scanner import MAX_NESTING, scan_json
from serving.rest.json_text import describe, double_text, quote
from serving.rest.json_values import to_bytes

Parser = Callable[[bytes], Any]
PARSERS = pytest.mark.parametrize("parse", [parse_json, scan_json])

EMPTY = "The document is empty."
INVALID = "Invalid value."
NO_NAME = "Missing a name for object member."
NO_COLON = "Missing a colon after a name of object member."
NO_COMMA_IN_OBJECT = "Missing a comma or '}' after an object member."
NO_COMMA_IN_LIST = "Missing a comma or ']' after an array element."
TOO_BIG = "Number too big to be stored in double."
NO_FRACTION = "Miss fraction part in number."
NO_EXPONENT = "Miss exponent in number."
NO_QUOTE = "Missing a closing quotation mark in string."
BAD_ESCAPE = "Invalid escape character in string."
BAD_HEX = "Incorrect hex digit after \\u escape in string."
BAD_PAIR = "The surrogate pair in string is invalid."

REFUSED = [
    (b"  ", EMPTY, 2),
    (b"\0", EMPTY, 0),
    (b"\xef\xbb\xbf", EMPTY, 3),
    (b"]", EMPTY, 0),
    (b" }", EMPTY, 1),
    (b",", EMPTY, 0),
    (b":", EMPTY, 0),
    (b"instances = [1, 2]", INVALID, 0),
    (b"\x01", INVALID, 0),
    (b"\xff", INVALID, 0),
    (b"'a'", INVALID, 0),
    (b"nul", INVALID, 3),
    (b"[trux]", INVALID, 4),
    (b"[fals", INVALID, 5),
    (b"[None]", INVALID, 2),
    (b"[Infinite]", INVALID, 8),
    (b"[-", INVALID, 2),
    (b"[+1]", INVALID, 1),
    (b"[.5]", INVALID, 1),
    (b"[", INVALID, 1),
    (b"[1,", INVALID, 3),
    (b"[1,]", INVALID, 3),
    (b"[,1]", INVALID, 1),
    (b"[}", INVALID, 1),
    (b'{"a":', INVALID, 5),
    (b'{"a":}', INVALID, 5),
    (b"[01]", NO_COMMA_IN_LIST, 2),
    (b"[1 2]", NO_COMMA_IN_LIST, 3),
    (b"[1", NO_COMMA_IN_LIST, 2),
    (b"[[1], [2]", NO_COMMA_IN_LIST, 9),
    (b"[1}", NO_COMMA_IN_LIST, 2),
    (b"[0x1]", NO_COMMA_IN_LIST, 2),
    (b"[1_000]", NO_COMMA_IN_LIST, 2),
    (b"{", NO_NAME, 1),
    (b"{1:2}", NO_NAME, 1),
    (b'{"a":1,', NO_NAME, 7),
    (b'{"a":1,}', NO_NAME, 7),
    (b'{"a" 1}', NO_COLON, 5),
    (b'{"a"', NO_COLON, 4),
    (b'{"a":1', NO_COMMA_IN_OBJECT, 6),
    (b'{"a":1 "b":2}', NO_COMMA_IN_OBJECT, 7),
    (b'{"a":1]', NO_COMMA_IN_OBJECT, 6),
    (b"[1.]", NO_FRACTION, 3),
    (b"[1.e5]", NO_FRACTION, 3),
    (b"[1e]", NO_EXPONENT, 3),
    (b"[1e+]", NO_EXPONENT, 4),
    (b"[ 1e309]", TOO_BIG, 2),
    (b"[1e0000400]", TOO_BIG, 1),
    (b"[-1E+309]", TOO_BIG, 1),
    (b"[0e400]", TOO_BIG, 1),
    (b"[" + b"9" * 310 + b"]", TOO_BIG, 1),
    (b"[" + b"9" * 5000 + b"]", TOO_BIG, 1),
    (b'["abc', NO_QUOTE, 5),
    (b'["a\0"]', NO_QUOTE, 3),
    (b'["a\n"]', BAD_ESCAPE, 3),
    (b'["a\\x"]', BAD_ESCAPE, 3),
    (b'["\\', BAD_ESCAPE, 2),
    (b'["a\\u12g4"]', BAD_HEX, 3),
    (b'["\\ud83d"]', BAD_PAIR, 2),
    (b'["\\ud83d\\u0041"]', BAD_PAIR, 2),
    (b'["\\uD83D\\n"]', BAD_PAIR, 2),
]


@PARSERS
@pytest.mark.parametrize(("body", "problem", "offset"), REFUSED)
def test_refused(parse: Parser, body: bytes, problem: str, offset: int) -> None:
    with pytest.raises(ServingError) as caught:
        parse(body)
    assert caught.value.message == f"JSON Parse error: {problem} at offset: {offset}"
    assert caught.value.code == "INVALID_ARGUMENT"


def test_an_empty_body_has_no_offset() -> None:
    with pytest.raises(ServingError) as caught:
        parse_json(b"")
    assert caught.value.message == "JSON Parse error: The document is empty"


ACCEPTED = [
    (b"[NaN]", [math.nan]),
    (b"[-NaN]", [math.nan]),
    (b"[Infinity, -Infinity, Inf, -Inf]", [math.inf, -math.inf, math.inf, -math.inf]),
    (b"[1, -1, 0, -0, 1.5, 1e2, 1E-2]", [1, -1, 0, 0, 1.5, 100.0, 0.01]),
    (b"[1e308, 1e-400, 0.001e311]", [1e308, 0.0, 0.001e311]),
    (b"[9e308]", [math.inf]),  # no error up to this exponent, as in RapidJSON
    (b"[18446744073709551615]", [2**64 - 1]),
    (b"[true, false, null]", [True, False, None]),
    (b' \t\r\n{ "a" : [ ] , "b" : { } } ', {"a": [], "b": {}}),
    # a byte order mark is skipped, and so is each of its bytes alone
    (b"\xef\xbb\xbf[1]", [1]),
    (b"\xbb[1]", [1]),
    # what follows the first value does not count
    (b"[1]]", [1]),
    (b"[1] garbage", [1]),
    (b'{"a": 1}{"a": 2}', {"a": 1}),
    (b"[1]\0[2]", [1]),
    # strings
    (b'["\\n\\t\\r\\b\\f\\/\\\\\\""]', ['\n\t\r\b\f/\\"']),
    (b'["\\u00e9\xc3\xa9"]', ["éé"]),
    (b'["\\ud83d\\ude00"]', ["\U0001f600"]),
    (b'["\\u0000\x7f"]', ["\0\x7f"]),
]


@PARSERS
@pytest.mark.parametrize(("body", "value"), ACCEPTED)
def test_accepted(parse: Parser, body: bytes, value: Any) -> None:
    got = parse(body)
    assert repr(got) == repr(value)  # tells 1 from 1.0 and True, and NaN equals NaN


@PARSERS
@pytest.mark.parametrize("data", [b"\xff\xfe", b"\xed\xa0\x80", b"caf\xe9", b"\xc3"])
def test_bytes_that_are_no_utf8_survive(parse: Parser, data: bytes) -> None:
    assert to_bytes(parse(b'["' + data + b'"]')[0]) == data


@PARSERS
def test_the_lower_half_of_a_surrogate_pair_alone_is_three_bytes(parse: Parser) -> None:
    assert to_bytes(parse(b'["\\ude00"]')[0]) == b"\xed\xb8\x80"


@PARSERS
def test_long_lists_of_numbers(parse: Parser) -> None:
    texts = ["0", "-0", "17", "-1.5", "2e3", "1E-2", "9" * 18, "9" * 19, "1e-300", "0.1"] * 500
    for separator in (",", " ,\n"):
        body = f"[{separator.join(texts)}]"
        assert repr(parse(body.encode())) == repr(json.loads(body))
        for wrong, problem in (("01", NO_COMMA_IN_LIST), ("1.", NO_FRACTION), ("1e309", TOO_BIG)):
            with pytest.raises(ServingError) as caught:
                parse(f"[{separator.join(texts)}{separator}{wrong}]".encode())
            assert problem in caught.value.message


@PARSERS
def test_of_a_repeated_name_the_first_counts(parse: Parser) -> None:
    value = parse(b'{"a": 1, "b": 2, "a": 3}')
    assert value["a"] == 1
    assert describe(value) == '{\n    "a": 1,\n    "b": 2,\n    "a": 3\n}'


@PARSERS
@pytest.mark.parametrize("levels", [100, 150, 250, 1000, 100_000])
def test_deep_nesting(parse: Parser, levels: int) -> None:
    value = parse(b"[" * levels + b"]" * levels)
    depth = 1
    while value:
        (value,) = value
        depth += 1
    assert depth == levels


@PARSERS
def test_deep_objects(parse: Parser) -> None:
    value = parse(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)
    for _ in range(100_000):
        value = value["a"]
    assert value == 1


@PARSERS
def test_deep_nesting_that_is_never_closed(parse: Parser) -> None:
    with pytest.raises(ServingError, match="Invalid value. at offset: 100000"):
        parse(b"[" * 100_000)


def test_the_limit_on_nesting() -> None:
    with pytest.raises(ServingError, match="Nested deeper than 1000000 levels. at offset: 1000001"):
        parse_json(b"[" * (MAX_NESTING + 5))


def test_brackets_in_strings_are_no_nesting() -> None:
    text = "[{" * 1000 + '\\"'
    assert parse_json(json.dumps([text, [[1]]]).encode()) == [text, [[1]]]
    assert parse_json(json.dumps([[[i]] for i in range(500)]).encode())[-1] == [[499]]


def make_value(rng: random.Random, depth: int = 0) -> Any:
    scalars = [0, -7, 2**40, 2**70, 1.5, -2.5e-9, True, False, None, "", 'é\n"', "x" * 40]
    if depth > 3 or rng.random() < 0.5:
        return rng.choice(scalars)
    items = [make_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return items if rng.random() < 0.5 else {f"k{i}": item for i, item in enumerate(items)}


def outcome(parse: Parser, body: bytes) -> str:
    try:
        return repr(parse(body))
    except ServingError as error:
        return error.message


def test_the_two_parsers_agree_on_mutated_bodies() -> None:
    rng = random.Random(5)
    pieces = [b",", b"]", b"}", b"[", b"{", b":", b'"', b"\\", b"\0", b"e", b"-", b".", b"1e999"]
    refused = 0
    for _ in range(4000):
        body = bytearray(json.dumps([make_value(rng)], ensure_ascii=rng.random() < 0.5).encode())
        for _ in range(rng.randrange(3)):
            place = rng.randrange(len(body))
            body[place : place + rng.randrange(2)] = rng.choice(pieces)
        first, second = (outcome(parse, bytes(body)) for parse in (parse_json, scan_json))
        assert first == second, bytes(body)
        refused += first.startswith("JSON Parse error")
    assert 1000 < refused < 3000  # both kinds are there to agree on


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (0.1, "0.1"),
        (1e20, "100000000000000000000.0"),
        (1e21, "1e21"),
        (1.5e22, "1.5e22"),
        (1e-5, "0.00001"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (1.25e-9, "1.25e-9"),
        (123456.789, "123456.789"),
        (5e-324, "5e-324"),
    ],
)
def test_doubles_in_messages(value: float, text: str) -> None:
    assert double_text(value) == text
    assert float(text) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1, [2.5, "a"], None, True], '[1, [2.5, "a"], null, true]'),
        ({}, "{}"),
        ({"a": {"b": [1]}}, '{\n    "a": {\n        "b": [1]\n    }\n}'),
        (2**64, "18446744073709552000.0"),
        ([1.0, math.nan, 2.0], "[1.0, "),  # nothing is written from there on
        (math.inf, ""),
    ],
)
def test_values_in_messages(value: Any, text: str) -> None:
    assert describe(value) == text


def test_long_values_in_messages_are_cut() -> None:
    assert describe(list(range(1000))) == "[" + ", ".join(map(str, range(67)))  # 257 bytes
    assert len(describe(["x" * 10_000])) == 1024 + 3
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    assert describe(deep) == "[" * 256


def test_only_what_must_be_is_escaped() -> None:
    assert quote('é/\x7f"\\\b\f\n\r\t\x01\x1f') == '"é/\x7f\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001F"'
