"""Activations that Keras does not have, or not in every version that this package runs on."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="esc_tf")
class HardSwish(keras.layers.Layer):
    """``x * min(max(x + 3, 0), 6) / 6``.

    Call arguments:
        inputs: of any shape.

    Returns:
        The same shape.

    >>> HardSwish()(keras.ops.array([1.5, 3.0, 4.0])).numpy().tolist()
    [1.125, 3.0, 4.0]

    Source: Howard et al. 2019.
    """

    def call(self, inputs: Any) -> Any:
        # Bracketed so that TensorFlow on a CPU makes it a part of the convolution before it, where
        # nothing but a bias stands between the two.
        return inputs * (ops.relu6(inputs + 3.0) * (1.0 / 6.0))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape
