"""Losses against scikit-learn's and against answers known in closed form."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from scipy.special import expit, softmax
from sklearn.metrics import log_loss

from esc_tf.config import RecipeConfig
from esc_tf.tasks import build_loss


def recipe(loss: str, smoothing: float = 0.0) -> RecipeConfig:
    return RecipeConfig(loss=loss, label_smoothing=smoothing)


class LossTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self) -> None:
        super().setUp()
        rng = np.random.default_rng(0)
        self.logits = (3 * rng.normal(size=(6, 4))).astype(np.float32)
        self.label_ids = rng.integers(0, 4, size=6)
        self.labels = np.eye(4, dtype=np.float32)[self.label_ids]

    def test_categorical_equals_scikit_learn(self) -> None:
        losses = build_loss(recipe("categorical_crossentropy"))(self.labels, self.logits)
        probabilities = softmax(self.logits.astype(np.float64), axis=1)
        expected = [
            log_loss([label], [row], labels=range(4))
            for label, row in zip(self.label_ids, probabilities, strict=True)
        ]
        self.assertEqual((losses.shape, losses.dtype), ((6,), tf.float32))
        self.assertAllClose(losses, expected, rtol=1e-5, atol=0)  # measured: 2e-7

    def test_binary_equals_scikit_learn(self) -> None:
        losses = build_loss(recipe("binary_crossentropy"))(self.labels, self.logits)
        probabilities = expit(self.logits.astype(np.float64))
        expected = [
            log_loss(labels, row, labels=[0, 1])
            for labels, row in zip(self.labels, probabilities, strict=True)
        ]
        self.assertEqual((losses.shape, losses.dtype), ((6,), tf.float32))
        self.assertAllClose(losses, expected, rtol=1e-5, atol=0)  # measured: 8e-8

    @parameterized.parameters("categorical_crossentropy", "binary_crossentropy")
    def test_is_linear_in_soft_labels(self, name: str) -> None:
        loss, other = build_loss(recipe(name)), self.labels[::-1]
        mixed = loss(0.3 * self.labels + 0.7 * other, self.logits)
        expected = 0.3 * loss(self.labels, self.logits) + 0.7 * loss(other, self.logits)
        self.assertAllClose(mixed, expected, rtol=1e-5, atol=0)  # measured: 8e-8

    def test_smoothing_known_answers(self) -> None:
        labels, logits = np.eye(4, dtype=np.float32)[:1], np.zeros((1, 4), np.float32)
        logits[0, 0] = 1.0
        normaliser = math.log(math.e + 3)
        expected = normaliser - (0.9 + 0.1 / 4)
        loss = build_loss(recipe("categorical_crossentropy", 0.1))(labels, logits)
        self.assertAllClose(loss, [expected], rtol=1e-6, atol=0)
        # Binary: the class's own label becomes 0.95, that of the three others 0.05.
        expected = (math.log(1 + math.e) - 0.95 + 3 * math.log(2)) / 4
        loss = build_loss(recipe("binary_crossentropy", 0.1))(labels, logits)
        self.assertAllClose(loss, [expected], rtol=1e-6, atol=0)

    @parameterized.parameters(
        ("categorical_crossentropy", 200.0), ("binary_crossentropy", (100.0 + 100.0) / 3)
    )
    def test_extreme_logits_stay_finite(self, name: str, expected: float) -> None:
        logits = tf.Variable([[-100.0, 100.0, -100.0]])
        with tf.GradientTape() as tape:
            loss = build_loss(recipe(name))([[1.0, 0.0, 0.0]], logits)
        gradient = tape.gradient(loss, logits)
        self.assertAllClose(loss, [expected], rtol=1e-6, atol=0)
        self.assertTrue(np.isfinite(gradient.numpy()).all())
        self.assertGreater(np.abs(gradient.numpy()).max(), 0.1)

    def test_low_precision_logits_are_raised_first(self) -> None:
        logits = tf.cast(self.logits, tf.bfloat16)
        loss = build_loss(recipe("categorical_crossentropy"))
        self.assertAllEqual(
            loss(self.labels, logits), loss(self.labels, tf.cast(logits, "float32"))
        )
