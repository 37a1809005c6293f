"""SavedModels that tests serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf


class _Half(tf.Module):
    def __init__(self, offset: float) -> None:
        self.offset = tf.Variable(offset, dtype=tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def predict(self, x: Any) -> Any:
        return {"y": 0.5 * x + self.offset}


def write_half(folder: Path, version: int, offset: float) -> None:
    """``y = x / 2 + offset``; there whole or not at all, as a server that watches wants it."""
    model = _Half(offset)
    partial = folder / f".{version}"
    tf.saved_model.save(model, str(partial), signatures={"serving_default": model.predict})
    partial.rename(folder / str(version))
