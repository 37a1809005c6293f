"""From labelled sounds to batches: records, folds, the cache of decoded audio and tf.data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esc_tf.data.api import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """Load what is asked for, so that ``python -m esc_tf.data`` answers before TensorFlow loads."""
    # Python itself asks a module for names with underscores; `import *` needs one of them.
    if name.startswith("_") and name != "__all__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import esc_tf.data.api as api

    return getattr(api, name)
