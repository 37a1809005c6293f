"""Each rule of a ``:predict`` body: what it becomes, or the words that refuse it."""

from __future__ import annotations

import json
import random
from functools import partial
from typing import Any

import numpy as np
import pytest

from serving.errors import ServingError
from serving.rest.requests import (
    PredictRequest,
    parse_predict,
    read_document,
    read_examples,
)
from serving.rest.responses import format_error
from serving.rest.rows import _Batch
from serving.signatures import Signature, check_input_names
from tests.serving.rest.specs import make_signatures, make_specs

X_FLOAT = {"x": "FLOAT"}
X_INT = {"x": "INT32"}
X_TEXT = {"x": "STRING"}
TWO = {"a": "INT32", "b": "STRING"}

DEEP = "[" * 100_000 + "]" * 100_000
HELLO = '{"b64": "aGVsbG8="}'

ACCEPTED: list[tuple[str, dict[str, str], str, dict[str, Any]]] = [
    ("row, scalars", X_FLOAT, '{"instances": [1, 2.5]}', {"x": [1, 2.5]}),
    (
        "row, lists",
        X_INT,
        '{"instances": [[1, 2], [3, 4], [5, 6]]}',
        {"x": [[1, 2], [3, 4], [5, 6]]},
    ),
    ("row, one name", X_INT, '{"instances": [{"x": [1]}, {"x": [2]}]}', {"x": [[1], [2]]}),
    (
        "row, names",
        TWO,
        '{"instances": [{"a": 1, "b": "u"}, {"b": "v", "a": 2}]}',
        {"a": [1, 2], "b": [b"u", b"v"]},
    ),
    ("columns, one", X_INT, '{"inputs": [[1, 2, 3]]}', {"x": [[1, 2, 3]]}),
    ("columns, one, named", X_INT, '{"inputs": {"x": [[1, 2, 3]]}}', {"x": [[1, 2, 3]]}),
    (
        "columns, of two sizes",
        TWO,
        '{"inputs": {"a": [[1], [2]], "b": "u"}}',
        {"a": [[1], [2]], "b": b"u"},
    ),
    ("columns, a scalar", X_INT, '{"inputs": 7}', {"x": 7}),
    ("columns, other names are ignored", X_INT, '{"inputs": {"x": 1, "y": 2}}', {"x": 1}),
    ("base64 in rows", X_TEXT, f'{{"instances": [{HELLO}, {HELLO}]}}', {"x": [b"hello"] * 2}),
    (
        "base64 in lists",
        X_TEXT,
        f'{{"instances": [[{HELLO}], [{HELLO}]]}}',
        {"x": [[b"hello"]] * 2},
    ),
    ("base64 under a name", X_TEXT, f'{{"instances": [{{"x": {HELLO}}}]}}', {"x": [b"hello"]}),
    ("base64 as the input", X_TEXT, f'{{"inputs": {HELLO}}}', {"x": b"hello"}),
    ("base64 beside text", X_TEXT, f'{{"instances": ["hello", {HELLO}]}}', {"x": [b"hello"] * 2}),
    ("text is UTF-8", X_TEXT, '{"instances": ["é", "\\u00e9"]}', {"x": ["é".encode()] * 2}),
    ("text may hold zeros", X_TEXT, '{"instances": ["a\\u0000b"]}', {"x": [b"a\0b"]}),
    ("empty lists", X_FLOAT, '{"instances": [[], []]}', {"x": np.zeros((2, 0))}),
    ("an empty column", X_FLOAT, '{"inputs": []}', {"x": np.zeros(0)}),
    ("other keys are ignored", X_INT, '{"id": 7, "instances": [1], "nested": [[{}]]}', {"x": [1]}),
    (
        "the signature may be named",
        X_INT,
        '{"signature_name": "serving_default", "instances": [1]}',
        {"x": [1]},
    ),
    ("an empty name is the default", X_INT, '{"signature_name": "", "instances": [1]}', {"x": [1]}),
    ("the first of a repeated key", X_INT, '{"instances": [1], "instances": 2}', {"x": [1]}),
    ("the first of a repeated input", X_INT, '{"inputs": {"x": 1, "x": "a"}}', {"x": 1}),
    (
        "values of a repeated name follow each other",
        X_INT,
        '{"instances": [{"x": 1, "x": 2}, {"x": 3}]}',
        {"x": [1, 2]},
    ),
    ("what follows is ignored", X_INT, '{"instances": [1]} and so on', {"x": [1]}),
    ("a byte order mark", X_INT, '\ufeff{"instances": [1]}', {"x": [1]}),
    ("deep nesting beside it", X_INT, f'{{"instances": [1], "n": {DEEP}}}', {"x": [1]}),
]


