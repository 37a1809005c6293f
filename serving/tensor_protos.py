"""NumPy arrays as TensorFlow's messages, the way TensorFlow Serving writes them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.errors import ServingError

_FIELDS = {
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val",
    types_pb2.DT_COMPLEX64: "scomplex_val",
    types_pb2.DT_COMPLEX128: "dcomplex_val",
    types_pb2.DT_HALF: "half_val",
    types_pb2.DT_BFLOAT16: "half_val",
}
#: What has no field of its own lies in the one of 32-bit integers.
_OTHER_FIELD = "int_val"


def read_tensor(alias: str, proto: tensor_pb2.TensorProto, max_bytes: int) -> np.ndarray:
    """Make an array of a message.

    Args:
        alias: name of the input, for the error.
        proto: any dtype; strings become an array of dtype object that holds bytes.
        max_bytes: what the array may take. A message may say one value for a whole array, so a
            short one can stand for more memory than there is.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    try:
        dtype = tf.dtypes.as_dtype(proto.dtype)
        if proto.tensor_shape.unknown_rank or any(size < 0 for size in sizes):
            raise ValueError("a shape that is not known")
        num_bytes = math.prod(sizes) * max(dtype.size or 0, 1)
        if num_bytes > max_bytes:
            raise ServingError(
                "INVALID_ARGUMENT", f"{alias} would take {num_bytes} bytes, more than {max_bytes}"
            )
        array: np.ndarray = tf.make_ndarray(proto)
    except (TypeError, ValueError, KeyError):
        raise ServingError("INVALID_ARGUMENT", f"tensor parsing error: {alias}") from None
    return array


def write_tensor(array: np.ndarray, proto: Any, as_content: bool = False) -> None:
    """Fill a message with an array.

    Args:
        array: of any dtype; one of dtype object holds bytes.
        proto: an empty ``TensorProto``.
        as_content: numbers as raw bytes in ``tensor_content``, in place of one field for each
            dtype, which clients in other languages often read without looking for the other.
    """
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if array.dtype.kind in "OSU":
        proto.dtype = types_pb2.DT_STRING
        proto.string_val.extend(array.ravel().tolist())
        return
    proto.dtype = tf.dtypes.as_dtype(array.dtype).as_datatype_enum
    if as_content:
        proto.tensor_content = array.tobytes()
        return
    field = _FIELDS.get(proto.dtype, _OTHER_FIELD)
    values = array.ravel()
    if field == "half_val":
        values = values.view(np.uint16)
    elif field in ("scomplex_val", "dcomplex_val"):
        values = values.view(values.real.dtype)
    getattr(proto, field).extend(values.tolist())
