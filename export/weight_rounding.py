"""Large weights of a TFLite file in float16 or in 8 bits, with all that is small left as it is.

TensorFlow's converter can do both, but in float16 it rounds biases and the first layers too, which
save nothing and to which a network may be sensitive: in mn04 fine-tuned on ESC-10 the rounding of
the stem's and the first block's biases alone changes logits by up to 0.65 %. And in 8 bits it
rounds depthwise kernels as well, for which XNNPACK then has no code. Logits of mn04 over three test
folds of ESC-10, the converter's and these: in float16 wrong by 1.9 % and by 0.12 % at most; in 8
bits by 2.0 % and by 1.1 % in the median, in 3.0 ms and in 1.7 ms on one core.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

_Operators = schema.BuiltinOperator
_HALF = (_Operators.CONV_2D, _Operators.DEPTHWISE_CONV_2D, _Operators.FULLY_CONNECTED)
# Operator → its version that rounds its input to 8 bits when it runs, for weights with a scale for
# each channel.
_DYNAMIC = {_Operators.CONV_2D: 5, _Operators.FULLY_CONNECTED: 12}
_DEQUANTIZE_HALF_VERSION = 3
_WEIGHTS = 1  # which input of an operator they are
_FEWEST_VALUES = 1024  # as the converter has it for 8 bits
_MAX_INT8 = 127
_LARGEST_HALF = float(np.finfo(np.float16).max)


def round_to_half(content: bytes) -> bytes:
    """Store large weights in float16. They are made float32 when the file is loaded.

    Weights beyond float16's range stay as they are.

    Args:
        content: a ``.tflite`` file in float32.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    code = _add_code(model, _Operators.DEQUANTIZE, _DEQUANTIZE_HALF_VERSION)
    for graph in model.subgraphs:
        places = _find_weights(model, graph, _HALF)
        added = []
        for place in places:
            values = _read_values(model, graph.tensors[place])
            if np.abs(values).max() <= _LARGEST_HALF:
                added.append(_store_half(model, graph, place, values, code))
        graph.operators = [*added, *graph.operators]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def round_to_bytes(content: bytes) -> bytes:
    """Store large weights of convolutions and dense layers in 8 bits, one scale for each channel.

    Their inputs are rounded when they run, to the range that they have then.

    Args:
        content: a ``.tflite`` file in float32.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    for graph in model.subgraphs:
        for place in _find_weights(model, graph, tuple(_DYNAMIC)):
            _store_bytes(model, graph.tensors[place])
    for code in model.operatorCodes:
        code.version = max(code.version, _DYNAMIC.get(code.builtinCode, 1))
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _find_weights(model: Any, graph: Any, kinds: tuple[int, ...]) -> list[int]:
    """The large float32 constants that operators of some kinds have for weights, and others not."""
    kind_of = [code.builtinCode for code in model.operatorCodes]
    found: dict[int, bool] = {}
    for operator in graph.operators:
        for number, place in enumerate(operator.inputs):
            fits = number == _WEIGHTS and kind_of[operator.opcodeIndex] in kinds
            found[place] = found.get(place, True) and fits
    return [
        int(place)
        for place, fits in found.items()
        if fits and _is_large_constant(model, graph.tensors[place])
    ]


def _is_large_constant(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return (
        tensor.type == schema.TensorType.FLOAT32
        and data is not None
        and len(data) >= _FEWEST_VALUES * np.dtype(np.float32).itemsize
    )


def _store_half(model: Any, graph: Any, place: int, values: np.ndarray, code: int) -> Any:
    """Add a float16 constant, and return the operator that makes the old tensor of it."""
    tensor, half = graph.tensors[place], schema.TensorT()
    half.name, half.shape = _text(tensor.name) + "_float16", tensor.shape
    half.type = schema.TensorType.FLOAT16
    half.buffer = _add_buffer(model, values.astype(np.float16))
    graph.tensors.append(half)
    tensor.buffer = 0
    operator = schema.OperatorT()
    operator.opcodeIndex = code
    operator.inputs = np.array([len(graph.tensors) - 1], np.int32)
    operator.outputs = np.array([place], np.int32)
    return operator


def _store_bytes(model: Any, tensor: Any) -> None:
    values = _read_values(model, tensor)
    largest = np.abs(values.reshape(len(values), -1)).max(axis=1)
    scales = np.where(largest > 0.0, largest / _MAX_INT8, 1.0).astype(np.float32)
    shape = (-1,) + (1,) * (values.ndim - 1)
    steps = np.clip(np.round(values / scales.reshape(shape)), -_MAX_INT8, _MAX_INT8)
    tensor.type = schema.TensorType.INT8
    tensor.buffer = _add_buffer(model, steps.astype(np.int8))
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = scales
    tensor.quantization.zeroPoint = np.zeros(len(scales), np.int64)
    tensor.quantization.quantizedDimension = 0


def _read_values(model: Any, tensor: Any) -> np.ndarray:
    data = np.asarray(model.buffers[tensor.buffer].data, np.uint8)
    return data.view(np.float32).reshape([int(size) for size in tensor.shape])


def _add_buffer(model: Any, values: np.ndarray) -> int:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def _add_code(model: Any, operator: int, version: int) -> int:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = operator
    code.version = version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
