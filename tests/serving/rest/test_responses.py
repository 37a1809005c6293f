"""Bodies of replies to ``:predict``, to the byte.

The layouts were checked against RapidJSON's own PrettyWriter, compiled.
"""

from __future__ import annotations

import json
import textwrap
from typing import Any

import numpy as np
import pytest

from serving.errors import ServingError
from serving.rest.decimals import format_decimals
from serving.rest.responses import format_error, format_predict
from serving.rest.tensors import Array
from tests.serving.rest.specs import make_specs

DTYPES = {"float32": "FLOAT", "float64": "DOUBLE", "object": "STRING", "float16": "HALF"}


def text_array(value: Any) -> Array:
    return np.array(value, object)


def format_outputs(outputs: dict[str, Array], row_format: bool) -> str:
    types = {
        alias: DTYPES.get(array.dtype.name, array.dtype.name.upper())
        for alias, array in outputs.items()
    }
    return format_predict(outputs, make_specs(types), row_format).decode("utf-8", "surrogateescape")


FLOATS = np.array([[0.5, 1.0], [2.0, 3.5]], np.float32)
ROWS = [
    ({"y": FLOATS[0]}, '{\n    "predictions": [0.5, 1.0\n    ]\n}'),
    ({"y": FLOATS}, '{\n    "predictions": [[0.5, 1.0], [2.0, 3.5]\n    ]\n}'),
    ({"y": FLOATS[:, :, np.newaxis]},
     '{\n    "predictions": [[[0.5], [1.0]], [[2.0], [3.5]]\n    ]\n}'),
    ({"y": FLOATS[:0]}, '{\n    "predictions": []\n}'),
    ({"y": FLOATS[:, :0]}, '{\n    "predictions": [[], []\n    ]\n}'),
    ({"y": np.array([-1, 2])}, '{\n    "predictions": [-1, 2\n    ]\n}'),
    ({"y": np.array([True, False])}, '{\n    "predictions": [true, false\n    ]\n}'),
    ({"y": text_array([b"u", "é\"\n".encode()])},
     '{\n    "predictions": ["u", "é\\"\\n"\n    ]\n}'),
    ({"b": FLOATS, "a": np.array([1, 2])}, """\
     {
         "predictions": [
             {
                 "a": 1,
                 "b": [0.5, 1.0]
             },
             {
                 "a": 2,
                 "b": [2.0, 3.5]
             }
         ]
     }"""),
    ({"a": FLOATS[:0], "b": FLOATS[:0]}, '{\n    "predictions": []\n}'),
    ({"y_bytes": text_array([[b"hi"], [b"\xff"]]), "z_bytes": text_array([b"", b"h"])}, """\
     {
         "predictions": [
             {
                 "y_bytes": [{
                         "b64": "aGk="
                     }],
                 "z_bytes": {
                     "b64": ""
                 }
             },
             {
                 "y_bytes": [{
                         "b64": "/w=="
                     }],
                 "z_bytes": {
                     "b64": "aA=="
                 }
             }
         ]
     }"""),
    # a number is a number whatever its name
    ({"y_bytes": np.array([1, 2])}, '{\n    "predictions": [1, 2\n    ]\n}'),
]  # fmt: skip

COLUMNS = [
    ({"y": FLOATS[0]}, '{\n    "outputs": [\n        0.5,\n        1.0\n    ]\n}'),
    ({"y": np.array(7)}, '{\n    "outputs": 7\n}'),
    ({"y": FLOATS[:0]}, '{\n    "outputs": []\n}'),
    ({"y_bytes": text_array(b"hi")},
     '{\n    "outputs": {\n        "b64": "aGk="\n    }\n}'),
    ({"a": np.array([[1]]), "b": np.array(2), "c": np.zeros((2, 0))}, """\
     {
         "outputs": {
             "a": [
                 [
                     1
                 ]
             ],
             "b": 2,
             "c": [
                 [],
                 []
             ]
         }
     }"""),
]  # fmt: skip


@pytest.mark.parametrize(("outputs", "body"), ROWS)
def test_rows(outputs: dict[str, Array], body: str) -> None:
    assert format_outputs(outputs, row_format=True) == textwrap.dedent(body)


@pytest.mark.parametrize(("outputs", "body"), COLUMNS)
def test_columns(outputs: dict[str, Array], body: str) -> None:
    assert format_outputs(outputs, row_format=False) == textwrap.dedent(body)


@pytest.mark.parametrize("row_format", [True, False])
@pytest.mark.parametrize("single", [True, False])
def test_what_is_laid_out_reads_back(row_format: bool, single: bool) -> None:
    rng = np.random.default_rng(2)
    outputs: dict[str, Array] = {"y": rng.integers(-9, 9, (3, 2, 4, 1, 2))}
    if not single:
        outputs["z"] = rng.standard_normal((3, 2))
    got = json.loads(format_outputs(outputs, row_format))
    if row_format:
        rows = got["predictions"]
        columns = {"y": rows} if single else {k: [row[k] for row in rows] for k in outputs}
    else:
        columns = {"y": got["outputs"]} if single else got["outputs"]
    assert columns == {alias: array.tolist() for alias, array in outputs.items()}


