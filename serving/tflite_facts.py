"""What a .tflite file says of itself, read with the standard library alone.

A device that runs a model need not have the package that made it: this reads TensorFlow Lite's
model metadata (a flatbuffer) and the labels (a zip archive behind the model), as ``export``
writes them and as other files for MediaPipe have them.

Source: the public schemas ``schema.fbs`` and ``metadata_schema.fbs`` of TensorFlow Lite.
"""

from __future__ import annotations

import io
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TFLITE_IDENTIFIER = b"TFL3"
_METADATA_NAME = "TFLITE_METADATA"
_AUDIO_PROPERTIES = 4  # of the union ContentProperties
_SCORE_THRESHOLDING = 3  # of the union ProcessUnitOptions
_LABEL_SUFFIX = ".txt"
OTHER = "other"
"""The label of a sound that is none of a model's classes."""
_EXPORT_AGAIN = "export the model again with `python -m export`"


class ModelFileError(ValueError):
    """A file is not a TFLite model, or does not say what it takes and gives."""


@dataclass(frozen=True)
class ModelFacts:
    """What a file says of itself.

    Attributes:
        name: of the model.
        description: what it is for.
        version: of the export.
        author: who made it.
        licence: under which licence it may be used.
        label_names: name of each class, in the order of the scores.
        sample_rate_hz: rate of the waveform.
        other_threshold: a sound of which no class is as probable as this is none of them; None:
            the file does not say.
    """

    name: str
    description: str
    version: str
    author: str
    licence: str
    label_names: tuple[str, ...]
    sample_rate_hz: int
    other_threshold: float | None = None

    def choose_label(self, probabilities: Any) -> str:
        """The likeliest label of probabilities ``(classes,)``, or ``other`` where none is likely.

        >>> facts = ModelFacts("", "", "", "", "", ("dog", "rain"), 16000, 0.6)
        >>> facts.choose_label([0.3, 0.7]), facts.choose_label([0.5, 0.5])
        ('rain', 'other')
        """
        best = max(range(len(probabilities)), key=lambda index: probabilities[index])
        if self.other_threshold is not None and probabilities[best] < self.other_threshold:
            return OTHER
        return self.label_names[best]


def read_facts(path: str | Path) -> ModelFacts:
    """Read the metadata of a ``.tflite`` file of a model that takes one channel of audio.

    Raises:
        ModelFileError: there is no such file, it is no TFLite model or is damaged, or it has no
            metadata, no labels, or something else than audio as its input.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror})") from error
    if content[4:8] != _TFLITE_IDENTIFIER:
        raise ModelFileError(f"{path}: is not a .tflite file, or is damaged")
    try:
        return _read_metadata(content, str(path))
    except (struct.error, IndexError, UnicodeDecodeError, zipfile.BadZipFile) as error:
        raise ModelFileError(f"{path}: is damaged ({error}); {_EXPORT_AGAIN}") from error


def _read_metadata(content: bytes, name: str) -> ModelFacts:
    """Find the facts by the numbers that the schemas give their fields."""
    table = _find_metadata(content)
    if table is None:
        raise ModelFileError(f"{name}: has no metadata with rate and labels; {_EXPORT_AGAIN}")
    inputs = [tensor for graph in table.follow_all(3)[:1] for tensor in graph.follow_all(2)]
    content_of_input = inputs[0].follow(3) if inputs else None
    properties = content_of_input.follow(1) if content_of_input else None
    if content_of_input is None or content_of_input.read_byte(0) != _AUDIO_PROPERTIES:
        raise ModelFileError(f"{name}: takes no waveform; name a file that hears audio")
    rate_hz = properties.read_number(0) if properties else 0
    num_channels = properties.read_number(1) if properties else 0
    if rate_hz < 1 or num_channels != 1:
        raise ModelFileError(
            f"{name}: takes {num_channels} channels at {rate_hz} Hz; only one channel at a known "
            "rate is supported"
        )
    return ModelFacts(
        name=table.read_text(0),
        description=table.read_text(1),
        version=table.read_text(2),
        author=table.read_text(4),
        licence=table.read_text(5),
        label_names=_read_labels(content, name),
        sample_rate_hz=rate_hz,
        other_threshold=_read_threshold(table),
    )


def _read_threshold(table: _Table) -> float | None:
    """The lowest score that counts, as the first output that has one says it."""
    for graph in table.follow_all(3)[:1]:
        for output in graph.follow_all(3):
            for unit in output.follow_all(4):
                options = unit.follow(1)
                if unit.read_byte(0) == _SCORE_THRESHOLDING and options is not None:
                    return options.read_float(0)
    return None


def _read_labels(content: bytes, name: str) -> tuple[str, ...]:
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as files:
            lists = [item for item in files.namelist() if item.endswith(_LABEL_SUFFIX)]
            if lists:
                return tuple(files.read(lists[0]).decode().splitlines())
    raise ModelFileError(f"{name}: has no labels; {_EXPORT_AGAIN}")


def _find_metadata(content: bytes) -> _Table | None:
    model = _Table.open_root(content)
    buffers = model.follow_all(4)
    for entry in model.follow_all(6):
        if entry.read_text(0) == _METADATA_NAME:
            return _Table.open_root(buffers[entry.read_number(1)].read_bytes(0))
    return None


class _Table:
    """A table of a flatbuffer: fields by their number, each there or absent."""

    def __init__(self, content: bytes, position: int) -> None:
        self._content, self._position = content, position
        (distance,) = struct.unpack_from("<i", content, position)
        self._fields = position - distance
        (self._fields_bytes,) = struct.unpack_from("<H", content, self._fields)

    @classmethod
    def open_root(cls, content: bytes) -> _Table:
        return cls(content, struct.unpack_from("<I", content)[0])

    def _find(self, field: int) -> int | None:
        """Where the value of a field is, None for an absent one."""
        entry = 4 + 2 * field
        if entry >= self._fields_bytes:
            return None
        (distance,) = struct.unpack_from("<H", self._content, self._fields + entry)
        return self._position + distance if distance else None

    def _find_target(self, field: int) -> int | None:
        """Where that begins which a field refers to."""
        place = self._find(field)
        if place is None:
            return None
        return place + struct.unpack_from("<I", self._content, place)[0]

    def read_number(self, field: int) -> int:
        place = self._find(field)
        return 0 if place is None else struct.unpack_from("<I", self._content, place)[0]

    def read_float(self, field: int) -> float:
        place = self._find(field)
        return 0.0 if place is None else struct.unpack_from("<f", self._content, place)[0]

    def read_byte(self, field: int) -> int:
        place = self._find(field)
        return 0 if place is None else struct.unpack_from("<B", self._content, place)[0]

    def read_bytes(self, field: int) -> bytes:
        start = self._find_target(field)
        if start is None:
            return b""
        (length,) = struct.unpack_from("<I", self._content, start)
        return self._content[start + 4 : start + 4 + length]

    def read_text(self, field: int) -> str:
        return self.read_bytes(field).decode()

    def follow(self, field: int) -> _Table | None:
        place = self._find_target(field)
        return None if place is None else _Table(self._content, place)

    def follow_all(self, field: int) -> list[_Table]:
        start = self._find_target(field)
        if start is None:
            return []
        (length,) = struct.unpack_from("<I", self._content, start)
        places = range(start + 4, start + 4 + 4 * length, 4)
        return [
            _Table(self._content, place + struct.unpack_from("<I", self._content, place)[0])
            for place in places
        ]
