"""Random weights under which a deep network neither dies out nor explodes."""

from __future__ import annotations

import math

import keras
import numpy as np


def assign_random_weights(model: keras.Model, seed: int = 0) -> None:
    """Fill kernels, biases, scales and statistics as if the model had been trained.

    As published networks start, and with fresh batch statistics, MobileNetV3 makes 1e-6 of its
    features: comparisons would be of rounding errors.
    """
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        for weight in layer._trainable_variables + layer._non_trainable_variables:
            shape = tuple(weight.shape)
            if not weight.dtype.startswith(("float", "bfloat")):
                continue
            if len(shape) >= 2:
                depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
                fan_in = math.prod(shape[:2] if depthwise else shape[:-1])
                gain = 1.7 if len(shape) == 4 else 1.0
                values = math.sqrt(gain / fan_in) * rng.standard_normal(shape)
            elif weight.name in ("gamma", "moving_variance"):
                values = rng.uniform(0.5, 1.5, shape)
            else:
                values = 0.1 * rng.standard_normal(shape)
            weight.assign(values)
