"""The attention gate against its formula in NumPy."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from esc_tf.models.blocks import squeeze_excite


def build_attention(channels: int, ratio: int) -> keras.Model:
    keras.utils.set_random_seed(0)  # a narrow hidden layer may start dead, gates all 1/2
    features = keras.Input((None, 3, channels))
    return keras.Model(features, squeeze_excite(features, ratio, name="se2"))


class SqueezeExciteTest(tf.test.TestCase):
    def test_equals_its_formula(self) -> None:
        model = build_attention(channels=16, ratio=8)
        values = np.random.default_rng(0).normal(size=(2, 5, 3, 16)).astype(np.float32)
        first = model.get_layer("se2_dense1").kernel.numpy()
        second = model.get_layer("se2_dense2").kernel.numpy()
        squeezed = np.concatenate([values.mean(axis=(1, 2)), values.max(axis=(1, 2))], axis=1)
        gate = 1.0 / (1.0 + np.exp(-np.maximum(squeezed @ first, 0.0) @ second))
        self.assertGreater(gate.max() - gate.min(), 0.1)
        # measured: 2.4e-7
        self.assertAllClose(model(values), values * gate[:, None, None, :], rtol=0, atol=1e-6)

    def test_has_three_c_squared_over_ratio_parameters(self) -> None:
        self.assertEqual(build_attention(channels=128, ratio=8).count_params(), 6144)

    def test_keeps_at_least_one_hidden_unit(self) -> None:
        self.assertEqual(build_attention(channels=4, ratio=8).count_params(), 2 * 4 + 4)
