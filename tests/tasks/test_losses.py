"""Losses against scikit-learn's and against answers known in closed form."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from scipy.special import expit, rel_entr, softmax
from sklearn.metrics import log_loss

from esc_tf.config import RecipeConfig
from esc_tf.config.recipe import DistillationConfig
from esc_tf.tasks import build_loss
from esc_tf.tasks.losses import build_teacher_loss, soften

BINARY, CATEGORICAL = "binary_crossentropy", "categorical_crossentropy"


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


class TeacherLossTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self) -> None:
        super().setUp()
        rng = np.random.default_rng(0)
        self.student, self.teacher = (3 * rng.normal(size=(2, 6, 4))).astype(np.float32)

    def build(self, loss: str, temperature: float = 1.0):
        distillation = DistillationConfig(targets="x.npz", temperature=temperature)
        return build_teacher_loss(RecipeConfig(loss=loss, distillation=distillation))

    @parameterized.parameters(1.0, 0.5, 4.0)
    def test_categorical_is_scaled_divergence(self, temperature: float) -> None:
        taught = soften(self.teacher, CATEGORICAL, temperature)
        expected = softmax(self.teacher.astype(np.float64) / temperature, axis=1)
        self.assertAllClose(taught, expected, rtol=1e-5, atol=1e-9)  # measured: 7e-7
        other = softmax(self.student.astype(np.float64) / temperature, axis=1)
        divergence = temperature**2 * rel_entr(expected, other).sum(axis=1)
        loss = self.build(CATEGORICAL, temperature)(taught, self.student)
        self.assertAllClose(loss, divergence, rtol=1e-5, atol=1e-6)  # measured: 1e-6 of it

    @parameterized.parameters(1.0, 2.0)
    def test_binary_is_scaled_crossentropy(self, temperature: float) -> None:
        taught = soften(self.teacher, BINARY, temperature).numpy()
        expected = expit(self.teacher.astype(np.float64) / temperature)
        self.assertAllClose(taught, expected, rtol=1e-5, atol=0)
        other = expit(self.student.astype(np.float64) / temperature)
        loss = -(expected * np.log(other) + (1 - expected) * np.log(1 - other)).mean(axis=1)
        found = self.build(BINARY, temperature)(taught, self.student)
        self.assertAllClose(found, temperature**2 * loss, rtol=1e-5, atol=0)  # measured: 6e-8

    @parameterized.parameters(1.0, 3.0)
    def test_a_student_that_agrees_has_no_divergence(self, temperature: float) -> None:
        taught = soften(self.teacher, CATEGORICAL, temperature)
        loss = self.build(CATEGORICAL, temperature)(taught, self.teacher)
        self.assertAllClose(loss, np.zeros(6), rtol=0, atol=1e-5)  # measured: 7e-7

    def test_gradients_keep_their_size_at_high_temperatures(self) -> None:
        norms = []
        for temperature in (20.0, 40.0):
            logits = tf.Variable(self.student)
            with tf.GradientTape() as tape:
                taught = soften(self.teacher, CATEGORICAL, temperature)
                loss = tf.reduce_mean(self.build(CATEGORICAL, temperature)(taught, logits))
            norms.append(float(tf.norm(tape.gradient(loss, logits))))
        self.assertAllClose(norms[0], norms[1], rtol=0.05)

    @parameterized.parameters(CATEGORICAL, BINARY)
    def test_certain_teachers_stay_finite(self, name: str) -> None:
        logits = tf.Variable([[-100.0, 100.0, -100.0]])
        with tf.GradientTape() as tape:
            taught = soften([[500.0, -500.0, 0.0]], name, 1.0)
            loss = self.build(name)(taught, logits)
        self.assertTrue(np.isfinite(loss.numpy()).all())
        self.assertTrue(np.isfinite(tape.gradient(loss, logits).numpy()).all())

    def test_without_distillation_there_is_none(self) -> None:
        with self.assertRaisesRegex(ValueError, "recipe.distillation is null"):
            build_teacher_loss(recipe(CATEGORICAL))
