"""Nested JSON lists to arrays, with TensorFlow Serving's checks in its words and its order.

There are two ways: `try_regular_tensor` converts at the speed of C and gives up on anything that
is wrong; `append_values` goes value by value, as TensorFlow Serving does, and knows what to say.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.errors import ServingError
from serving.rest.binary import decode_base64_object
from serving.rest.dtypes import JSON_TYPES, NUMPY_TYPES, find_limits, name_in_messages
from serving.rest.json_text import describe
from serving.rest.json_values import is_double, name_type, to_bytes
from serving.signatures import TensorSpec

Array = npt.NDArray[Any]


def find_shape(value: Any) -> list[int]:
    """Sizes of the nested lists, as far as the first item of each tells; empty for a scalar."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def build_tensor(value: Any, spec: TensorSpec) -> Array:
    """Converts one JSON tensor.

    Args:
        value: a scalar or nested lists.
        spec: the input that it is for; its type is what counts, the model checks the shape.

    Returns:
        An array of the JSON's own shape.

    Raises:
        ServingError: INVALID_ARGUMENT for lists that are ragged or mixed, a value of another type
            or out of range, or more dimensions than an array can have; UNIMPLEMENTED for a type
            that JSON has no values for.
    """
    array = try_regular_tensor(value, spec)
    if array is None:
        shape = find_shape(value)
        values: list[Any] = []
        append_values(value, shape, spec.dtype, values)
        array = make_array(values, shape, spec)
    return array


def try_regular_tensor(value: Any, spec: TensorSpec) -> Array | None:
    """Converts a JSON tensor if nothing is wrong with it, and gives None otherwise."""
    shape = find_shape(value)
    values = [value]
    for size in shape:
        if not all(type(item) is list and len(item) == size for item in values):
            return None
        values = list(itertools.chain.from_iterable(values))
    dtype = NUMPY_TYPES.get(spec.dtype)
    if dtype is None or not set(map(type, values)) <= JSON_TYPES[dtype.kind]:
        return None
    if dtype.kind in "iu" and values:
        lowest, highest = find_limits(spec.dtype)
        if min(values) < lowest or max(values) > highest:
            return None
    if dtype.kind == "O":
        try:
            values = [_convert_string(item) for item in values]
        except ServingError:
            return None
    return make_array(values, shape, spec)


def append_values(value: Any, shape: Sequence[int], dtype: str, values: list[Any]) -> int:
    """Appends the scalars of a JSON tensor, checked one by one in their order.

    Args:
        value: a scalar or nested lists.
        shape: what its first items promise, see `find_shape`.
        dtype: TensorFlow's name of the type.
        values: where to append.

    Returns:
        The number of values appended.

    Raises:
        ServingError: as `build_tensor` does.
    """
    before = len(values)
    rank = len(shape)
    # One iterator for each list that is open: recursion would end at some hundred levels.
    open_lists = [iter([value])]
    while open_lists:
        level = len(open_lists) - 1
        try:
            item = next(open_lists[-1])
        except StopIteration:
            open_lists.pop()
            continue
        if not isinstance(item, list):
            if level != rank:
                raise _error(
                    f"JSON Value: {describe(item)} found at incorrect level: {level + 1} in the "
                    f"JSON DOM. Expected at level: {rank}"
                )
            values.append(_convert(item, dtype))
            continue
        if level >= rank:
            raise _error(f"Encountered list at unexpected level: {level} expected < {rank}")
        if len(item) != shape[level]:
            raise _error(
                f"Encountered list at unexpected size: {len(item)} at level: {level} expected "
                f"size: {shape[level]}"
            )
        open_lists.append(iter(item))
    return len(values) - before


def make_array(values: list[Any], shape: Sequence[int], spec: TensorSpec) -> Array:
    """Array of values that have been checked.

    Raises:
        ServingError: INVALID_ARGUMENT for more dimensions than an array can have; UNIMPLEMENTED for
            an empty list of a type that JSON has no values for.
    """
    dtype = NUMPY_TYPES.get(spec.dtype)
    if dtype is None:  # an empty list; its values would have been refused
        raise _conversion_error([], spec.dtype)
    if dtype == np.float32:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, as in C
            flat = np.array(values, np.float64).astype(np.float32)
    elif dtype == np.dtype(object):
        flat = np.empty(len(values), object)
        flat[:] = values
    else:
        flat = np.array(values, dtype)
    try:
        return flat.reshape(shape)
    except ValueError as error:
        raise _error(f"tensor parsing error: {spec.alias}") from error


def _convert(value: Any, dtype: str) -> Any:
    numpy_type = NUMPY_TYPES.get(dtype)
    kind = None if numpy_type is None else numpy_type.kind
    if isinstance(value, dict):
        if kind == "O":
            return decode_base64_object(value)
        raise _type_error(value, dtype)
    if kind is None:
        raise _conversion_error(value, dtype)
    if type(value) not in JSON_TYPES[kind]:
        raise _type_error(value, dtype)
    if kind in "iu":
        lowest, highest = find_limits(dtype)
        if is_double(value) or not lowest <= value <= highest:
            raise _type_error(value, dtype)
    return _convert_string(value) if kind == "O" else value


def _convert_string(value: Any) -> bytes:
    return to_bytes(value) if isinstance(value, str) else decode_base64_object(value)


def _type_error(value: Any, dtype: str) -> ServingError:
    return _error(
        f"JSON Value: {describe(value)} Type: {name_type(value)} is not of expected type: "
        f"{name_in_messages(dtype)}"
    )


def _conversion_error(value: Any, dtype: str) -> ServingError:
    return ServingError(
        "UNIMPLEMENTED",
        f"Conversion of JSON Value: {describe(value)} to type: {name_in_messages(dtype)}",
    )


def _error(message: str) -> ServingError:
    return ServingError("INVALID_ARGUMENT", message)
