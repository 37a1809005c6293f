"""JSON objects of features to serialized ``tf.train.Example`` messages.

The wire format is written here, byte by byte, since a message of three levels needs no compiler:
``Example { Features features = 1 }``, ``Features { map<string, Feature> feature = 1 }``,
``Feature { oneof { BytesList = 1, FloatList = 2, Int64List = 3 } }``, each list
``{ repeated value = 1 }``, numbers packed. Source: tensorflow/core/example/feature.proto.
"""

from __future__ import annotations

import struct
from typing import Any, Literal

import numpy as np

from serving.errors import ServingError
from serving.rest.binary import decode_base64_object, is_base64_object
from serving.rest.json_values import is_double, list_members, name_type, to_bytes

FeatureKind = Literal["bytes", "float", "int64"]

_FIELD_OF_KIND = {"bytes": 1, "float": 2, "int64": 3}
_HIGHEST_INT64 = 2**63 - 1


def serialize_example(value: Any) -> bytes:
    """Serializes one JSON object of features.

    Args:
        value: an object; each member is a feature: a number, string, bool or ``{"b64": …}``, or a
            list of these. Whole numbers and bools become int64, other numbers float, strings bytes.

    Returns:
        The message. Of a name that stands twice the last feature counts.

    Raises:
        ServingError: INVALID_ARGUMENT where it is no object, or a feature is mixed, nested or null.
    """
    if not isinstance(value, dict):
        raise _error(f"Example must be JSON object but got JSON {name_type(value)}")
    features = b""
    # A map's entries may repeat a key on the wire, and the last one counts, as it does here.
    for name, content in list_members(value):
        feature = _serialize_feature(name, content if isinstance(content, list) else [content])
        features += _field(1, _field(1, to_bytes(name)) + _field(2, feature))
    return _field(1, features) if features else b""


def _serialize_feature(name: str, values: list[Any]) -> bytes:
    kind: FeatureKind | None = None
    converted: list[Any] = []
    for value in values:
        value_kind, item = _convert(name, value)
        if kind not in (None, value_kind):
            raise _error(f"Unexpected element type in feature: {name} expecting type: {kind}")
        if value_kind == "int64" and item > _HIGHEST_INT64:
            raise _error(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        kind = value_kind
        converted.append(item)
    if kind is None:
        return b""
    if kind == "bytes":
        values_field = b"".join(_field(1, item) for item in converted)
    elif kind == "float":
        with np.errstate(over="ignore"):
            packed = np.array(converted, np.float64).astype("<f4").tobytes()
        values_field = _field(1, packed)
    else:
        values_field = _field(1, b"".join(_varint(item) for item in converted))
    return _field(_FIELD_OF_KIND[kind], values_field)


def _convert(name: str, value: Any) -> tuple[FeatureKind, Any]:
    if isinstance(value, bool):
        return "int64", int(value)
    if isinstance(value, str):
        return "bytes", to_bytes(value)
    if is_base64_object(value):
        return "bytes", decode_base64_object(value)
    if value is None or isinstance(value, (list, dict)):
        raise _error(f"Feature: {name} has element with unexpected JSON type: {name_type(value)}")
    return ("float", float(value)) if is_double(value) else ("int64", value)


def _field(number: int, content: bytes) -> bytes:
    """A field whose content has a length: message, string, bytes or packed numbers."""
    return struct.pack("B", number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; a negative number as its 64 bits."""
    value &= 2**64 - 1
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _error(message: str) -> ServingError:
    return ServingError("INVALID_ARGUMENT", message)
