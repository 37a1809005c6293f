"""What a TFLite file says of itself: labels, sample rate, description, version, licence.

This is TensorFlow Lite's model metadata: a flatbuffer in the file's ``TFLITE_METADATA``, and the
labels as a zip archive behind the model. With it MediaPipe's AudioClassifier runs a file as it is.
The tables are few, so they are written here field by field, and nobody needs MediaPipe to export.

Source: the public schema ``metadata_schema.fbs``, version 1.5.0 (file identifier ``M001``).
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from flatbuffers import number_types
from flatbuffers.table import Table

from esc_tf.errors import ExportError

PROBABILITIES = "probabilities"
SCORES = (PROBABILITIES, "logits")
LABELS_FILE = "labels.txt"
WAVEFORM = "waveform"
METADATA_NAME = "TFLITE_METADATA"

_FILE_IDENTIFIER = b"M001"
# Of the schema's version that has AudioProperties.
_MIN_PARSER_VERSION = "1.3.0"
_FEATURE_PROPERTIES, _AUDIO_PROPERTIES = 1, 4  # members of the union ContentProperties
_SCORE_THRESHOLDING = 3  # of the union ProcessUnitOptions
_TENSOR_AXIS_LABELS = 2  # of the enumeration AssociatedFileType
# Equal files for equal models, whenever they are made.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_NO_BUFFER = 0

_DESCRIPTIONS = {
    WAVEFORM: "One clip of mono audio, full scale 1.",
    "probabilities": "Probability of each class.",
    "logits": "What the probabilities are computed from, before softmax or sigmoid.",
}


@dataclass(frozen=True)
class ModelFacts:
    """What a file says of itself.

    Attributes:
        name: of the model.
        description: what it is for.
        version: of this export.
        label_names: name of each class, in the order of the scores.
        sample_rate_hz: rate of the waveform; None in what is read from a file of features.
        author: who made it; "" if that is not said.
        licence: under which licence it may be used; "" if that is not said.
        channels: of the waveform.
        front_end: for files of features: the settings of the front end that makes them.
        other_threshold: a sound of which no class is as probable as this is none of them; MediaPipe
            leaves lower probabilities out; None: not calibrated.
    """

    name: str
    description: str
    version: str
    label_names: tuple[str, ...]
    sample_rate_hz: int | None
    author: str = ""
    licence: str = ""
    channels: int = 1
    front_end: Mapping[str, Any] | None = None
    other_threshold: float | None = None


def add_metadata(content: bytes, facts: ModelFacts) -> bytes:
    """Write facts into a ``.tflite`` file.

    Its inputs and outputs are described by their names in the signatures, and the scores have the
    labels.

    Args:
        content: the file, without metadata.
        facts: what to say.

    Returns:
        The file with metadata and, behind it, ``labels.txt``.

    Raises:
        ExportError: the number of labels is not that of the scores, or one has a line break.
    """
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    for label in facts.label_names:
        if label.splitlines() != [label]:
            raise ExportError(f"label {label!r} is empty or has a line break; rename the class")
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    (graph,) = model.subgraphs
    names = {
        item.tensorIndex: item.name.decode()
        for signature in model.signatureDefs
        for item in (*signature.inputs, *signature.outputs)
    }
    inputs = [_describe_input(names[index], facts) for index in graph.inputs]
    outputs = []
    for index in graph.outputs:
        if names[index] in SCORES:
            _check_label_count(graph.tensors[index].shape, facts.label_names, names[index])
        outputs.append(_describe_output(names[index], facts))

    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(_encode(_describe_model(facts, inputs, outputs)), np.uint8)
    entry.name, entry.buffer = METADATA_NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]

    archive = io.BytesIO(flatbuffer_utils.convert_object_to_bytearray(model))
    archive.seek(0, io.SEEK_END)
    with zipfile.ZipFile(archive, "a") as files:
        labels = "".join(f"{label}\n" for label in facts.label_names)
        files.writestr(zipfile.ZipInfo(LABELS_FILE, _ZIP_DATE), labels.encode())
    return archive.getvalue()


def read_metadata(content: bytes) -> ModelFacts:
    """Read what ``add_metadata`` has written. Needs no TensorFlow.

    Raises:
        ExportError: the file has no metadata, or no labels.
    """
    table = _find_metadata(content)
    if table is None:
        raise ExportError("the TFLite file has no metadata; export the model with this package")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as files:
            labels = tuple(files.read(LABELS_FILE).decode().splitlines())
    except (zipfile.BadZipFile, KeyError):
        raise ExportError(f"the TFLite file has no {LABELS_FILE}; export the model again") from None
    graph = _follow_vector(table, 3)[0]
    tensor = _follow_vector(graph, 2)[0]
    properties = _follow(_follow(tensor, 3), 1)
    is_audio = _read_number(_follow(tensor, 3), 0, number_types.Uint8Flags) == _AUDIO_PROPERTIES
    return ModelFacts(
        name=_read_text(table, 0),
        description=_read_text(table, 1),
        version=_read_text(table, 2),
        author=_read_text(table, 4),
        licence=_read_text(table, 5),
        label_names=labels,
        sample_rate_hz=_read_number(properties, 0) if is_audio else None,
        channels=_read_number(properties, 1) if is_audio else 1,
        front_end=None if is_audio else json.loads(_read_text(tensor, 1)),
        other_threshold=_read_threshold(_follow_vector(graph, 3)),
    )


def _read_threshold(outputs: Sequence[Table]) -> float | None:
    for output in outputs:
        for unit in _follow_vector(output, 4):
            if _read_number(unit, 0, number_types.Uint8Flags) == _SCORE_THRESHOLDING:
                options = _follow(unit, 1)
                place = options.Offset(_offset(0))
                # What is 0, the schema's default, is not written.
                return options.Get(number_types.Float32Flags, place + options.Pos) if place else 0.0
    return None


# --- what is written: field number → value, as the schema counts the fields


@dataclass(frozen=True)
class _Number:
    value: float
    kind: str = "Uint32"


def _describe_model(facts: ModelFacts, inputs: list[Any], outputs: list[Any]) -> dict[int, Any]:
    return {
        0: facts.name,
        1: facts.description,
        2: facts.version,
        3: [{2: inputs, 3: outputs}],
        4: facts.author,
        5: facts.licence,
        7: _MIN_PARSER_VERSION,
    }


def _describe_input(name: str, facts: ModelFacts) -> dict[int, Any]:
    if name == WAVEFORM:
        rate_hz, channels = _Number(facts.sample_rate_hz or 0), _Number(facts.channels)
        content = {0: _Number(_AUDIO_PROPERTIES, "Uint8"), 1: {0: rate_hz, 1: channels}}
        return {0: name, 1: _DESCRIPTIONS[name], 3: content}
    content = {0: _Number(_FEATURE_PROPERTIES, "Uint8"), 1: {}}
    return {0: name, 1: json.dumps(dict(facts.front_end or {})), 3: content}


def _describe_output(name: str, facts: ModelFacts) -> dict[int, Any]:
    content = {0: _Number(_FEATURE_PROPERTIES, "Uint8"), 1: {}}
    if name not in SCORES:
        return {0: name, 1: f"Activation {name}, inside the network.", 3: content}
    labels = {0: LABELS_FILE, 1: "One class a line.", 2: _Number(_TENSOR_AXIS_LABELS, "Uint8")}
    described = {0: name, 1: _DESCRIPTIONS[name], 3: content, 6: [labels]}
    if name == PROBABILITIES and facts.other_threshold is not None:
        options = {0: _Number(facts.other_threshold, "Float32")}
        described[4] = [{0: _Number(_SCORE_THRESHOLDING, "Uint8"), 1: options}]
    return described


def _check_label_count(shape: Sequence[int], labels: Sequence[str], name: str) -> None:
    if shape[-1] != len(labels):
        raise ExportError(
            f"{len(labels)} labels for {shape[-1]} {name}; name each class of the model once"
        )


def _encode(fields: dict[int, Any]) -> bytes:
    builder = flatbuffers.Builder()
    builder.Finish(_add_table(builder, fields), _FILE_IDENTIFIER)
    return bytes(builder.Output())


def _add_table(builder: flatbuffers.Builder, fields: dict[int, Any]) -> int:
    """Write a table, what it refers to first, and return its place."""
    places = {slot: _add_value(builder, value) for slot, value in fields.items()}
    builder.StartObject(max(fields, default=-1) + 1)
    for slot, value in fields.items():
        if not isinstance(value, _Number):
            builder.PrependUOffsetTRelativeSlot(slot, places[slot], 0)
        else:
            getattr(builder, f"Prepend{value.kind}Slot")(slot, value.value, 0)
    return builder.EndObject()


def _add_value(builder: flatbuffers.Builder, value: Any) -> int:
    if isinstance(value, _Number):
        return 0  # stands in the table itself
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, dict):
        return _add_table(builder, value)
    places = [_add_table(builder, item) for item in value]
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return builder.EndVector()


# --- what is read, by the same numbers


def _find_metadata(content: bytes) -> Table | None:
    """The table in the file's buffer of that name; by the numbers of TFLite's own schema."""
    model = _open_root(content)
    buffers = _follow_vector(model, 4)
    for entry in _follow_vector(model, 6):
        if _read_text(entry, 0) == METADATA_NAME:
            buffer = buffers[_read_number(entry, 1) or _NO_BUFFER]
            start = buffer.Vector(buffer.Offset(_offset(0)))
            length = buffer.VectorLen(buffer.Offset(_offset(0)))
            return _open_root(content[start : start + length])
    return None


def _open_root(content: bytes) -> Table:
    (place,) = np.frombuffer(content[:4], "<u4")
    return Table(content, int(place))


def _offset(slot: int) -> int:
    return 4 + 2 * slot


def _follow(table: Table, slot: int) -> Table:
    return Table(table.Bytes, table.Indirect(table.Offset(_offset(slot)) + table.Pos))


def _follow_vector(table: Table, slot: int) -> list[Table]:
    place = table.Offset(_offset(slot))
    if not place:
        return []
    start = table.Vector(place)
    return [
        Table(table.Bytes, table.Indirect(start + 4 * index))
        for index in range(table.VectorLen(place))
    ]


def _read_text(table: Table, slot: int) -> str:
    place = table.Offset(_offset(slot))
    return table.String(place + table.Pos).decode() if place else ""


def _read_number(table: Table, slot: int, flags: Any = number_types.Uint32Flags) -> int:
    place = table.Offset(_offset(slot))
    return int(table.Get(flags, place + table.Pos)) if place else 0
