"""CNN10: its published sizes, its options, its names."""

from __future__ import annotations

import math

import keras
import numpy as np
import tensorflow as tf

from esc_tf.config import CNN10Config
from esc_tf.errors import ConfigError
from esc_tf.models import build_cnn10

SMALL = {"name": "cnn10", "block_filters": [4, 8]}
PLAIN = {
    "input_norm": False,
    "time_pooling": "max",
    "embedding_units": None,
    "block_dropout": 0.0,
    "embedding_dropout": 0.0,
}


def layer_names(model: keras.Model) -> list[str]:
    return [layer.name for layer in model.layers[1:]]


class CNN10Test(tf.test.TestCase):
    def test_published_sizes(self) -> None:
        # The head is a dense layer on 512 values.
        for options, published in (({}, 5_219_279), (PLAIN, 4_711_794 - 513 * (50 - 527))):
            model = build_cnn10(CNN10Config(name="cnn10", **options), (None, 64, 1))
            counted = sum(math.prod(weight.shape) for weight in model.trainable_variables)
            self.assertEqual(counted + 513 * 527, published)

    def test_layer_names_are_stable(self) -> None:
        names = layer_names(build_cnn10(CNN10Config(**SMALL), (None, 8, 1)))
        self.assertEqual(
            names,
            [
                "input_bn",
                *("block1_conv1", "block1_bn1", "block1_relu1"),
                *("block1_conv2", "block1_bn2", "block1_relu2", "block1_pool", "block1_dropout"),
                *("block2_conv1", "block2_bn1", "block2_relu1"),
                *("block2_conv2", "block2_bn2", "block2_relu2", "block2_pool", "block2_dropout"),
                *("embedding_bands", "embedding_max", "embedding_mean", "embedding_sum"),
                *("embedding_dropout", "embedding_dense"),
            ],
        )

    def test_the_plain_one_has_convolutions_and_a_maximum(self) -> None:
        model = build_cnn10(CNN10Config(**SMALL, **PLAIN), (None, 8, 1))
        names = layer_names(model)
        self.assertEqual(names[0], "block1_conv1")
        self.assertEqual(names[-2:], ["embedding_bands", "embedding_max"])
        self.assertFalse(any("dropout" in name for name in names))
        self.assertEqual(list(model.output), ["block1", "block2", "embedding"])

    def test_embedding_is_the_maximum_plus_the_mean_of_band_means(self) -> None:
        config = CNN10Config(**SMALL, embedding_units=None, embedding_dropout=0.0)
        model = build_cnn10(config, (None, 8, 1))
        features = np.random.default_rng(0).normal(size=(2, 21, 8, 1)).astype(np.float32)
        outputs = model(features)
        bands = outputs["block2"].numpy().mean(axis=2)
        self.assertEqual(bands.shape, (2, 5, 8))
        expected = bands.max(axis=1) + bands.mean(axis=1)
        self.assertGreater(np.abs(expected).max(), 0.01)
        # measured: 0
        self.assertAllClose(outputs["embedding"], expected, rtol=0, atol=1e-6)

    def test_input_norm_is_over_bands(self) -> None:
        model = build_cnn10(CNN10Config(**SMALL), (None, 8, 1))
        norm = model.get_layer("input_bn")
        self.assertEqual([weight.shape for weight in norm.weights], [(8,)] * 4)
        self.assertEqual((norm.momentum, norm.epsilon), (0.9, 1e-5))
        mean = np.arange(8, dtype=np.float32)
        norm.moving_mean.assign(mean)
        features = np.tile(mean[:, np.newaxis], (1, 9, 1, 1))
        self.assertAllEqual(norm(features), np.zeros_like(features))

    def test_features_of_any_length(self) -> None:
        model = build_cnn10(CNN10Config(**SMALL), (100, 8, 1))
        for num_frames in (4, 5, 300):
            embedding = model(np.ones((1, num_frames, 8, 1), np.float32))["embedding"]
            self.assertEqual(embedding.shape, (1, 512))
            self.assertTrue(np.isfinite(embedding.numpy()).all())

    def test_features_too_small_are_a_configuration_error(self) -> None:
        with self.assertRaisesRegex(ConfigError, "4 blocks need 16 frames") as caught:
            build_cnn10(CNN10Config(name="cnn10"), (15, 15, 1))
        self.assertLen(caught.exception.problems, 2)
