"""Weighted sums of branches."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from esc_tf.models.blocks import WeightedFusion


class WeightedFusionTest(tf.test.TestCase):
    def test_equals_its_formula(self) -> None:
        rng = np.random.default_rng(0)
        branches = [rng.normal(size=(2, 5, 4, 3)).astype(np.float32) for _ in range(3)]
        layer = WeightedFusion()
        # Equal shares at first. measured: 1.2e-7
        self.assertAllClose(layer(branches), np.mean(branches, axis=0), rtol=0, atol=1e-6)
        alpha = np.array([0.5, -1.0, 2.0], np.float32)
        layer.alpha.assign(alpha)
        shares = np.exp(alpha) / np.exp(alpha).sum()
        expected = sum(share * branch for share, branch in zip(shares, branches, strict=True))
        # measured: 4.8e-7
        self.assertAllClose(layer(branches), expected, rtol=0, atol=1e-6)

    def test_gradients_reach_the_weights(self) -> None:
        layer = WeightedFusion()
        branches = [tf.ones((1, 2, 2, 1)), 2.0 * tf.ones((1, 2, 2, 1))]
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(layer(branches))
        gradient = tape.gradient(total, layer.alpha.value)
        # d/d alpha_2 of 4 (s_1 + 2 s_2) with s = 1/2: 4 (2 - 3/2) / 2
        self.assertAllClose(gradient, [-1.0, 1.0], rtol=0, atol=1e-6)

    def test_shape_and_configuration(self) -> None:
        layer = WeightedFusion(name="block1_fusion")
        inputs = [keras.Input((None, 8, 4)) for _ in range(3)]
        self.assertEqual(layer(inputs).shape, (None, None, 8, 4))
        self.assertEqual(layer.count_params(), 3)
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
        self.assertEqual(copy.name, "block1_fusion")
