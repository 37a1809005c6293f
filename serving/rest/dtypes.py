"""TensorFlow's types: their names, NumPy's counterparts, and what JSON values each takes."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any

import numpy as np

#: The types that JSON tensors can have, by TensorFlow's name, and NumPy's for each. Strings are
#: arrays of objects that are bytes.
NUMPY_TYPES: Mapping[str, np.dtype[Any]] = types.MappingProxyType(
    {
        "DT_FLOAT": np.dtype(np.float32),
        "DT_DOUBLE": np.dtype(np.float64),
        "DT_INT8": np.dtype(np.int8),
        "DT_INT16": np.dtype(np.int16),
        "DT_INT32": np.dtype(np.int32),
        "DT_INT64": np.dtype(np.int64),
        "DT_UINT8": np.dtype(np.uint8),
        "DT_UINT32": np.dtype(np.uint32),
        "DT_UINT64": np.dtype(np.uint64),
        "DT_BOOL": np.dtype(np.bool_),
        "DT_STRING": np.dtype(object),
    }
)

#: The JSON values of each kind of NumPy type, as Python's types.
JSON_TYPES: Mapping[str, frozenset[type]] = types.MappingProxyType(
    {
        "f": frozenset({int, float}),
        "i": frozenset({int}),
        "u": frozenset({int}),
        "b": frozenset({bool}),
        "O": frozenset({str, dict}),
    }
)


def name_in_messages(dtype: str) -> str:
    """A type as TensorFlow's messages name it.

    >>> name_in_messages("DT_FLOAT"), name_in_messages("DT_HALF"), name_in_messages("DT_INT32_REF")
    ('float', 'half', 'int32_ref')
    """
    return dtype.removeprefix("DT_").lower()


def find_limits(dtype: str) -> tuple[int, int]:
    """The smallest and the largest value of a type of whole numbers, by TensorFlow's name."""
    limits = np.iinfo(NUMPY_TYPES[dtype])
    return int(limits.min), int(limits.max)
