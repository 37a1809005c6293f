"""Each rule that refuses a ``:predict`` body, and the words it is refused with."""

from __future__ import annotations

import pytest

from serving.errors import ServingError
from serving.rest.requests import parse_predict
from tests.serving.rest.specs import make_signatures

X_FLOAT = {"x": "FLOAT"}
X_INT = {"x": "INT32"}
X_TEXT = {"x": "STRING"}
TWO = {"a": "INT32", "b": "STRING"}

DEEP = "[" * 100_000 + "]" * 100_000
HELLO = '{"b64": "aGVsbG8="}'

NOT_A_NAME = "not formatted correctly. 'signature_name' key must be a string value."
TOO_BIG = "JSON Parse error: Number too big to be stored in double. at offset: 30"
WRAPPED = "Failed to process element: {} of 'instances' list. Error: INVALID_ARGUMENT: {}"
NAMED = "Failed to process element: {} key: {} of 'instances' list. Error: INVALID_ARGUMENT: {}"
BOTH = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
PLAIN_LIST = (
    "instances is a plain list, but expecting list of objects as multiple input tensors required "
    "as per tensorinfo_map"
)
PLAIN_VALUE = (
    "inputs is a plain value/list, but expecting an object as multiple input tensors required as "
    "per tensorinfo_map"
)


def wrong_level(value: str, level: int, expected: int) -> str:
    return (
        f"JSON Value: {value} found at incorrect level: {level} in the JSON DOM. "
        f"Expected at level: {expected}"
    )


def wrong_size(size: int, level: int, expected: int) -> str:
    return (
        f"Encountered list at unexpected size: {size} at level: {level} expected size: {expected}"
    )


def wrong_type(value: str, kind: str, dtype: str) -> str:
    return f"JSON Value: {value} Type: {kind} is not of expected type: {dtype}"


def wrong_base64(value: str) -> str:
    return f"JSON Value: {value} not formatted correctly for base64 data"


def wrong_document(members: str, message: str) -> str:
    return f"JSON Value: {{\n    {members}\n}} {message}"


def wrong_keys(index: int, shown: str, keys: str) -> str:
    return (
        f"Failed to process element: {index} of 'instances' list. JSON object: {shown} keys must "
        f"be equal to: {keys}"
    )


