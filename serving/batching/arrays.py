"""Rows of several requests in one array, and back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from serving.errors import ServingError

Arrays = Mapping[str, np.ndarray]


def count_rows(inputs: Arrays) -> int | None:
    """Return the size that all inputs have in dimension 0; None if they do not agree, or are 0.

    Such a request cannot be put together with others.
    """
    sizes = {value.shape[0] if value.ndim else 0 for value in inputs.values()}
    return sizes.pop() or None if len(sizes) == 1 else None


def make_key(inputs: Arrays, ignore_sizes: bool) -> Hashable:
    """Describe what inputs must have in common to be put together.

    Args:
        inputs: of one request.
        ignore_sizes: whether they will be padded to the largest, so that only ranks must agree.
    """
    return tuple(
        (alias, value.dtype, value.ndim if ignore_sizes else value.shape[1:])
        for alias, value in sorted(inputs.items())
    )


def merge(parts: Sequence[Arrays], num_rows: int) -> dict[str, np.ndarray]:
    """Put the inputs of several requests together.

    Args:
        parts: inputs of each, of equal ranks; those of other sizes are padded behind to the largest
            with their own first element, as Serving does.
        num_rows: to which the batch is filled up with the first row of the last request.

    Raises:
        ServingError: INVALID_ARGUMENT for an input without elements that would have to be padded.
    """
    merged = {}
    for alias in parts[0]:
        values = _pad_to_largest([part[alias] for part in parts])
        num_missing = num_rows - sum(value.shape[0] for value in values)
        values += [values[-1][:1]] * num_missing
        merged[alias] = values[0] if len(values) == 1 else np.concatenate(values)
    return merged


def split(
    outputs: Arrays, sizes: Sequence[int], num_rows: int
) -> list[dict[str, np.ndarray]] | None:
    """Give each request its own rows.

    Args:
        outputs: of the batch.
        sizes: rows of each request, in their order.
        num_rows: of the batch, with what it was filled up with.

    Returns:
        Outputs of each request; None if the outputs have no row for each row of the inputs.
    """
    if any(value.ndim == 0 or value.shape[0] != num_rows for value in outputs.values()):
        return None
    ends = np.cumsum(sizes).tolist()
    return [
        {alias: value[end - size : end] for alias, value in outputs.items()}
        for size, end in zip(sizes, ends, strict=True)
    ]


def split_rows(inputs: Arrays, first: int, size: int) -> dict[str, np.ndarray]:
    """Return ``size`` rows of each input, at most, from row ``first``."""
    return {alias: value[first : first + size] for alias, value in inputs.items()}


def _pad_to_largest(values: list[np.ndarray]) -> list[np.ndarray]:
    shape = tuple(max(sizes) for sizes in zip(*(value.shape[1:] for value in values), strict=True))
    return [value if value.shape[1:] == shape else _pad(value, shape) for value in values]


def _pad(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if value.size == 0:
        raise ServingError("INVALID_ARGUMENT", "Got empty tensor in batch of non-empty tensors.")
    padded = np.full((value.shape[0], *shape), value.flat[0], dtype=value.dtype)
    padded[tuple(slice(size) for size in value.shape)] = value
    return padded
