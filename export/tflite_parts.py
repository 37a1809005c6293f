"""TFLite files put together from parts that were converted one by one.

A converter quantises all of a graph or none of it. So the front end, the network and the scores
behind the logits are converted apart, each in the precision that it needs, and are joined here: the
outputs of one part are the inputs of the next ones, by their names. All signatures are of one
graph: each names the outputs that it gives. (A graph for each would be computed without what others
give, but MediaPipe refuses files of more than one graph.)
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from esc_tf.errors import ExportError

_RUNTIME_VERSION = "min_runtime_version"
_RUNTIME_VERSION_BYTES = 16
_NO_BUFFER = 0


def join_parts(
    parts: Sequence[bytes], inputs: Sequence[str], signatures: Mapping[str, Sequence[str]]
) -> bytes:
    """Join models into one.

    Args:
        parts: ``.tflite`` files of one signature each, in the order of computation. An input has
            the name of an output of a part before, or is one of the whole.
        inputs: names of the inputs of every signature.
        signatures: name of a signature → names of its outputs. The file's outputs, for those that
            know no signatures, are all of them in the order of their first mention.

    Returns:
        The ``.tflite`` file.

    Raises:
        ExportError: a part has control flow, which cannot be joined.
    """
    whole = _Whole()
    for part in parts:
        whole.add(flatbuffer_utils.read_model_from_bytearray(bytearray(part)))
    whole.add_signatures(inputs, signatures)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(whole.finish()))


class _Whole:
    """All tensors and operators of the parts, and the model that is made of them."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        # Of each tensor; where its part keeps the values of a constant.
        self._buffers: list[Any] = []
        self._operators: list[Any] = []
        # Name of an input or output → its tensor.
        self._places: dict[str, int] = {}
        self._codes: dict[tuple[Any, ...], int] = {}
        self._runtime_version = b""
        self._model = schema.ModelT()
        self._model.version = 3
        self._model.description = "esc_tf"
        self._model.operatorCodes = []
        self._model.subgraphs = []
        self._model.signatureDefs = []
        # The first one is empty, and is that of all tensors that are no constants.
        self._model.buffers = [schema.BufferT()]

    def add(self, part: Any) -> None:
        """Add a part's tensors and operators."""
        if len(part.subgraphs) != 1 or len(part.signatureDefs) != 1:
            raise ExportError(
                "a part of the model has control flow (a loop or a condition), which a TFLite file "
                "of several parts cannot have; write the layer without it"
            )
        (graph,), (signature,) = part.subgraphs, part.signatureDefs
        codes = [self._add_code(code) for code in part.operatorCodes]
        known = {
            item.tensorIndex: self._places[_text(item.name)]
            for item in signature.inputs
            if _text(item.name) in self._places
        }
        places = []
        for index, tensor in enumerate(graph.tensors):
            if index in known:
                places.append(known[index])
                continue
            places.append(len(self._tensors))
            self._tensors.append(tensor)
            self._buffers.append(part.buffers[tensor.buffer])
        for operator in graph.operators:
            operator.opcodeIndex = codes[operator.opcodeIndex]
            self._operators.append(_renumber(operator, places))
        for item in [*signature.inputs, *signature.outputs]:
            name, place = _text(item.name), places[item.tensorIndex]
            if name not in self._places:
                self._places[name] = place
                self._tensors[place].name = name
        for item in part.metadata or []:
            if _text(item.name) == _RUNTIME_VERSION:
                version = bytes(part.buffers[item.buffer].data).rstrip(b"\0")
                self._runtime_version = max(self._runtime_version, version, key=_read_version)

    def add_signatures(
        self, inputs: Sequence[str], signatures: Mapping[str, Sequence[str]]
    ) -> None:
        """Make one graph of all operators that some output needs, and name its signatures."""
        outputs = list(dict.fromkeys(name for names in signatures.values() for name in names))
        needed = {self._places[name] for name in (*inputs, *outputs)}
        operators = []
        for operator in reversed(self._operators):
            if needed.intersection(operator.outputs):
                operators.append(operator)
                for indices in (operator.inputs, operator.outputs, operator.intermediates):
                    needed.update(index for index in _list(indices) if index >= 0)
        used = sorted(needed)
        places = {index: place for place, index in enumerate(used)}

        graph = schema.SubGraphT()
        graph.name = "main"
        graph.tensors = [self._tensors[index] for index in used]
        stored: dict[int, int] = {}
        for index in used:
            buffer = self._buffers[index]
            if id(buffer) not in stored:
                stored[id(buffer)] = self._add_buffer(buffer)
            self._tensors[index].buffer = stored[id(buffer)]
        graph.operators = [_renumber(operator, places) for operator in reversed(operators)]
        graph.inputs = _integers([places[self._places[name]] for name in inputs])
        graph.outputs = _integers([places[self._places[name]] for name in outputs])
        self._model.subgraphs.append(graph)
        for key, names in signatures.items():
            signature = schema.SignatureDefT()
            signature.signatureKey = key
            signature.subgraphIndex = 0
            for field, members in (("inputs", inputs), ("outputs", names)):
                maps = [_map_tensor(name, places[self._places[name]]) for name in members]
                setattr(signature, field, maps)
            self._model.signatureDefs.append(signature)

    def finish(self) -> Any:
        """The model."""
        self._model.metadata = []
        if self._runtime_version:
            buffer, entry = schema.BufferT(), schema.MetadataT()
            text = self._runtime_version.ljust(_RUNTIME_VERSION_BYTES, b"\0")
            buffer.data = np.frombuffer(text, np.uint8)
            entry.name, entry.buffer = _RUNTIME_VERSION, len(self._model.buffers)
            self._model.buffers.append(buffer)
            self._model.metadata.append(entry)
        return self._model

    def _add_code(self, code: Any) -> int:
        key = (code.builtinCode, code.deprecatedBuiltinCode, code.customCode, code.version)
        if key not in self._codes:
            self._codes[key] = len(self._model.operatorCodes)
            self._model.operatorCodes.append(code)
        return self._codes[key]

    def _add_buffer(self, buffer: Any) -> int:
        if buffer.data is None or len(buffer.data) == 0:
            return _NO_BUFFER
        self._model.buffers.append(buffer)
        return len(self._model.buffers) - 1


def _renumber(operator: Any, places: Sequence[int] | Mapping[int, int]) -> Any:
    """A copy of an operator whose tensors have other numbers; -1 is an input left out."""
    renumbered = copy.copy(operator)
    for field in ("inputs", "outputs", "intermediates"):
        indices = getattr(operator, field)
        if indices is not None:
            numbers = [places[index] if index >= 0 else -1 for index in indices]
            setattr(renumbered, field, _integers(numbers))
    return renumbered


def _list(indices: Any) -> Sequence[int]:
    return [] if indices is None else list(indices)


def _map_tensor(name: str, index: int) -> Any:
    item = schema.TensorMapT()
    item.name, item.tensorIndex = name, index
    return item


def _integers(values: Sequence[int]) -> np.ndarray:
    return np.array(values, np.int32)


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _read_version(version: bytes) -> tuple[int, ...]:
    return tuple(int(number) for number in version.decode().split(".") if number.isdigit())
