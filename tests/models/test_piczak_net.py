"""PiczakNet: its published sizes, a rendering in NumPy, penalties, dropout, names."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.config import HeadConfig, PiczakNetConfig, build_experiment
from esc_tf.errors import ConfigError
from esc_tf.models import build_piczak_net
from esc_tf.tasks import build_classifier
from esc_tf.tasks.heads import build_head

FEATURES = (41, 60, 1)


def build(shape: tuple[int | None, int, int] = FEATURES, **options: Any) -> keras.Model:
    settings = {"dense_units": 20} | options
    return build_piczak_net(PiczakNetConfig(name="piczak_net", **settings), shape)


def count(model: keras.Model) -> int:
    return sum(math.prod(weight.shape) for weight in model.trainable_variables)


def convolve(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(0, 1))
    return np.einsum("tfchw,hwcd->tfd", windows, kernel) + bias


def pool(x: np.ndarray, size: tuple[int, int], strides: tuple[int, int]) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis=(0, 1))
    return windows[:: strides[0], :: strides[1]].max(axis=(-2, -1))


class PublishedTest(tf.test.TestCase):
    def test_parameters(self) -> None:
        # The published network is never trained here: its shapes alone are asked for.
        for options, published in (({}, 26_306_730), ({"deltas": True}, 26_334_090)):
            backbone = build(dense_units=5000, **options)
            _, head = build_head(backbone, HeadConfig(dropout=0.5), 10, "softmax", "float32")
            self.assertEqual(count(backbone) + count(head), published)
        by_layer = {layer.name: layer.count_params() for layer in backbone.layers if layer.weights}
        by_layer["block1_conv"] -= 6 * 57 * 80  # the second channel's
        self.assertEqual(
            by_layer,
            {
                "block1_conv": 27_440,
                "block2_conv": 19_280,
                "dense1": 1_205_000,
                "dense2": 25_005_000,
            },
        )

    def test_shapes(self) -> None:
        shapes = {name: value.shape[1:] for name, value in build().output.items()}
        self.assertEqual(
            shapes,
            {"block1": (12, 1, 80), "block2": (3, 1, 80), "dense1": (20,), "embedding": (20,)},
        )

    def test_layer_names_are_stable(self) -> None:
        names = [layer.name for layer in build(deltas=True).layers]
        self.assertEqual(
            names,
            [
                *("features", "deltas"),
                *("block1_conv", "block1_relu", "block1_pool", "block1_dropout"),
                *("block2_conv", "block2_relu", "block2_pool"),
                *("dense1_flatten", "dense1", "dense1_relu", "dense1_dropout"),
                *("dense2", "dense2_relu"),
            ],
        )
        without = [layer.name for layer in build(dropout=0.0).layers]
        self.assertFalse(any("dropout" in name or "deltas" in name for name in without))


class NumpyTest(tf.test.TestCase):
    def test_agrees(self) -> None:
        model = build(filters=5)
        rng = np.random.default_rng(0)
        model.set_weights([0.1 * rng.normal(size=item.shape) for item in model.weights])
        features = rng.normal(size=FEATURES)
        kernel1, bias1, kernel2, bias2, *dense = (
            weight.astype(np.float64) for weight in model.get_weights()
        )
        # Written in the published order: bands first, then frames.
        bands_first = features.transpose(1, 0, 2)
        x = convolve(bands_first, kernel1.transpose(1, 0, 2, 3), bias1)
        self.assertEqual(x.shape, (4, 36, 5))
        x = pool(np.maximum(x, 0.0), (4, 3), (1, 3))
        self.assertEqual(x.shape, (1, 12, 5))
        x = convolve(x, kernel2.transpose(1, 0, 2, 3), bias2)
        x = pool(np.maximum(x, 0.0), (1, 3), (1, 3))
        self.assertEqual(x.shape, (1, 3, 5))
        x = x.reshape(-1)
        for kernel, bias in (dense[:2], dense[2:]):
            x = np.maximum(x @ kernel + bias, 0.0)
        self.assertGreater(x.max(), 0.1)
        embedding = model(features[np.newaxis].astype(np.float32))["embedding"]
        # measured: 2e-7
        self.assertAllClose(embedding[0], x, rtol=0, atol=1e-5)


class TrainingTest(tf.test.TestCase, parameterized.TestCase):
    def build_classifier(self, **model: Any) -> keras.Model:
        return build_classifier(
            build_experiment(
                {
                    "name": "piczak",
                    "audio": {"sample_rate_hz": 22050, "duration_s": 1.0},
                    "data": {"name": "synthetic"},
                    "front_end": {"name": "log_mel", "n_fft": 1024, "n_mels": 60},
                    "model": {"name": "piczak_net", "dense_units": 20, **model},
                }
            ),
            ["a", "b", "c"],
        )

    def test_penalty_is_over_all_kernels_and_no_bias(self) -> None:
        classifier = self.build_classifier()
        self.assertLen(classifier.losses, 5)
        kernels = [
            weight.numpy() for weight in classifier.weights if weight.path.endswith("kernel")
        ]
        self.assertLen(kernels, 5)
        expected = 1e-3 * sum(float((kernel.astype(np.float64) ** 2).sum()) for kernel in kernels)
        self.assertAllClose(sum(float(loss) for loss in classifier.losses), expected, rtol=1e-5)

    def test_penalty_of_frozen_layers_counts_no_more(self) -> None:
        classifier = self.build_classifier()
        classifier.backbone.get_layer("dense2").trainable = False
        self.assertLen(classifier.losses, 4)

    def test_no_penalty_where_none_is_asked_for(self) -> None:
        classifier = self.build_classifier(kernel_l2=0.0, head={"dropout": 0.5})
        self.assertEmpty(classifier.losses)

    def test_dropout_is_at_three_places_and_off_in_inference(self) -> None:
        classifier = self.build_classifier()
        layers = [*classifier.backbone.layers, *classifier.head.layers]
        rates = {layer.name: layer.rate for layer in layers if hasattr(layer, "rate")}
        self.assertEqual(rates, {"block1_dropout": 0.5, "dense1_dropout": 0.5, "head_dropout": 0.5})
        features = np.random.default_rng(0).normal(size=(2, 44, 60, 1)).astype(np.float32)
        first, second = (classifier.classify_features(features)["logits"] for _ in range(2))
        self.assertAllEqual(first, second)
        noisy = classifier.classify_features(features, training=True)["logits"]
        self.assertGreater(np.abs(noisy - first).max(), 1e-3)

    def test_the_published_width_takes_a_step(self) -> None:
        classifier = self.build_classifier(dense_units=5000)
        features = np.random.default_rng(0).normal(size=(2, 44, 60, 1)).astype(np.float32)
        before = classifier.backbone.get_layer("dense2").get_weights()[0][:50, :50]
        optimizer = keras.optimizers.SGD(2e-3, momentum=0.9, nesterov=True)
        with tf.GradientTape() as tape:
            logits = classifier.classify_features(features, training=True)["logits"]
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits([0, 2], logits)
            ) + tf.add_n(classifier.losses)
        variables = [*classifier.backbone.trainable_variables, *classifier.head.trainable_variables]
        optimizer.apply(tape.gradient(loss, variables), variables)
        after = classifier.backbone.get_layer("dense2").get_weights()[0][:50, :50]
        self.assertTrue(np.isfinite(after).all())
        self.assertGreater(np.abs(after - before).max(), 0.0)


class ErrorTest(tf.test.TestCase, parameterized.TestCase):
    def test_the_smallest_features(self) -> None:
        self.assertEqual(build((20, 60, 1)).output["block2"].shape[1:], (1, 1, 80))

    @parameterized.parameters(
        ((19, 60, 1), {}, "model.name: piczak_net needs 20 frames, the clip has 19"),
        ((41, 59, 1), {}, "model.name: piczak_net needs 60 frequency bands, the features have 59"),
        ((None, 60, 1), {}, "features of a known length"),
        ((41, 60, 2), {"deltas": True}, "model.deltas: needs features of one channel, not of 2"),
    )
    def test_features_that_do_not_fit(
        self, shape: tuple[int | None, int, int], options: dict, sentence: str
    ) -> None:
        with self.assertRaisesRegex(ConfigError, sentence):
            build(shape, **options)


if __name__ == "__main__":
    tf.test.main()