REFUSED: list[tuple[str, dict[str, str], str, str]] = [
    ("no object", X_INT, "[1, 2]", "JSON Value: [1, 2] Is not object"),
    ("a number", X_INT, "17", "JSON Value: 17 Is not object"),
    ("null", X_INT, "null", "JSON Value: null Is not object"),
    ("neither key", X_INT, '{"instance": [1]}', "Missing 'inputs' or 'instances' key"),
    (
        "both keys",
        X_INT,
        '{"inputs": [1], "instances": [1]}',
        wrong_document('"inputs": [1],\n    "instances": [1]', BOTH),
    ),
    (
        "instances no list",
        X_INT,
        '{"instances": 1}',
        wrong_document('"instances": 1', "Expecting 'instances' to be an list/array"),
    ),
    (
        "instances an object",
        X_INT,
        '{"instances": {}}',
        wrong_document('"instances": {}', "Expecting 'instances' to be an list/array"),
    ),
    (
        "no instances",
        X_INT,
        '{"instances": []}',
        wrong_document('"instances": []', "No values in 'instances' array"),
    ),
    (
        "signature of another type",
        X_INT,
        '{"signature_name": 5}',
        wrong_document('"signature_name": 5', NOT_A_NAME),
    ),
    (
        "signature unknown",
        X_INT,
        '{"signature_name": "nope", "instances": [1]}',
        'Serving signature name: "nope" not found in signature def',
    ),
    (
        "signature of no inputs",
        {},
        '{"instances": [1]}',
        "Failed to get input map for signature: DEFAULT",
    ),
    # rows
    (
        "another size",
        X_INT,
        '{"instances": [[1, 2], [3, 4], [5, 6, 7]]}',
        WRAPPED.format(2, "Expecting tensor size: 2 but got: 3"),
    ),
    (
        "another shape",
        X_INT,
        '{"instances": [[1, 2], [3, 4], [[5, 6]]]}',
        WRAPPED.format(2, "Expecting shape [2] but got: [1,2]"),
    ),
    (
        "a scalar, then a list",
        X_INT,
        '{"instances": [1, [1]]}',
        WRAPPED.format(1, "Expecting shape [] but got: [1]"),
    ),
    (
        "another type",
        X_INT,
        '{"instances": [[1, 2], ["a", "b"]]}',
        WRAPPED.format(1, wrong_type('"a"', "String", "int32")),
    ),
    (
        "ragged in an instance",
        X_INT,
        '{"instances": [[[1, 2], [3]]]}',
        WRAPPED.format(0, wrong_size(1, 1, 2)),
    ),
    (
        "not empty after empty",
        X_INT,
        '{"instances": [[[], [1]]]}',
        WRAPPED.format(0, wrong_size(1, 1, 0)),
    ),
    (
        "a list too deep",
        X_INT,
        '{"instances": [[1, [2]]]}',
        WRAPPED.format(0, "Encountered list at unexpected level: 1 expected < 1"),
    ),
    (
        "a value too high",
        X_INT,
        '{"instances": [[[1], 2]]}',
        WRAPPED.format(0, wrong_level("2", 2, 2)),
    ),
    (
        "an object among lists",
        X_TEXT,
        '{"instances": [["u"], {"x": ["v"]}]}',
        "Expecting value/list but got object at item 1 of input list",
    ),
    (
        "a list among objects",
        X_INT,
        '{"instances": [{"x": 1}, [2], {"x": 3}]}',
        "Expecting object but got list at item 1 of input list",
    ),
    (
        "a value among objects",
        X_INT,
        '{"instances": [{"x": 1}, 2]}',
        "Expecting object but got list at item 1 of input list",
    ),
    ("plain list for two inputs", TWO, '{"instances": [1, 2]}', PLAIN_LIST),
    (
        "an input missing",
        TWO,
        '{"instances": [{"a": 1}]}',
        wrong_keys(0, '{\n    "a": 1\n}', "a,b"),
    ),
    (
        "an unknown input",
        X_INT,
        '{"instances": [{"x": 1, "z": 2}]}',
        NAMED.format(0, "z", "JSON object: does not have named input: z"),
    ),
    (
        "an unknown input, later",
        X_INT,
        '{"instances": [{"x": 1}, {"z": 2}]}',
        NAMED.format(1, "z", "JSON object: does not have named input: z"),
    ),
    ("no input", X_INT, '{"instances": [{"x": 1}, {}]}', wrong_keys(1, "{}", "x")),
    (
        "sizes of a named input",
        TWO,
        '{"instances": [{"a": [1], "b": "u"}, {"a": [1, 2], "b": "u"}]}',
        NAMED.format(1, "a", "Expecting tensor size: 1 but got: 2"),
    ),
    (
        "shapes of a named input",
        TWO,
        '{"instances": [{"a": [1], "b": "u"}, {"a": [[1]], "b": "u"}]}',
        NAMED.format(1, "a", "Expecting shape [1] but got: [1,1]"),
    ),
    (
        "base64 for two inputs",
        TWO,
        f'{{"instances": [{HELLO}]}}',
        WRAPPED.format(0, wrong_type('{\n    "b64": "aGVsbG8="\n}', "Object", "int32")),
    ),
    (
        "base64 for the first of two inputs",
        {"a": "STRING", "b": "INT32"},
        f'{{"instances": [{HELLO}]}}',
        "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. "
        "Missing but required: {b}.",
    ),
    (
        "an object for a number",
        X_FLOAT,
        '{"instances": [[{"y": 1}]]}',
        WRAPPED.format(0, wrong_type('{\n    "y": 1\n}', "Object", "float")),
    ),
    (
        "an object for text",
        X_TEXT,
        '{"instances": [[{"y": 1}]]}',
        WRAPPED.format(0, wrong_base64('{\n    "y": 1\n}')),
    ),
    (
        "base64 of a number",
        X_TEXT,
        '{"inputs": {"x": {"b64": 1}}}',
        wrong_base64('{\n    "b64": 1\n}'),
    ),
    (
        "base64 and more",
        X_TEXT,
        '{"inputs": {"x": {"b64": "aGk=", "y": 1}}}',
        wrong_base64('{\n    "b64": "aGk=",\n    "y": 1\n}'),
    ),
    (
        "base64 twice",
        X_TEXT,
        '{"inputs": {"x": {"b64": "aGk=", "b64": "aGk="}}}',
        wrong_base64('{\n    "b64": "aGk=",\n    "b64": "aGk="\n}'),
    ),
    ("no base64", X_TEXT, '{"inputs": {"x": {"b64": "a"}}}', "Unable to base64 decode"),
    (
        "no base64 in a row",
        X_TEXT,
        '{"instances": [{"b64": "?"}]}',
        WRAPPED.format(0, "Unable to base64 decode"),
    ),
    # columns
    ("plain value for two inputs", TWO, '{"inputs": [1]}', PLAIN_VALUE),
    ("base64 for two columns", TWO, f'{{"inputs": {HELLO}}}', PLAIN_VALUE),
    ("a column missing", TWO, '{"inputs": {"a": 1}}', "Missing named input: b in 'inputs' object."),
    ("ragged column", X_INT, '{"inputs": [[1], [2, 3]]}', wrong_size(2, 1, 1)),
    (
        "mixed column",
        X_INT,
        '{"inputs": [1, [2]]}',
        "Encountered list at unexpected level: 1 expected < 1",
    ),
    ("value above lists", X_INT, '{"inputs": [[1], 2]}', wrong_level("2", 2, 2)),
    # the first problem in the order of the body is the one that is named
    (
        "type before size",
        X_INT,
        '{"inputs": [[1, "u"], [2]]}',
        wrong_type('"u"', "String", "int32"),
    ),
    ("size before type", X_INT, '{"inputs": [[1], [2, "u"]]}', wrong_size(2, 1, 1)),
    ("parse error before all", X_INT, '{"inputs": "u", "instances": [1e999]}', TOO_BIG),
    ("nested beyond an array", X_INT, f'{{"inputs": {DEEP}}}', "tensor parsing error: x"),
    ("nested beyond an array, empty", X_INT, f'{{"instances": {DEEP}}}', "tensor parsing error: x"),
]


@pytest.mark.parametrize(
    ("inputs", "body", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_refused(inputs: dict[str, str], body: str, message: str) -> None:
    with pytest.raises(ServingError) as caught:
        parse_predict(body.encode(), make_signatures(**inputs))
    assert caught.value.message == message
    assert caught.value.http_status == 400