REFUSED = [
    ({}, True, "Cannot convert empty tensor map to JSON"),
    ({}, False, "Cannot convert empty tensor map to JSON"),
    ({"y": np.array(1)}, True, "Tensor name: y has no shape information "),
    (
        {"a": np.zeros((2, 3)), "b": np.zeros((1, 3))},
        True,
        "Tensor name: b has inconsistent batch size: 1 expecting: 2",
    ),
    (
        {"a": np.zeros(0), "b": np.zeros(1)},
        True,
        "Tensor name: b has inconsistent batch size: 1 expecting: 0",
    ),
    *[
        (
            {"y": np.zeros(2, dtype)},
            row_format,
            f"Failed to write JSON value for tensor type: {name}",
        )
        for dtype, name in (
            (np.complex64, "complex64"),
            (np.float16, "half"),
            (np.uint16, "uint16"),
        )
        for row_format in (True, False)
    ],
]


@pytest.mark.parametrize(("outputs", "row_format", "message"), REFUSED)
def test_refused(outputs: dict[str, Array], row_format: bool, message: str) -> None:
    with pytest.raises(ServingError) as caught:
        format_outputs(outputs, row_format)
    assert (caught.value.http_status, caught.value.message) == (400, message)


def test_columns_may_differ_in_size() -> None:
    got = json.loads(format_outputs({"a": np.zeros(2), "b": np.zeros((3, 1))}, row_format=False))
    assert got == {"outputs": {"a": [0.0, 0.0], "b": [[0.0], [0.0], [0.0]]}}


def test_text_that_is_no_utf8_is_given_as_it_is() -> None:
    body = format_predict({"y": text_array([b"\xff\x80"])}, make_specs({"y": "STRING"}), True)
    assert b'["\xff\x80"\n' in body


@pytest.mark.parametrize(
    ("dtype", "value", "text"),
    [
        # six digits where they are the number, as printf's %g, always with a point or an exponent
        (np.float32, 0.0, "0.0"),
        (np.float32, -0.0, "-0.0"),
        (np.float32, 1, "1.0"),
        (np.float32, 0.1, "0.1"),
        (np.float32, 0.2, "0.2"),
        (np.float32, 999999, "999999.0"),
        (np.float32, 9000000, "9e+06"),
        (np.float32, 0.0003, "0.0003"),
        (np.float32, 0.00003, "3e-05"),
        (np.float32, 555557.5, "555557.5"),
        (np.float32, 1e38, "1e+38"),
        # else nine for a float, seventeen for a double
        (np.float32, 0.123456789, "0.123456791"),
        (np.float32, 16777216, "16777216.0"),
        (np.float32, 3.4028234663852886e38, "3.40282347e+38"),
        (np.float32, 1.401298464324817e-45, "1.4013e-45"),
        (np.float64, 0.1, "0.1"),
        (np.float64, 0.1 + 0.2, "0.30000000000000004"),
        (np.float64, 1 / 3, "0.33333333333333331"),
        (np.float64, 5e-324, "4.94066e-324"),
        (np.float64, 1.7976931348623157e308, "1.7976931348623157e+308"),
        # tokens
        (np.float32, np.nan, "NaN"),
        (np.float32, np.inf, "Infinity"),
        (np.float64, -np.inf, "-Infinity"),
    ],
)
def test_decimals(dtype: type, value: float, text: str) -> None:
    assert format_decimals(np.array([value], dtype)) == [text]


@pytest.mark.parametrize(("dtype", "bits"), [(np.float32, np.uint32), (np.float64, np.uint64)])
def test_every_decimal_reads_back_bit_equal(dtype: type, bits: type) -> None:
    rng = np.random.default_rng(4)
    numbers = rng.integers(0, np.iinfo(bits).max, 30_000, bits, endpoint=True).view(dtype)
    numbers = np.concatenate(
        [numbers, rng.random(30_000).astype(dtype), np.arange(1000, dtype=dtype)]
    )
    numbers = numbers[np.isfinite(numbers)]
    read_back = np.array([float(text) for text in format_decimals(numbers)]).astype(dtype)
    np.testing.assert_array_equal(read_back.view(bits), numbers.view(bits))


def test_errors() -> None:
    error = ServingError("NOT_FOUND", 'No "x"\n')
    assert format_error(error) == b'{\n    "error": "No \\"x\\"\\n"\n}'


def test_errors_are_utf8_whatever_the_request_held() -> None:
    body = format_error(ServingError("INVALID_ARGUMENT", "caf\udce9 é"))
    assert json.loads(body.decode("utf-8")) == {"error": "caf\ufffd é"}
