"""SE-CNN: the published sizes, the named activations, what it refuses."""

from __future__ import annotations

import math

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.config import SECNNConfig
from esc_tf.errors import ConfigError
from esc_tf.models import build_se_cnn

PUBLISHED_PARAMETERS = {
    "block1": 37_696,
    "block2": 221_696,
    "block3": 885_760,
    "block4": 3_540_992,
    "block5": 14_159_872,
    "se2": 6_144,
    "se3": 24_576,
    "se4": 98_304,
    "se5": 393_216,
}


class SECNNTest(tf.test.TestCase, parameterized.TestCase):
    def test_published_network(self) -> None:
        model = build_se_cnn(SECNNConfig(name="se_cnn"), (431, 128, 1))
        counts = dict.fromkeys(PUBLISHED_PARAMETERS, 0)
        for layer in model.layers:
            for variable in layer.trainable_variables:
                counts[layer.name.split("_")[0]] += math.prod(variable.shape)
        self.assertEqual(counts, PUBLISHED_PARAMETERS)
        shapes = {name: tensor.shape[1:] for name, tensor in model.output.items()}
        self.assertEqual(
            shapes,
            {
                "block1": (215, 64, 64),
                "block2": (107, 32, 128),
                "se2": (107, 32, 128),
                "block3": (53, 16, 256),
                "se3": (53, 16, 256),
                "block4": (26, 8, 512),
                "se4": (26, 8, 512),
                "block5": (13, 4, 1024),
                "se5": (13, 4, 1024),
                "embedding": (1024,),
            },
        )

    def test_embedding_is_the_mean_of_the_last_activation(self) -> None:
        model = build_se_cnn(small_config(), (None, 16, 1))
        outputs = model(random_features(20, 16))
        self.assertAllClose(
            outputs["embedding"],
            tf.reduce_mean(outputs["se2"], axis=(1, 2)),
            rtol=0,
            atol=1e-6,  # measured: 0
        )

    def test_attention_scales_the_block_before_it(self) -> None:
        keras.utils.set_random_seed(0)
        model = build_se_cnn(small_config(), (16, 16, 1))
        outputs = model(random_features(16, 16))
        before, after = outputs["block2"].numpy(), outputs["se2"].numpy()
        # One gate for each clip and channel, found where the channel is loudest.
        gates = after.max(axis=(1, 2)) / before.max(axis=(1, 2))
        # measured: 1.2e-7
        self.assertAllClose(after, before * gates[:, None, None, :], rtol=0, atol=1e-6)
        self.assertAllInRange(gates, 0.0, 1.0)
        self.assertGreater(gates.max() - gates.min(), 0.1)

    def test_an_unknown_length_gives_the_same_weights_and_values(self) -> None:
        any_length = build_se_cnn(small_config(), (None, 16, 1))
        fixed = build_se_cnn(small_config(), (20, 16, 1))
        fixed.set_weights(any_length.get_weights())
        features = random_features(20, 16)
        self.assertAllEqual(any_length(features)["embedding"], fixed(features)["embedding"])

    def test_grid_is_flattened_as_time_frequency_channel(self) -> None:
        model = build_se_cnn(small_config(pool_grid=(2, 2)), (16, 16, 1))
        outputs = model(random_features(16, 16))
        cells = tf.reshape(outputs["se2"], (3, 2, 2, 2, 2, 8))
        expected = tf.reshape(tf.reduce_mean(cells, axis=(2, 4)), (3, 32))
        self.assertAllClose(outputs["embedding"], expected, rtol=0, atol=1e-6)  # measured: 1.2e-7

    @parameterized.parameters(
        ((3, 16, 1), None, r"2 blocks need 4 frames, the clip has 3"),
        ((16, 3, 1), None, r"2 blocks need 4 frequency bins, the features have 3"),
        ((None, 16, 1), (2, 2), r"model.pool_grid: .* known length"),
    )
    def test_refuses_features_that_do_not_fit(self, shape, pool_grid, message) -> None:
        with self.assertRaisesRegex(ConfigError, message):
            build_se_cnn(small_config(pool_grid=pool_grid), shape)


def small_config(**changes) -> SECNNConfig:
    return SECNNConfig(
        name="se_cnn",
        block_filters=[4, 8],
        squeeze_excitation_blocks=[2],
        squeeze_excitation_ratio=1,
        **changes,
    )


def random_features(time: int, frequency: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, time, frequency, 1)).astype(np.float32)
