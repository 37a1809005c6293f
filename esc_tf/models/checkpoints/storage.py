"""Numbers in a checkpoint: stretches of bytes, and tensors as views of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from esc_tf.errors import CheckpointError

BFLOAT16 = "bfloat16"
# Beyond these no size in a file is taken for true.
_MOST_AXES = 16
_LARGEST_SIZE = 2**40


@dataclass(frozen=True)
class Storage:
    """A named stretch of numbers of one type.

    Args:
        key: its name in the file.
        dtype: a little-endian NumPy type such as ``<f4``, or ``bfloat16``.
        size: how many numbers it holds.
        start: first number that a tensor can see, where the storage is a part of another one.
        stop: end of what a tensor can see.
    """

    key: str
    dtype: str
    size: int
    start: int
    stop: int

    @property
    def num_bytes(self) -> int:
        """Bytes in the file."""
        return self.size * item_bytes(self.dtype)


@dataclass(frozen=True)
class TensorView:
    """A tensor as the file describes it: a place in a storage; nothing is read yet."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def item_bytes(dtype: str) -> int:
    """Bytes of one number."""
    return 2 if dtype == BFLOAT16 else np.dtype(dtype).itemsize


def decode_numbers(content: bytes | memoryview, dtype: str, big_endian: bool = False) -> np.ndarray:
    """Bytes → numbers ``(size,)``; bfloat16 becomes float32, which holds it exactly."""
    stored = np.dtype("<u2" if dtype == BFLOAT16 else dtype)
    numbers = np.frombuffer(content, stored.newbyteorder(">" if big_endian else "<"))
    numbers = numbers.astype(stored.newbyteorder("="), copy=False)
    if dtype == BFLOAT16:
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    return numbers


def check_sizes(sizes: Any) -> None:
    """Check a shape, strides or an offset, before anything is computed with them.

    Raises:
        CheckpointError: they are no sizes, or no array could have them.
    """
    if (
        not isinstance(sizes, Sequence)
        or isinstance(sizes, str)
        or len(sizes) > _MOST_AXES
        or not all(type(size) is int and 0 <= size < _LARGEST_SIZE for size in sizes)
    ):
        raise CheckpointError(
            f"a tensor has a shape, strides or an offset that cannot be ({sizes!r:.80}); the file "
            "is damaged"
        )


def count_numbers(shape: Sequence[int]) -> int:
    """How many numbers a checked shape has room for.

    Raises:
        CheckpointError: no array could have it; an empty one, too, can have axes that are too long.
    """
    if math.prod(max(size, 1) for size in shape) >= _LARGEST_SIZE:
        raise CheckpointError(f"a tensor has a shape that cannot be ({shape!r:.80})")
    return math.prod(shape)


def make_view(storage: Any, offset: Any, shape: Any, strides: Any) -> TensorView:
    """Check what a file says about a tensor.

    Raises:
        CheckpointError: it does not lie inside its storage, or is larger than it.
    """
    if not isinstance(storage, Storage):
        raise CheckpointError("a tensor has no storage; the file is damaged")
    for sizes in (shape, strides, (offset,)):
        check_sizes(sizes)
    if len(shape) != len(strides):
        raise CheckpointError("a tensor has other numbers of axes and strides; the file is damaged")
    count = count_numbers(shape)
    # Strides of 0 let a few bytes stand for a tensor of any size, which no weight needs.
    last = offset + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    available = storage.stop - storage.start
    if count and (last >= available or count > available):
        raise CheckpointError(
            f"a tensor of shape {tuple(shape)}, strides {tuple(strides)} and offset {offset} does "
            f"not lie in its storage of {available} numbers; the file is damaged, or the tensor "
            "repeats numbers: save it with .contiguous()"
        )
    return TensorView(storage, offset, tuple(shape), tuple(strides))


def read_view(view: TensorView, read_storage: Callable[[Storage], np.ndarray]) -> np.ndarray:
    """The numbers of a tensor, read-only and mostly without a copy."""
    storage = view.storage
    numbers = read_storage(storage)[storage.start : storage.stop][view.offset :]
    if not math.prod(view.shape):
        return np.zeros(view.shape, numbers.dtype)
    return np.lib.stride_tricks.as_strided(
        numbers,
        view.shape,
        [step * numbers.itemsize for step in view.strides],
        writeable=False,
    )
