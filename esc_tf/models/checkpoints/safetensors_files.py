"""The safetensors layout: a length, a table in JSON, the numbers. No code can be in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from esc_tf.errors import CheckpointError
from esc_tf.models.checkpoints.storage import (
    BFLOAT16,
    check_sizes,
    count_numbers,
    decode_numbers,
    item_bytes,
)

_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": BFLOAT16,
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}
_LENGTH_BYTES = 8
_NOTES = "__metadata__"


def starts_like_safetensors(start: bytes, file_bytes: int) -> bool:
    """Whether the first nine bytes of a file are a length that fits into it and an open brace."""
    length = int.from_bytes(start[:_LENGTH_BYTES], "little")
    return start[_LENGTH_BYTES:9] == b"{" and length <= file_bytes - _LENGTH_BYTES


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Read all tensors of a file.

    Raises:
        CheckpointError: the file is damaged.
        OSError: it cannot be read.
    """
    data = memoryview(path.read_bytes())
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    try:
        table = json.loads(bytes(data[_LENGTH_BYTES : _LENGTH_BYTES + length]))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"its table of tensors is no JSON ({error}); the file is damaged"
        ) from None
    numbers = data[_LENGTH_BYTES + length :]
    if not isinstance(table, dict):
        raise CheckpointError("its table of tensors is no JSON object; the file is damaged")
    return {
        name: _read_tensor(name, entry, numbers) for name, entry in table.items() if name != _NOTES
    }


def _read_tensor(name: str, entry: Any, numbers: memoryview) -> np.ndarray:
    damaged = CheckpointError(f"its entry {name:.80} cannot be; the file is damaged")
    try:
        dtype, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise damaged from None
    for sizes in (shape, [start], [stop]):
        check_sizes(sizes)
    if not isinstance(dtype, str) or dtype not in _TYPES:
        raise CheckpointError(
            f"its tensor {name:.80} has the type {dtype!r:.20}, not one of {', '.join(_TYPES)}"
        )
    num_bytes = count_numbers(shape) * item_bytes(_TYPES[dtype])
    if stop - start != num_bytes or stop > len(numbers):
        raise damaged
    return decode_numbers(numbers[start:stop], _TYPES[dtype]).reshape(shape)
