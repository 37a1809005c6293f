"""Which JSON values each TensorFlow type takes, and what they become."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from serving.errors import ServingError
from serving.rest.binary import decode_base64
from serving.rest.requests import parse_predict
from serving.rest.tensors import Array
from tests.serving.rest.specs import make_signatures

INT32_MAX, INT64_MAX = 2**31 - 1, 2**63 - 1

ACCEPTED: list[tuple[str, str, list[Any]]] = [
    ("FLOAT", "1, -2, 2.5, 1e3", [1, -2, 2.5, 1000]),
    ("FLOAT", "NaN, Infinity, -Infinity", [np.nan, np.inf, -np.inf]),
    ("FLOAT", "1435774380, 1435774380.0", [1435774336, 1435774336]),  # the nearest float
    ("FLOAT", "1.7e308, -1.7e308", [np.inf, -np.inf]),  # beyond a float
    ("FLOAT", "2.2e-308, 18446744073709551616", [0, 2.0**64]),
    ("FLOAT", "0.1", [np.float32(0.1)]),
    ("DOUBLE", "1, 0.1, 1e308, NaN", [1, 0.1, 1e308, np.nan]),
    ("DOUBLE", "9007199254740993", [9007199254740992]),
    ("INT8", "-128, 127, 0, -0", [-128, 127, 0, 0]),
    ("INT16", "-32768, 32767", [-32768, 32767]),
    ("INT32", f"{-INT32_MAX - 1}, {INT32_MAX}", [-INT32_MAX - 1, INT32_MAX]),
    ("INT64", f"{-INT64_MAX - 1}, {INT64_MAX}", [-INT64_MAX - 1, INT64_MAX]),
    ("UINT8", "0, 255", [0, 255]),
    ("UINT32", "0, 4294967295", [0, 2**32 - 1]),
    ("UINT64", "0, 18446744073709551615", [0, 2**64 - 1]),
    ("BOOL", "true, false", [True, False]),
    ("STRING", '"", "a"', [b"", b"a"]),
]
NUMPY_NAMES = {"FLOAT": "float32", "DOUBLE": "float64", "STRING": "object"}

REFUSED = [
    *[(dtype, value) for dtype in ("FLOAT", "DOUBLE") for value in ("true", "null", '"1"', "{}")],
    *[
        (dtype, value)
        for dtype in ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT32", "UINT64")
        for value in ("1.0", "1e2", "NaN", "true", "null", '"1"', "18446744073709551616")
    ],
    ("INT8", "128"),
    ("INT8", "-129"),
    ("UINT8", "256"),
    ("UINT8", "-1"),
    ("INT16", "32768"),
    ("INT32", "2147483648"),
    ("INT32", "-2147483649"),
    ("INT64", "9223372036854775808"),
    ("UINT32", "4294967296"),
    ("UINT32", "-1"),
    ("UINT64", "-1"),
    ("BOOL", "1"),
    ("BOOL", '"true"'),
    ("BOOL", "null"),
    ("STRING", "1"),
    ("STRING", "true"),
    ("STRING", "null"),
]
IN_MESSAGES = {
    "true": ("true", "True"),
    "null": ("null", "Null"),
    '"1"': ('"1"', "String"),
    '"true"': ('"true"', "String"),
    "{}": ("{}", "Object"),
    "1e2": ("100.0", "Number"),
    "NaN": ("", "Number"),
    "18446744073709551616": ("18446744073709552000.0", "Number"),
}


def read_column(dtype: str, values: str) -> Array:
    body = f'{{"inputs": [{values}]}}'.encode()
    return parse_predict(body, make_signatures(x=dtype)).inputs["x"]


@pytest.mark.parametrize(("dtype", "values", "expected"), ACCEPTED)
def test_accepted(dtype: str, values: str, expected: list[Any]) -> None:
    array = read_column(dtype, values)
    assert array.dtype == NUMPY_NAMES.get(dtype, dtype.lower())
    np.testing.assert_array_equal(array, np.array(expected, array.dtype))


@pytest.mark.parametrize(("dtype", "value"), REFUSED)
def test_refused(dtype: str, value: str) -> None:
    with pytest.raises(ServingError) as caught:
        read_column(dtype, value)
    shown, kind = IN_MESSAGES.get(value, (value, "Number"))
    assert caught.value.message == (
        f"JSON Value: {shown} Type: {kind} is not of expected type: {dtype.lower()}"
    )
    assert caught.value.http_status == 400


@pytest.mark.parametrize("dtype", ["HALF", "BFLOAT16", "UINT16", "COMPLEX64", "QINT8", "VARIANT"])
def test_types_that_json_has_no_values_for(dtype: str) -> None:
    message = f"Conversion of JSON Value: 1 to type: {dtype.lower()}"
    with pytest.raises(ServingError) as caught:
        read_column(dtype, "1")
    assert (caught.value.http_status, caught.value.message) == (501, message)
    with pytest.raises(ServingError) as caught:
        parse_predict(b'{"instances": [1]}', make_signatures(x=dtype))
    assert (caught.value.http_status, caught.value.message) == (
        400,
        f"Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: {message}",
    )
    with pytest.raises(ServingError, match=rf"JSON Value: \[\] to type: {dtype.lower()}"):
        read_column(dtype, "")


def test_every_float_survives_its_text() -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 20_000, np.uint32)
    numbers = bits.view(np.float32)
    numbers = numbers[np.isfinite(numbers)]
    array = read_column("FLOAT", ",".join(map(repr, numbers.tolist())))
    np.testing.assert_array_equal(array.view(np.uint32), numbers.view(np.uint32))


def test_a_long_clip_is_one_array() -> None:
    clip = np.random.default_rng(1).standard_normal(80_000).astype(np.float32)
    body = json.dumps({"instances": [clip.tolist()]}).encode()
    array = parse_predict(body, make_signatures(x="FLOAT")).inputs["x"]
    np.testing.assert_array_equal(array, clip[np.newaxis])


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", b""),
        ("aGk=", b"hi"),
        ("aGk", b"hi"),  # the padding may be left out
        ("aGk.", b"hi"),  # or be a dot
        ("aA==", b"h"),
        ("aA", b"h"),
        ("aA=.", b"h"),
        ("aGlo", b"hih"),
        (" aG\nlo\t", b"hih"),
        ("aA = =", b"h"),
        ("aB==", b"h"),  # bits after the last byte do not count
        ("+/+/", b"\xfb\xff\xbf"),
    ],
)
def test_base64(text: str, data: bytes) -> None:
    assert decode_base64(text.encode()) == data


@pytest.mark.parametrize(
    "text",
    ["a", "aGkaa", "=", "====", "aA=", "aGk==", "aGlo=", "a=Gk", "aGk=a", "-_-_", "aG?o", "é"],
)
def test_no_base64(text: str) -> None:
    with pytest.raises(ServingError) as caught:
        decode_base64(text.encode())
    assert caught.value.message == "Unable to base64 decode"
