"""From labelled sounds to batches: records, folds, the cache of decoded audio and tf.data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esc_tf.data.api import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """Load what is asked for, so that ``python -m esc_tf.data`` answers before TensorFlow loads."""
    if name.startswith("_"):  # what Python itself asks of a module
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import esc_tf.data.api as api

    return getattr(api, name)
