"""``:classify`` and ``:regress``: examples, their signatures, and the replies."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from serving.errors import ServingError
from serving.rest.requests import parse_classify, parse_regress, read_examples
from serving.rest.responses import format_classify, format_regress
from serving.rest.tensors import Array
from serving.signatures import Signature
from tests.serving.rest.specs import make_specs

FIELD = descriptor_pb2.FieldDescriptorProto


def build_example_class() -> Any:
    """``tf.train.Example`` of its definition: protobuf reads what was written without it."""
    file = descriptor_pb2.FileDescriptorProto(
        name="example_in_test.proto", package="t", syntax="proto3"
    )

    def add(parent: Any, name: str, fields: list[tuple[str, int, str, bool]]) -> Any:
        message = (parent.message_type if parent is file else parent.nested_type).add(name=name)
        for field, number, kind, repeated in fields:
            label = FIELD.LABEL_REPEATED if repeated else FIELD.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            if kind.startswith("."):
                added.type, added.type_name = FIELD.TYPE_MESSAGE, kind
            else:
                added.type = getattr(FIELD, f"TYPE_{kind}")
        return message

    add(file, "BytesList", [("value", 1, "BYTES", True)])
    add(file, "FloatList", [("value", 1, "FLOAT", True)])
    add(file, "Int64List", [("value", 1, "INT64", True)])
    lists = [("bytes_list", 1, ".t.BytesList"), ("float_list", 2, ".t.FloatList")]
    lists.append(("int64_list", 3, ".t.Int64List"))
    feature = add(file, "Feature", [(*item, False) for item in lists])
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    features = add(file, "Features", [("feature", 1, ".t.Features.FeatureEntry", True)])
    entry = [("key", 1, "STRING", False), ("value", 2, ".t.Feature", False)]
    add(features, "FeatureEntry", entry).options.map_entry = True
    add(file, "Example", [("features", 1, ".t.Features", False)])
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


EXAMPLE = build_example_class()


def decode(serialized: bytes) -> dict[str, list[Any]]:
    features = EXAMPLE.FromString(serialized).features.feature
    decoded = {}
    for name, feature in features.items():
        kind = feature.WhichOneof("kind")
        decoded[name] = [] if kind is None else [kind, *getattr(feature, kind).value]
    return decoded


FEATURES: list[tuple[str, list[Any]]] = [
    ("1", ["int64_list", 1]),
    ("[1, -2, 300]", ["int64_list", 1, -2, 300]),
    ("[9223372036854775807, -9223372036854775808]", ["int64_list", 2**63 - 1, -(2**63)]),
    ("[1, true, false]", ["int64_list", 1, 1, 0]),
    ("true", ["int64_list", 1]),
    ("1.0", ["float_list", 1.0]),
    ("[8.0, 9.5e1]", ["float_list", 8.0, 95.0]),
    ("[1.5, Infinity, -Infinity]", ["float_list", 1.5, math.inf, -math.inf]),
    ("1e300", ["float_list", math.inf]),
    ("0.1", ["float_list", float(np.float32(0.1))]),
    ("18446744073709551616", ["float_list", 2.0**64]),
    ('"foo"', ["bytes_list", b"foo"]),
    ('["foo", "", "é"]', ["bytes_list", b"foo", b"", "é".encode()]),
    ('{"b64": "aGk="}', ["bytes_list", b"hi"]),
    ('["foo", {"b64": "/w=="}]', ["bytes_list", b"foo", b"\xff"]),
    ("[]", []),
    (json.dumps("x" * 70_000), ["bytes_list", b"x" * 70_000]),
    (json.dumps(list(range(-500, 500))), ["int64_list", *range(-500, 500)]),
]


@pytest.mark.parametrize(("value", "feature"), FEATURES)
def test_features(value: str, feature: list[Any]) -> None:
    request = read_examples(f'{{"examples": [{{"x": {value}}}]}}'.encode())
    assert [decode(example) for example in request.examples] == [{"x": feature}]


def test_not_a_number_is_a_float() -> None:
    (example,) = read_examples(b'{"examples": [{"x": [NaN, 2.0]}]}').examples
    kind, first, second = decode(example)["x"]
    assert kind == "float_list" and math.isnan(first) and second == 2.0


def test_examples_context_and_signature() -> None:
    body = (
        b'{"signature_name": "s", "context": {"q": "pizza", "n": 1},'
        b' "examples": [{"a": "u"}, {"a": "v", "n": 2}, {}]}'
    )
    request = read_examples(body)
    assert request.signature_name == "s"
    assert request.inputs.keys() == {"inputs"}
    assert request.examples.shape == (3,)
    q = ["bytes_list", b"pizza"]
    assert [decode(example) for example in request.examples] == [
        {"q": q, "n": ["int64_list", 1], "a": ["bytes_list", b"u"]},
        {"q": q, "n": ["int64_list", 2], "a": ["bytes_list", b"v"]},
        {"q": q, "n": ["int64_list", 1]},
    ]


def test_an_example_may_be_empty_and_repeat_a_name() -> None:
    request = read_examples(b'{"examples": [{}, {"a": 1, "a": [2, 3]}]}')
    assert request.examples[0] == b""
    assert decode(request.examples[1]) == {"a": ["int64_list", 2, 3]}


def has_element(kind: str) -> str:
    return f"Feature: x has element with unexpected JSON type: {kind}"


def expects(kind: str) -> str:
    return f"Unexpected element type in feature: x expecting type: {kind}"


REFUSED = [
    ("[]", "JSON Value: [] Is not object"),
    (
        '{"signature_name": ["u"]}',
        'JSON Value: {\n    "signature_name": ["u"]\n} not formatted correctly. '
        "'signature_name' key must be a string value.",
    ),
    (
        '{"instances": 1}',
        "JSON Value: {\n    \"instances\": 1\n} When method is classify, key 'examples' is "
        "expected and was not found",
    ),
    (
        '{"examples": {"x": 1}}',
        'JSON Value: {\n    "examples": {\n        "x": 1\n    }\n} Expecting \'examples\' value '
        "to be an list/array",
    ),
    (
        '{"examples": []}',
        "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array",
    ),
    ('{"context": [{}]}', "Example must be JSON object but got JSON Array"),
    ('{"examples": [[{}]]}', "Example must be JSON object but got JSON Array"),
    ('{"examples": [1]}', "Example must be JSON object but got JSON Number"),
    ('{"examples": ["u"]}', "Example must be JSON object but got JSON String"),
    ('{"examples": [null]}', "Example must be JSON object but got JSON Null"),
    ('{"examples": [true]}', "Example must be JSON object but got JSON True"),
    ('{"examples": [{"x": null}]}', has_element("Null")),
    ('{"examples": [{"x": [10, null]}]}', has_element("Null")),
    ('{"examples": [{"x": [[10], 20]}]}', has_element("Array")),
    ('{"examples": [{"x": [10, {"test": 10}]}]}', has_element("Object")),
    ('{"examples": [{"x": [10, 10.0]}]}', expects("int64")),
    ('{"examples": [{"x": [10, "u"]}]}', expects("int64")),
    ('{"examples": [{"x": [1.0, 1]}]}', expects("float")),
    ('{"examples": [{"x": [1.0, true]}]}', expects("float")),
    ('{"examples": [{"x": ["u", 1.0]}]}', expects("bytes")),
    (
        '{"examples": [{"x": [20, 18446744073709551603]}]}',
        "Feature: x has uint64_t element. Only int64_t is supported.",
    ),
    ('{"examples": [{"x": {"b64": "?"}}]}', "Unable to base64 decode"),
]


@pytest.mark.parametrize(("body", "message"), REFUSED)
def test_refused(body: str, message: str) -> None:
    with pytest.raises(ServingError) as caught:
        read_examples(body.encode())
    assert (caught.value.http_status, caught.value.message) == (400, message)


def make_signature(inputs: str, outputs: str) -> dict[str, Signature]:
    """Signature with the inputs and outputs named, all strings."""
    specs = [make_specs(dict.fromkeys(names.split(), "STRING")) for names in (inputs, outputs)]
    return {"serving_default": Signature("serving_default", "any", *specs)}


ONE = b'{"examples": [{"x": 1}]}'
SHOWN = """\
inputs {
  key: "x"
  value {
    name: "serving_default_x:0"
    dtype: DT_STRING
    tensor_shape {
      unknown_rank: true
    }
  }
}
outputs {
  key: "outputs"
  value {
    name: "serving_default_outputs:0"
    dtype: DT_STRING
    tensor_shape {
      unknown_rank: true
    }
  }
}
method_name: "any"
"""
NO_SCORES = (
    "Expected classification signature outputs to contain at least one of "
    '"classes" or "scores". Signature was: '
)


@pytest.mark.parametrize(
    ("parse", "inputs", "outputs", "message"),
    [
        (parse_classify, "inputs more", "scores", "Expected one input Tensor."),
        (parse_classify, "inputs", "", "Expected one or two output Tensors, found 0"),
        (parse_classify, "inputs", "a b c", "Expected one or two output Tensors, found 3"),
        (
            parse_classify,
            "x",
            "outputs",
            f"No classification inputs found in SignatureDef: {SHOWN}",
        ),
        (parse_classify, "inputs", "outputs", NO_SCORES + SHOWN.replace("x", "inputs")),
        (parse_regress, "", "outputs", "Expected one input Tensor."),
        (parse_regress, "inputs", "outputs more", "Expected one output Tensor."),
        (parse_regress, "x", "outputs", f"No regression inputs found in SignatureDef: {SHOWN}"),
        (
            parse_regress,
            "inputs",
            "scores",
            "No regression outputs found in SignatureDef: "
            + SHOWN.replace("x", "inputs")
            .replace('outputs"', 'scores"')
            .replace("outputs:", "scores:"),
        ),
    ],
)
def test_signatures_that_do_not_fit(parse: Any, inputs: str, outputs: str, message: str) -> None:
    with pytest.raises(ServingError) as caught:
        parse(ONE, make_signature(inputs, outputs))
    assert (caught.value.http_status, caught.value.message) == (400, message)


@pytest.mark.parametrize("outputs", ["classes", "scores", "scores classes", "scores more"])
def test_signatures_that_classify(outputs: str) -> None:
    assert (
        parse_classify(ONE, make_signature("inputs", outputs)).signature_name == "serving_default"
    )


def test_a_signature_that_regresses_and_none() -> None:
    signatures = make_signature("inputs", "outputs")
    assert parse_regress(read_examples(ONE), signatures).examples.shape == (1,)
    for parse in (parse_classify, parse_regress):
        with pytest.raises(ServingError) as caught:
            parse(b'{"signature_name": "no", "examples": [{}]}', signatures)
        assert caught.value.message == "No signature was found with the name: no"


REPLIES = {"classes": "STRING", "scores": "FLOAT"}
LABELS = np.array([[b"car", b"bike"], [b"bus", "é".encode()]], object)
SCORES = np.array([[0.2, 1.0], [0.7, np.nan]], np.float32)


@pytest.mark.parametrize(
    ("outputs", "lists"),
    [
        (
            {"classes": LABELS, "scores": SCORES},
            '[["car", 0.2], ["bike", 1.0]], [["bus", 0.7], ["é", NaN]]',
        ),
        ({"classes": LABELS}, '[["car", 0.0], ["bike", 0.0]], [["bus", 0.0], ["é", 0.0]]'),
        ({"scores": SCORES}, '[["", 0.2], ["", 1.0]], [["", 0.7], ["", NaN]]'),
        ({"scores": SCORES[:, :0]}, "[], []"),
    ],
)
def test_classifications(outputs: dict[str, Array], lists: str) -> None:
    body = format_classify(outputs, make_specs(REPLIES), 2).decode()
    assert body == f'{{\n    "results": [{lists}\n    ]\n}}'


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_regressions(shape: tuple[int, ...]) -> None:
    outputs = {"outputs": np.array([3.5, -np.inf], np.float32).reshape(shape)}
    body = format_regress(outputs, make_specs({"outputs": "FLOAT"}), 2)
    assert body == b'{\n    "results": [3.5, -Infinity]\n}'


SHAPE = "Expected Tensor shape: [batch_size num_classes] but got "


@pytest.mark.parametrize(
    ("outputs", "dtypes", "message"),
    [
        ({"scores": SCORES[0]}, {}, SHAPE + "[2]"),
        ({"classes": LABELS[np.newaxis]}, {}, SHAPE + "[1,2,2]"),
        ({"scores": SCORES[:1]}, {}, "Expected scores output batch size of 2. Got: 1"),
        ({"scores": SCORES}, {"scores": "DOUBLE"},
         "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE"),
        ({"classes": LABELS}, {"classes": "INT64"},
         "Expected classes Tensor of DT_STRING. Got: DT_INT64"),
        ({"classes": LABELS, "scores": SCORES[:, :1]}, {},
         "Tensors class and score should match in dim_size(1). Got 2 vs. 1"),
    ],
)  # fmt: skip
def test_no_classifications(
    outputs: dict[str, Array], dtypes: dict[str, str], message: str
) -> None:
    with pytest.raises(ServingError) as caught:
        format_classify(outputs, make_specs({**REPLIES, **dtypes}), 2)
    assert (caught.value.http_status, caught.value.message) == (400, message)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((2, 2), "FLOAT", "Expected output Tensor shape to be either [batch_size] or "
         "[batch_size, 1] but got [2,2]"),
        ((), "FLOAT", "Expected output Tensor shape to be either [batch_size] or "
         "[batch_size, 1] but got []"),
        ((3,), "FLOAT", "Input batch size did not match output batch size: 2 vs. 3"),
        ((2,), "DOUBLE", "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE"),
    ],
)  # fmt: skip
def test_no_regressions(shape: tuple[int, ...], dtype: str, message: str) -> None:
    specs = make_specs({"outputs": dtype})
    with pytest.raises(ServingError) as caught:
        format_regress({"outputs": np.zeros(shape, np.float32)}, specs, 2)
    assert caught.value.message == message


def test_a_shape_in_messages_has_minus_one_where_it_is_free() -> None:
    signature = make_signature("x", "outputs")["serving_default"]
    spec = dataclasses.replace(signature.inputs["x"], shape=(None, 3))
    changed = dataclasses.replace(signature, inputs={"x": spec})
    with pytest.raises(ServingError) as caught:
        parse_regress(ONE, {"serving_default": changed})
    dims = "      dim {\n        size: -1\n      }\n      dim {\n        size: 3\n      }\n"
    assert SHOWN.replace("      unknown_rank: true\n", dims, 1) in caught.value.message
