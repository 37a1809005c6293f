"""Small learned front ends for the tiny experiment (``tests.tiny``), with moved weights."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from esc_tf.frontends import list_sublayers

# For half a second at 8 kHz: 24 bands each.
TINY_LEARNED: dict[str, dict[str, Any]] = {
    "mel_init": {"name": "mel_init"},  # the rest is the tiny log-mel's
    "heurinet": {
        "name": "heurinet",
        "filters": [8, 24],
        "kernel_sizes": [31, 5],
        "strides": [5, 2],
        "pool_sizes": [4, 4],
        "pool_strides": [4, 2],
    },
    "mstnet": {
        "name": "mstnet",
        "filters": [16, 12, 24],
        "kernel_sizes": [256, 3, 3],
        "hop_length": 128,
    },
}


def move_weights(front_end: keras.layers.Layer, seed: int = 0) -> None:
    """Add noise of a hundredth of each weight's largest value, as training might."""
    rng = np.random.default_rng(seed)
    for stage in list_sublayers(front_end):
        stage.set_weights(
            [
                weight + 0.01 * (np.abs(weight).max() + 0.1) * rng.normal(size=weight.shape)
                for weight in stage.get_weights()
            ]
        )
