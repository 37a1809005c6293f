"""Results to JSON bodies, laid out as TensorFlow Serving lays them out.

The content type of all of them is ``application/json``. With NaN, Infinity or bytes that are no
UTF-8 in the result a body is not strict JSON; TensorFlow Serving's is not either.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from serving.errors import ServingError
from serving.rest.binary import BASE64_NAME
from serving.rest.decimals import format_decimals
from serving.rest.dtypes import NUMPY_TYPES, name_in_messages
from serving.rest.example_signatures import CLASSES, REGRESSION_OUTPUTS, SCORES
from serving.rest.json_text import indent, join_list, join_object, quote
from serving.rest.json_values import to_bytes, to_text
from serving.rest.tensors import Array
from serving.signatures import TensorSpec

_BYTES_SUFFIX = "_bytes"


class VersionStatus(Protocol):
    """State of one version of a model."""

    @property
    def version(self) -> int:
        """Number of the version."""

    @property
    def state(self) -> str:
        """START, LOADING, AVAILABLE, UNLOADING or END."""

    @property
    def error_code(self) -> str:
        """Canonical code by name; OK where nothing failed."""

    @property
    def error_message(self) -> str:
        """What failed; empty where nothing did."""


def format_predict(
    outputs: Mapping[str, Array], specs: Mapping[str, TensorSpec], row_format: bool
) -> bytes:
    """Body of a ``:predict`` reply.

    Args:
        outputs: the result by alias; strings as arrays of bytes objects.
        specs: the signature's outputs.
        row_format: ``predictions``, one for each row of the batch, instead of ``outputs``.

    Returns:
        The body. A single output has no name; strings of an output named ``…_bytes`` are base64.

    Raises:
        ServingError: INVALID_ARGUMENT for a type that JSON has no values for, no outputs at all,
            or, in row format, outputs that differ in batch size or have none.
    """
    if not outputs:
        raise _error("Cannot convert empty tensor map to JSON")
    named = sorted(outputs.items())
    if row_format:
        return to_bytes(_format_rows(named, specs))
    texts = [
        (alias, _format_tensor(array, specs[alias], 1 if len(named) == 1 else 2, False))
        for alias, array in named
    ]
    body = texts[0][1] if len(texts) == 1 else join_object(texts, 1)
    return to_bytes(join_object([("outputs", body)], 0))


def _format_rows(named: Sequence[tuple[str, Array]], specs: Mapping[str, TensorSpec]) -> str:
    batch_size = None
    for alias, array in named:
        if array.ndim == 0:
            raise _error(f"Tensor name: {alias} has no shape information ")
        if batch_size not in (None, len(array)):
            raise _error(
                f"Tensor name: {alias} has inconsistent batch size: {len(array)} expecting: "
                f"{batch_size}"
            )
        batch_size = len(array)
    if len(named) == 1:
        rows = _format_items(named[0][1], specs[named[0][0]], 2, True)
        body = f"[{', '.join(rows)}{indent(1)}]" if rows else "[]"
    else:
        columns = [_format_items(array, specs[alias], 3, True) for alias, array in named]
        aliases = [alias for alias, _ in named]
        rows = [
            join_object(list(zip(aliases, row, strict=True)), 2)
            for row in zip(*columns, strict=True)
        ]
        body = join_list(rows, 1, False)
    return join_object([("predictions", body)], 0)


def _format_tensor(array: Array, spec: TensorSpec, level: int, single_line: bool) -> str:
    if array.ndim == 0:
        return _format_scalars(array, spec, level)[0]
    return join_list(_format_items(array, spec, level + 1, single_line), level, single_line)


def _format_items(array: Array, spec: TensorSpec, level: int, single_line: bool) -> list[str]:
    """Text of each item along the first axis, for lists with ``level`` lists and objects around."""
    texts = _format_scalars(array, spec, level + array.ndim - 1)
    for axis in range(array.ndim - 1, 0, -1):
        size = array.shape[axis]
        count = int(np.prod(array.shape[:axis]))
        texts = [
            join_list(texts[row * size : (row + 1) * size], level + axis - 1, single_line)
            for row in range(count)
        ]
    return texts


def _format_scalars(array: Array, spec: TensorSpec, level: int) -> list[str]:
    values = array.reshape(-1)
    kind = NUMPY_TYPES[spec.dtype].kind if spec.dtype in NUMPY_TYPES else None
    if not values.size:
        return []
    if kind == "f":
        return format_decimals(values)
    if kind in ("i", "u"):
        return list(map(str, values.tolist()))
    if kind == "b":
        return ["true" if value else "false" for value in values.tolist()]
    if kind != "O":
        raise _error(f"Failed to write JSON value for tensor type: {name_in_messages(spec.dtype)}")
    if spec.alias.endswith(_BYTES_SUFFIX):
        encoded = (quote(base64.b64encode(value).decode("ascii")) for value in values.tolist())
        return [join_object([(BASE64_NAME, text)], level) for text in encoded]
    return [quote(to_text(value)) for value in values.tolist()]


def format_classify(
    outputs: Mapping[str, Array], specs: Mapping[str, TensorSpec], num_examples: int
) -> bytes:
    """Body of a ``:classify`` reply: label and score of each class, for each example.

    Args:
        outputs: ``classes``, strings (batch, class), and ``scores``, float32 (batch, class), or one
            of them; the missing labels are empty, the missing scores 0.
        specs: the signature's outputs.
        num_examples: size of the request's batch.

    Raises:
        ServingError: INVALID_ARGUMENT for outputs of another type or shape.
    """
    shapes = {}
    for alias, dtype in ((CLASSES, "DT_STRING"), (SCORES, "DT_FLOAT")):
        if alias in outputs:
            _check_classification(alias, outputs[alias], specs[alias].dtype, dtype, num_examples)
            shapes[alias] = outputs[alias].shape
    num_classes = max(shape[1] for shape in shapes.values())
    if len({shape[1] for shape in shapes.values()}) > 1:
        raise _error(
            "Tensors class and score should match in dim_size(1). Got "
            f"{shapes[CLASSES][1]} vs. {shapes[SCORES][1]}"
        )
    size = num_examples * num_classes
    labels = ['""'] * size
    if CLASSES in outputs:
        labels = [quote(to_text(label)) for label in outputs[CLASSES].reshape(-1).tolist()]
    scores = ["0.0"] * size
    if SCORES in outputs:
        scores = format_decimals(outputs[SCORES].reshape(-1))
    pairs = [f"[{label}, {score}]" for label, score in zip(labels, scores, strict=True)]
    results = [
        join_list(pairs[row * num_classes : (row + 1) * num_classes], 2, True)
        for row in range(num_examples)
    ]
    return to_bytes(join_object([("results", f"[{', '.join(results)}{indent(1)}]")], 0))


def _check_classification(
    alias: str, array: Array, dtype: str, expected: str, num_examples: int
) -> None:
    if array.ndim != 2:
        raise _error(
            f"Expected Tensor shape: [batch_size num_classes] but got {_show_shape(array)}"
        )
    if dtype != expected:
        raise _error(f"Expected {alias} Tensor of {expected}. Got: {dtype}")
    if len(array) != num_examples:
        raise _error(f"Expected {alias} output batch size of {num_examples}. Got: {len(array)}")


def format_regress(
    outputs: Mapping[str, Array], specs: Mapping[str, TensorSpec], num_examples: int
) -> bytes:
    """Body of a ``:regress`` reply: one number for each example.

    Args:
        outputs: ``outputs``, float32 (batch,) or (batch, 1).
        specs: the signature's outputs.
        num_examples: size of the request's batch.

    Raises:
        ServingError: INVALID_ARGUMENT for an output of another type or shape.
    """
    array = outputs[REGRESSION_OUTPUTS]
    dtype = specs[REGRESSION_OUTPUTS].dtype
    if array.ndim != 1 and (array.ndim != 2 or array.shape[1] != 1):
        raise _error(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{_show_shape(array)}"
        )
    if len(array) != num_examples:
        raise _error(
            f"Input batch size did not match output batch size: {num_examples} vs. {len(array)}"
        )
    if dtype != "DT_FLOAT":
        raise _error(f"Expected output Tensor of DT_FLOAT.  Got: {dtype}")
    texts = format_decimals(array.reshape(-1))
    return to_bytes(join_object([("results", join_list(texts, 1, True))], 0))


def format_status(versions: Iterable[VersionStatus]) -> bytes:
    """Body of a model status reply, the newest version first."""
    message = {
        "model_version_status": [
            {
                "version": str(status.version),
                "state": status.state,
                "status": {
                    "error_code": status.error_code,
                    "error_message": status.error_message,
                },
            }
            for status in sorted(versions, key=lambda status: -status.version)
        ]
    }
    return to_bytes(f"{_format_message(message)}\n")


def format_metadata(model_name: str, version: int, signature_defs: Mapping[str, Any]) -> bytes:
    """Body of a metadata reply.

    Args:
        model_name: the model.
        version: the version that these signatures are of.
        signature_defs: TensorFlow's ``SignatureDef`` messages by name.
    """
    model_spec = {"name": model_name, "version": str(version), "signature_name": ""}
    signatures = {name: _message_to_dict(signature_defs[name]) for name in sorted(signature_defs)}
    return to_bytes(
        f'{{\n"model_spec":{_format_message(model_spec)}\n,\n'
        f'"metadata": {{"signature_def": {_format_message({"signature_def": signatures})}\n}}\n}}\n'
    )


def _message_to_dict(message: Any) -> dict[str, Any]:
    from google.protobuf import json_format

    try:
        return json_format.MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
    except TypeError:  # before protobuf 26, which TensorFlow 2.16 and 2.17 come with
        return json_format.MessageToDict(
            message, preserving_proto_field_name=True, including_default_value_fields=True
        )


def _format_message(message: dict[str, Any]) -> str:
    """JSON as protobuf prints it: one space for each level, UTF-8 as it is."""
    return json.dumps(message, indent=1, ensure_ascii=False)


def format_error(error: ServingError) -> bytes:
    """Body of a reply to a request that failed.

    Bytes of the request that are no UTF-8 show as replacement characters, so that the body is JSON
    for every client.
    """
    message = to_bytes(error.message).decode("utf-8", "replace")
    return to_bytes(join_object([("error", quote(message))], 0))


def _show_shape(array: Array) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _error(message: str) -> ServingError:
    return ServingError("INVALID_ARGUMENT", message)