@pytest.mark.parametrize(
    ("inputs", "body", "expected"), [row[1:] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED]
)
def test_accepted(inputs: dict[str, str], body: str, expected: dict[str, Any]) -> None:
    request = parse_predict(body.encode(), make_signatures(**inputs))
    assert request.signature_name == "serving_default"
    assert request.row_format == ('"instances"' in body)
    assert request.inputs.keys() == expected.keys()
    for alias, value in expected.items():
        np.testing.assert_array_equal(
            request.inputs[alias], np.array(value, request.inputs[alias].dtype)
        )
        assert request.inputs[alias].shape == np.array(value, request.inputs[alias].dtype).shape


def test_text_keeps_bytes_that_are_no_utf8() -> None:
    request = parse_predict(b'{"instances": ["\xff\x80"]}', make_signatures(**X_TEXT))
    assert request.inputs["x"].tolist() == [b"\xff\x80"]


def test_another_signature() -> None:
    signatures = make_signatures(**X_INT)
    other = Signature("other", "", make_specs({"y": "STRING"}), {})
    body = b'{"signature_name": "other", "inputs": ["u"]}'
    request = parse_predict(body, {**signatures, "other": other})
    assert request.signature_name == "other"
    assert request.inputs["y"].tolist() == [b"u"]
    assert not request.row_format


def test_the_body_is_read_before_the_model_is_known() -> None:
    read = read_document(b'{"instances": [1]}')
    assert read.signature_name == "serving_default"
    assert parse_predict(read, make_signatures(**X_INT)).inputs["x"].tolist() == [1]
    for body in (b"", b"[", b"[]", b'{"signature_name": null}'):
        with pytest.raises(ServingError):
            read_document(body)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["a"],
            "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. "
            "Missing but required: {b}.",
        ),
        (
            ["a", "b", "c"],
            "input size does not match signature: 3!=2 len({a,b,c}) != len({a,b}). "
            "Sent extra: {c}. Missing but required: {}.",
        ),
        (
            ["a", "c"],
            "Signature input alias: b(feed name: serving_default_b:0) not found in request and no "
            "default value provided. Inputs expected to be in the request {a,c}, or default input "
            "alias set: ",
        ),
    ],
)
def test_names_of_inputs(names: list[str], message: str) -> None:
    signature = make_signatures(**TWO)["serving_default"]
    check_input_names(signature, ["b", "a"])
    with pytest.raises(ServingError) as caught:
        check_input_names(signature, names)
    assert caught.value.message == message


def result(request: PredictRequest | dict[str, Any]) -> dict[str, Any]:
    inputs = request.inputs if isinstance(request, PredictRequest) else request
    return {alias: (array.dtype, array.shape, array.tolist()) for alias, array in inputs.items()}


def test_the_fast_way_and_the_one_that_explains_agree() -> None:
    rng = random.Random(3)
    dtypes = ["FLOAT", "DOUBLE", "INT8", "UINT64", "BOOL", "STRING"]
    values = [0, 1, -1, 300, 2**40, 1.5, True, "u", None, {"b64": "aGk="}, {"b64": 1}]
    accepted = 0
    for _ in range(3000):
        types = {alias: rng.choice(dtypes) for alias in "ab"[: rng.randrange(1, 3)]}
        palette = rng.sample(values, 2)
        shape = [rng.randrange(3) for _ in range(rng.randrange(3))]

        def tensor(shape: list[int], palette: list[Any] = palette) -> Any:
            if not shape:
                return rng.choice(palette)
            size = shape[0] + (rng.random() < 0.02)
            return [tensor(shape[1:]) for _ in range(size)]

        rows = [{alias: tensor(shape) for alias in types} for _ in range(rng.randrange(1, 4))]
        signatures = make_signatures(**types)
        body = json.dumps({"instances": rows}).encode()
        try:
            slow: Any = result(_Batch(signatures["serving_default"].inputs).build(rows))
        except ServingError as error:
            slow = error.message
        try:
            fast: Any = result(parse_predict(body, signatures))
        except ServingError as error:
            fast = error.message
        assert fast == slow
        accepted += not isinstance(fast, str)
    assert 500 < accepted < 2500


def test_mutated_bodies_are_read_or_refused() -> None:
    rng = random.Random(9)
    bodies = [body.encode() for _, _, body, _ in ACCEPTED if DEEP not in body]
    bodies.append(b'{"context": {"q": [1.5]}, "examples": [{"a": "u", "b": {"b64": "aGk="}}]}')
    signatures = make_signatures(a="INT32", b="STRING"), make_signatures(x="FLOAT")
    refused = 0
    for _ in range(3000):
        body = bytearray(rng.choice(bodies))
        for _ in range(rng.randrange(1, 4)):
            place = rng.randrange(len(body))
            body[place : place + rng.randrange(3)] = rng.choice([b"", b"[", b"]", b"1e9", b"\xff"])
        for read in (
            *(partial(parse_predict, signatures=one) for one in signatures),
            read_examples,
        ):
            try:
                read(bytes(body))
            except ServingError as error:
                refused += 1
                answer = json.loads(format_error(error).decode("utf-8"))
                assert answer.keys() == {"error"} and answer["error"]
    assert 3000 < refused < 9000
