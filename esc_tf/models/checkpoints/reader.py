"""Tensors out of a checkpoint file, without PyTorch and without running anything that is in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from esc_tf.errors import CheckpointError, RequestError
from esc_tf.models.checkpoints.safetensors_files import read_safetensors, starts_like_safetensors
from esc_tf.models.checkpoints.storage import TensorView, read_view
from esc_tf.models.checkpoints.torch_files import (
    PICKLE_START,
    ZIP_START,
    open_stream,
    open_zip,
)

# How deep a mapping of tensors may lie: {"model": {"backbone": {…}}}.
_DEEPEST = 2
_START_BYTES = 16
# What torch.nn.DataParallel puts before every name.
_WRAPPER = "module."


def read_checkpoint(path: str | Path, key: str | None = None) -> dict[str, np.ndarray]:
    """Read the tensors of a PyTorch file (either layout) or of a safetensors file.

    Only a description of the tensors is taken from the file: a pickle that asks for anything else
    is refused, and no code from it is run. bfloat16 becomes float32. ``module.`` before all names,
    which ``DataParallel`` writes, is taken off.

    Args:
        path: the file.
        key: where the mapping of tensors lies in what was saved, e.g. ``model`` or ``ema.model``;
            None: the only one there is.

    Returns:
        Name → values, read-only, in the layout of the original.

    Raises:
        RequestError: there is no such file.
        CheckpointError: it is damaged, of another kind, asks for code, or holds no mapping of
            tensors, several of them, or none under ``key``.
        OSError: it cannot be read.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise RequestError(f"{path}: no such file; fetch the checkpoint first")
    try:
        tensors = _read(path, key)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {problem}" for problem in error.problems) from None
    if tensors and all(name.startswith(_WRAPPER) for name in tensors):
        return {name.removeprefix(_WRAPPER): tensor for name, tensor in tensors.items()}
    return tensors


def _read(path: Path, key: str | None) -> dict[str, np.ndarray]:
    num_bytes = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    if starts_like_safetensors(start, num_bytes):
        if key is not None:
            raise CheckpointError("a safetensors file has no keys to choose from; leave it out")
        return read_safetensors(path)
    if start.startswith(ZIP_START):
        opened = open_zip(path)
    elif start.startswith(PICKLE_START):
        opened = open_stream(path)
    else:
        raise CheckpointError(_describe_start(start, num_bytes))
    with opened as (content, read_storage):
        views = _select(content, key)
        return {name: read_view(view, read_storage) for name, view in views.items()}


def _describe_start(start: bytes, num_bytes: int) -> str:
    if start.lstrip()[:1] == b"<":
        return "is a web page, not a checkpoint; fetch it again from another address"
    if start.startswith(b"version http"):
        return "is a pointer to a file of Git LFS, not the file itself; fetch that"
    return (
        f"is no PyTorch or safetensors file ({num_bytes:,} bytes that start with {start[:4]!r}); "
        "fetch it again"
    )


def _select(content: Any, key: str | None) -> dict[str, TensorView]:
    """The one mapping that holds tensors alone."""
    found = dict(_find_mappings(content))
    pure = {place: views for place, views in found.items() if not _find_other(views)}
    if key is not None:
        if key not in found:
            known = ", ".join(place for place in found if place) or "none"
            raise CheckpointError(f"has no tensors under the key '{key}' (keys: {known})")
        other = _find_other(found[key])
        if other:
            raise CheckpointError(f"has under the key '{key}' also {other}, which is no tensor")
        return dict(found[key])
    if len(pure) > 1:
        places = ", ".join(place or "the top" for place in pure)
        raise CheckpointError(f"has tensors in several places ({places}); choose one with --key")
    if not pure:
        mixed = next(iter(found), None)
        if mixed is None:
            raise CheckpointError("holds no mapping of names to tensors")
        place = f"under the key '{mixed}'" if mixed else "beside its tensors"
        raise CheckpointError(f"has {place} also {_find_other(found[mixed])}, which is no tensor")
    return dict(next(iter(pure.values())))


def _find_mappings(content: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Place → mapping, of those that hold at least one tensor; ``""`` is the top."""
    if not isinstance(content, Mapping):
        return
    if any(isinstance(value, TensorView) for value in content.values()):
        yield place, content
    if depth < _DEEPEST:
        for name, value in content.items():
            if isinstance(name, str):
                yield from _find_mappings(value, f"{place}.{name}".lstrip("."), depth + 1)


def _find_other(views: Mapping[Any, Any]) -> str | None:
    """What a mapping of tensors holds beside them."""
    for name, value in views.items():
        if not isinstance(name, str) or not isinstance(value, TensorView):
            return f"{name!r:.80}"
    return None
