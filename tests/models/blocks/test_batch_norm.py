"""The fused batch norm beside Keras' own: values, gradients, statistics, precision."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf import kernels
from esc_tf.models.blocks import FusedBatchNormalization


def make_pair(dtype: str = "float32", **options) -> list[keras.layers.Layer]:
    """Our layer and Keras', with the same uneven weights."""
    rng = np.random.default_rng(0)
    weights = [
        rng.uniform(0.5, 1.5, 5),
        rng.normal(size=5),
        rng.normal(size=5),
        rng.uniform(0.5, 2.0, 5),
    ]
    pair = []
    for kind in (FusedBatchNormalization, keras.layers.BatchNormalization):
        layer = kind(momentum=0.9, epsilon=1e-3, dtype=dtype, **options)
        layer.build((None, 6, 7, 5))
        layer.set_weights(weights)
        pair.append(layer)
    return pair


def maps(seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (3.0 + 2.0 * rng.normal(size=(4, 6, 7, 5))).astype(np.float32)


class FusedBatchNormalizationTest(tf.test.TestCase, parameterized.TestCase):
    def test_a_training_step_is_that_of_the_formulas_in_float64(self) -> None:
        layer, _ = make_pair()
        gamma, beta, mean, variance = (item.astype(np.float64) for item in layer.get_weights())
        values, direction = tf.constant(maps()), tf.constant(maps(2))
        with tf.GradientTape() as tape:
            tape.watch(values)
            outputs = layer(values, training=True)
            total = tf.reduce_sum(outputs * direction)
        gradients = tape.gradient(total, [values, layer.gamma.value, layer.beta.value])
        found = [outputs, *gradients, layer.moving_mean.value, layer.moving_variance.value]

        x, dy, count = maps().astype(np.float64), maps(2).astype(np.float64), 4 * 6 * 7
        axes = (0, 1, 2)
        spread = np.sqrt(x.var(axes) + 1e-3)
        h = (x - x.mean(axes)) / spread
        d_gamma, d_beta = (dy * h).sum(axes), dy.sum(axes)
        expected = [
            gamma * h + beta,
            gamma / spread * (dy - d_beta / count - h * d_gamma / count),
            d_gamma,
            d_beta,
            0.9 * mean + 0.1 * x.mean(axes),
            0.9 * variance + 0.1 * x.var(axes),
        ]
        for ours, exact in zip(found, expected, strict=True):
            scale = np.abs(exact).max()
            self.assertGreater(scale, 0.1)
            # measured: at most 1e-6 of the largest value, for gamma (Keras' composition: 5e-6)
            self.assertAllClose(ours / scale, exact / scale, rtol=0, atol=4e-6)

    def test_inference_is_that_of_keras(self) -> None:
        ours, theirs = (layer(maps(), training=False) for layer in make_pair())
        # measured: 5e-7
        self.assertAllClose(ours, theirs, rtol=0, atol=4e-6)

    def test_a_frozen_layer_keeps_its_statistics_while_others_train(self) -> None:
        ours, _ = make_pair()
        ours.trainable = False
        before = [weight.copy() for weight in ours.get_weights()]
        trained, applied = ours(maps(), training=True), ours(maps(), training=False)
        self.assertAllEqual(trained, applied)
        for weight, old in zip(ours.get_weights(), before, strict=True):
            self.assertAllEqual(weight, old)

    def test_bfloat16_maps_are_neither_read_nor_written_in_float32(self) -> None:
        ours, theirs = make_pair("mixed_bfloat16")
        values = tf.cast(maps(), tf.bfloat16)
        outputs = ours(values, training=True)
        self.assertEqual(outputs.dtype, tf.bfloat16)
        self.assertEqual(ours.moving_mean.dtype, "float32")
        expected = tf.cast(theirs(values, training=True), tf.float32)
        # Two roundings to 8 bits of values up to 6.
        self.assertAllClose(tf.cast(outputs, tf.float32), expected, rtol=0, atol=2**-5)
        # Keras rounds its statistics to bfloat16; ours stay exact.
        exact = np.asarray(tf.cast(values, tf.float64)).reshape(-1, 5)
        old = make_pair()[0].get_weights()
        self.assertAllClose(ours.moving_mean, 0.9 * old[2] + 0.1 * exact.mean(0), atol=1e-5)
        self.assertAllClose(ours.moving_variance, 0.9 * old[3] + 0.1 * exact.var(0), atol=1e-5)

    def test_one_value_a_channel_has_no_variance(self) -> None:
        layer = FusedBatchNormalization(momentum=0.0)
        outputs = layer(maps()[:1, :1, :1], training=True)
        self.assertAllClose(outputs, np.zeros((1, 1, 1, 5)))
        self.assertAllClose(layer.moving_variance, np.zeros(5))

    def test_the_graph_holds_the_fused_kernel(self) -> None:
        layer, _ = make_pair()
        for training in (False, True):
            graph = tf.function(lambda x: layer(x, training=training)).get_concrete_function(  # noqa: B023
                tf.TensorSpec((None, None, None, 5))
            )
            kinds = {operation.type for operation in graph.graph.get_operations()}
            self.assertIn("FusedBatchNormV3", kinds)
            self.assertNotIn("Rsqrt", kinds)

    @parameterized.parameters({"axis": 2}, {"synchronized": True}, {"renorm": True})
    def test_what_the_kernel_cannot_do_goes_the_way_of_keras(self, **options) -> None:
        results = []
        for kind in (FusedBatchNormalization, keras.layers.BatchNormalization):
            layer = kind(**options)
            results.append([layer(maps(), training=True), *layer.get_weights()])
        for ours, theirs in zip(*results, strict=True):
            self.assertAllEqual(ours, theirs)

    def test_double_precision_goes_the_way_of_keras(self) -> None:
        ours, theirs = (
            layer(maps().astype(np.float64), training=False) for layer in make_pair("float64")
        )
        self.assertAllEqual(ours, theirs)

    def test_vectors_are_normalised_too(self) -> None:
        vectors = maps()[:, 0, 0]
        results = [
            kind()(vectors, training=True)
            for kind in (FusedBatchNormalization, keras.layers.BatchNormalization)
        ]
        self.assertAllEqual(*results)

    def test_other_backends_are_left_alone(self) -> None:
        with self.subTest("no TensorFlow, no kernel"):
            original = keras.backend.backend
            keras.backend.backend = lambda: "jax"
            try:
                self.assertFalse(kernels.fuses_batch_norm(training=True))
            finally:
                keras.backend.backend = original
        self.assertTrue(kernels.fuses_batch_norm(training=True))

    def test_can_be_saved_and_loaded(self) -> None:
        layer, _ = make_pair()
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
        self.assertIsInstance(copy, FusedBatchNormalization)
        self.assertEqual(copy.get_config(), layer.get_config())
