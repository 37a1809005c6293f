"""The convolution block against the same sums written out in NumPy."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from scipy.signal import correlate

from esc_tf.models.blocks import conv_block


def build_block(filters: int, num_convs: int, shape: tuple[int, int, int]) -> keras.Model:
    features = keras.Input(shape)
    return keras.Model(features, conv_block(features, filters, num_convs, name="block1"))


class ConvBlockTest(tf.test.TestCase):
    def test_equals_convolution_norm_relu_and_max_written_out(self) -> None:
        rng = np.random.default_rng(0)
        model = build_block(filters=4, num_convs=1, shape=(7, 6, 3))
        norm = model.get_layer("block1_bn1")
        gamma, beta, mean = (rng.normal(size=4).astype(np.float32) for _ in range(3))
        variance = rng.uniform(0.5, 2.0, size=4).astype(np.float32)
        norm.set_weights([gamma, beta, mean, variance])
        kernel = model.get_layer("block1_conv1").kernel.numpy()
        values = rng.normal(size=(1, 7, 6, 3)).astype(np.float32)

        padded = np.pad(values[0], [(1, 1), (1, 1), (0, 0)])
        maps = [correlate(padded, kernel[..., index], mode="valid")[..., 0] for index in range(4)]
        expected = np.stack(maps, axis=-1)
        expected = gamma * (expected - mean) / np.sqrt(variance + 1e-5) + beta
        expected = np.maximum(expected, 0.0)[:6].reshape(3, 2, 3, 2, 4).max(axis=(1, 3))

        result = model(values, training=False)
        self.assertGreater(np.abs(expected).max(), 0.5)
        # measured: 2.4e-7
        self.assertAllClose(result[0], expected, rtol=0, atol=1e-5)

    def test_odd_sizes_are_rounded_down(self) -> None:
        model = build_block(filters=2, num_convs=2, shape=(431, 13, 1))
        self.assertEqual(model.output.shape, (None, 215, 6, 2))

    def test_layer_names_are_stable(self) -> None:
        names = [layer.name for layer in build_block(2, 2, (8, 8, 1)).layers[1:]]
        self.assertEqual(
            names,
            [
                *("block1_conv1", "block1_bn1", "block1_relu1"),
                *("block1_conv2", "block1_bn2", "block1_relu2"),
                "block1_pool",
            ],
        )

    def test_averages_where_asked(self) -> None:
        features = keras.Input((7, 6, 3))
        block = conv_block(features, 4, 1, name="block1", pool="average")
        model = keras.Model(features, block)
        before = keras.Model(features, model.get_layer("block1_relu1").output)
        values = np.random.default_rng(0).normal(size=(1, 7, 6, 3)).astype(np.float32)
        maps = before(values).numpy()[0, :6]
        expected = maps.reshape(3, 2, 3, 2, 4).mean(axis=(1, 3))
        self.assertGreater(expected.max(), 0.1)
        # measured: 0
        self.assertAllClose(model(values)[0], expected, rtol=0, atol=1e-6)
