"""PyTorch's two file layouts, written by hand: no PyTorch, and anything can be written wrong."""

from __future__ import annotations

import io
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
STREAM_VERSION = 1001


@dataclass(frozen=True)
class Raw:
    """Instructions of a pickle, as they are."""

    code: bytes


@dataclass(frozen=True)
class Global:
    """Something by its name."""

    module: str
    name: str


@dataclass(frozen=True)
class Call:
    """A call of something."""

    function: Any
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class WithState:
    """Something that is given a state, as objects are."""

    value: Any
    state: Any


@dataclass(frozen=True)
class Reference:
    """A persistent id."""

    content: Any


@dataclass
class Tensor:
    """A tensor over a storage, which may lie about both."""

    key: str
    numbers: np.ndarray
    shape: Any = None
    strides: Any = None
    offset: Any = 0
    dtype: str | None = None
    size: Any = None
    part: Any = None
    is_parameter: bool = False
    is_in_stream: bool = field(default=False)

    def describe(self) -> Call:
        dtype = self.dtype or self.numbers.dtype.name
        content = (
            "storage",
            Global("torch", STORAGES[dtype]),
            self.key,
            "cpu",
            self.numbers.size if self.size is None else self.size,
        )
        shape = self.numbers.shape if self.shape is None else self.shape
        strides = _strides(shape) if self.strides is None else self.strides
        tensor = Call(
            Global("torch._utils", "_rebuild_tensor_v2"),
            (
                Reference((*content, self.part) if self.is_in_stream else content),
                self.offset,
                shape,
                strides,
                False,
                Call(Global("collections", "OrderedDict"), ()),
            ),
        )
        if not self.is_parameter:
            return tensor
        hooks = Call(Global("collections", "OrderedDict"), ())
        return Call(Global("torch._utils", "_rebuild_parameter"), (tensor, True, hooks))


def _strides(shape: Any) -> tuple[int, ...]:
    return tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))


def encode(value: Any) -> bytes:
    """The instructions that put a value on the stack."""
    if isinstance(value, Raw):
        return value.code
    if isinstance(value, Tensor):
        return encode(value.describe())
    if isinstance(value, Global):
        return f"c{value.module}\n{value.name}\n".encode()
    if isinstance(value, Call):
        return encode(value.function) + encode(value.arguments) + b"R"
    if isinstance(value, WithState):
        return encode(value.value) + encode(value.state) + b"b"
    if isinstance(value, Reference):
        return encode(value.content) + b"Q"
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if value is None:
        return b"N"
    if isinstance(value, int):
        number = value.to_bytes(16, "little", signed=True)
        return b"\x8a" + bytes([len(number)]) + number
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        text = value.encode()
        return b"X" + struct.pack("<I", len(text)) + text
    if isinstance(value, tuple):
        return b"(" + b"".join(encode(item) for item in value) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(encode(item) for item in value) + b"e"
    if isinstance(value, dict):
        pairs = b"".join(encode(key) + encode(item) for key, item in value.items())
        return b"}(" + pairs + b"u"
    raise TypeError(type(value))


def pickle_of(value: Any) -> bytes:
    """A whole pickle of protocol 2."""
    return b"\x80\x02" + encode(value) + b"."


def find_tensors(value: Any) -> list[Tensor]:
    """The tensors in nested values."""
    if isinstance(value, Tensor):
        return [value]
    items: Any = value.values() if isinstance(value, dict) else value
    if isinstance(value, Call | WithState):
        items = vars(value).values()
    if isinstance(value, dict | list | tuple | Call | WithState):
        return [tensor for item in items for tensor in find_tensors(item)]
    return []


def zip_of(content: Any, **changes: Any) -> bytes:
    """A file of the zip layout.

    Args:
        content: what ``torch.save`` would get, with ``Tensor`` for tensors.
        **changes: ``extra`` entries (name → bytes), ``compression``, the ``folder``, the whole
            ``pickle``, bytes of storages ``data`` (key → bytes).
    """
    folder = changes.get("folder", "archive")
    entries = {f"{folder}/data.pkl": changes.get("pickle", pickle_of(content))}
    entries[f"{folder}/byteorder"] = b"little"
    for tensor in find_tensors(content):
        entries[f"{folder}/data/{tensor.key}"] = tensor.numbers.tobytes()
    for key, data in changes.get("data", {}).items():
        entries[f"{folder}/data/{key}"] = data
    entries |= changes.get("extra", {})
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", changes.get("compression", zipfile.ZIP_STORED)) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return file.getvalue()


def stream_of(content: Any, **changes: Any) -> bytes:
    """A file of the layout before PyTorch 1.6; ``changes`` replace whole pickles by name."""
    storages = {}
    for tensor in find_tensors(content):
        tensor.is_in_stream = True
        storages[tensor.key] = tensor.numbers
    parts = {
        "magic": pickle_of(MAGIC_NUMBER),
        "version": pickle_of(STREAM_VERSION),
        "system": pickle_of({"protocol_version": STREAM_VERSION, "little_endian": True}),
        "pickle": pickle_of(content),
        "keys": pickle_of(list(storages)),
    } | changes
    numbers = [struct.pack("<q", numbers.size) + numbers.tobytes() for numbers in storages.values()]
    return b"".join([*parts.values(), *numbers])


LAYOUTS = {"zip": zip_of, "stream": stream_of}


def write(path: Path, content: Any, layout: str, **changes: Any) -> Path:
    """Write a file of either layout."""
    path.write_bytes(LAYOUTS[layout](content, **changes))
    return path
