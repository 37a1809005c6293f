"""Bodies of ``:predict``, ``:classify`` and ``:regress`` to tensors.

TensorFlow Serving looks at the JSON before it looks for the model. `read_document` and
`read_examples` are that first half, and need no signatures; the functions that do need them take
what these return, or the body itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.errors import ServingError
from serving.rest import rows
from serving.rest.binary import is_base64_object
from serving.rest.example_signatures import check_classify_signature, check_regress_signature
from serving.rest.examples import serialize_example
from serving.rest.json_reader import parse_json
from serving.rest.json_text import describe
from serving.rest.tensors import Array, build_tensor
from serving.signatures import DEFAULT_SIGNATURE_NAME, Signature, TensorSpec, check_input_names


@dataclasses.dataclass(frozen=True)
class Document:
    """A body that is a JSON object.

    Args:
        members: the object, see `serving.rest.json_values`.
        signature_name: the signature that it names, or the default one.
    """

    members: dict[str, Any]
    signature_name: str


@dataclasses.dataclass(frozen=True)
class PredictRequest:
    """What ``:predict`` is to run.

    Args:
        signature_name: signature to call.
        inputs: array of each input by its alias.
        row_format: whether the body had ``instances``, which decides how the reply is laid out.
    """

    signature_name: str
    inputs: dict[str, Array]
    row_format: bool


@dataclasses.dataclass(frozen=True)
class ExamplesRequest:
    """What ``:classify`` or ``:regress`` is to run.

    Args:
        signature_name: signature to call; its one input is named ``inputs``.
        examples: serialized ``tf.train.Example`` messages, an array of bytes objects (batch,).
    """

    signature_name: str
    examples: Array

    @property
    def inputs(self) -> dict[str, Array]:
        """The examples as the signature takes them."""
        return {"inputs": self.examples}


def read_document(body: bytes) -> Document:
    """Parses a body.

    Raises:
        ServingError: INVALID_ARGUMENT for no JSON, no object, or a signature name of another type.
    """
    value = parse_json(body)
    if not isinstance(value, dict):
        raise _error(f"JSON Value: {describe(value)} Is not object")
    name = value.get("signature_name", "")
    if not isinstance(name, str):
        raise _error(
            f"JSON Value: {describe(value)} not formatted correctly. 'signature_name' key must be "
            "a string value."
        )
    return Document(value, name or DEFAULT_SIGNATURE_NAME)


def parse_predict(body: bytes | Document, signatures: Mapping[str, Signature]) -> PredictRequest:
    """Reads a ``:predict`` request.

    Args:
        body: the body, or what `read_document` made of it.
        signatures: the model's, by name.

    Raises:
        ServingError: INVALID_ARGUMENT, or UNIMPLEMENTED for an input type that JSON cannot hold.
    """
    document = body if isinstance(body, Document) else read_document(body)
    signature = signatures.get(document.signature_name)
    if signature is None:
        raise _error(
            f'Serving signature name: "{document.signature_name}" not found in signature def'
        )
    if not signature.inputs:
        named = document.members.get("signature_name") or "DEFAULT"
        raise _error(f"Failed to get input map for signature: {named}")
    members = document.members
    if "instances" in members:
        if "inputs" in members:
            raise _error(
                f"JSON Value: {describe(members)} Not formatted correctly expecting only one of "
                "'inputs' or 'instances' keys to exist "
            )
        instances = members["instances"]
        if not isinstance(instances, list):
            raise _error(
                f"JSON Value: {describe(members)} Expecting 'instances' to be an list/array"
            )
        if not instances:
            raise _error(f"JSON Value: {describe(members)} No values in 'instances' array")
        inputs = rows.build_tensors(instances, signature.inputs)
    elif "inputs" in members:
        inputs = _build_columns(members["inputs"], signature.inputs)
    else:
        raise _error("Missing 'inputs' or 'instances' key")
    check_input_names(signature, inputs.keys())
    return PredictRequest(signature.name, inputs, row_format="instances" in members)


def _build_columns(value: Any, specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    if not isinstance(value, dict) or is_base64_object(value):
        if len(specs) > 1:
            raise _error(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        return {alias: build_tensor(value, spec) for alias, spec in specs.items()}
    tensors = {}
    for alias, spec in specs.items():
        if alias not in value:
            raise _error(f"Missing named input: {alias} in 'inputs' object.")
        tensors[alias] = build_tensor(value[alias], spec)
    return tensors


def read_examples(body: bytes) -> ExamplesRequest:
    """Reads a ``:classify`` or ``:regress`` request as far as no signature is needed.

    Raises:
        ServingError: INVALID_ARGUMENT for anything but an object with a list of examples.
    """
    document = read_document(body)
    members = document.members
    context = serialize_example(members["context"]) if "context" in members else b""
    if "examples" not in members:
        raise _error(
            f"JSON Value: {describe(members)} When method is classify, key 'examples' is expected "
            "and was not found"
        )
    examples = members["examples"]
    if not isinstance(examples, list):
        raise _error(
            f"JSON Value: {describe(members)} Expecting 'examples' value to be an list/array"
        )
    if not examples:
        raise _error(f"JSON Value: {describe(members)} 'examples' value is an empty array")
    # Messages of one type merge when they are concatenated: the context's features and the own.
    serialized = np.empty(len(examples), object)
    serialized[:] = [context + serialize_example(example) for example in examples]
    return ExamplesRequest(document.signature_name, serialized)


def parse_classify(
    body: bytes | ExamplesRequest, signatures: Mapping[str, Signature]
) -> ExamplesRequest:
    """Reads a ``:classify`` request.

    Args:
        body: the body, or what `read_examples` made of it.
        signatures: the model's, by name.

    Raises:
        ServingError: INVALID_ARGUMENT for a bad body or a signature that classifies no examples.
    """
    request = body if isinstance(body, ExamplesRequest) else read_examples(body)
    check_classify_signature(_find_signature(request, signatures))
    return request


def parse_regress(
    body: bytes | ExamplesRequest, signatures: Mapping[str, Signature]
) -> ExamplesRequest:
    """Reads a ``:regress`` request; see `parse_classify`."""
    request = body if isinstance(body, ExamplesRequest) else read_examples(body)
    check_regress_signature(_find_signature(request, signatures))
    return request


def _find_signature(request: ExamplesRequest, signatures: Mapping[str, Signature]) -> Signature:
    if request.signature_name not in signatures:
        raise _error(f"No signature was found with the name: {request.signature_name}")
    return signatures[request.signature_name]


def _error(message: str) -> ServingError:
    return ServingError("INVALID_ARGUMENT", message)
