"""Confidence against accuracy: known answers."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from esc_tf.errors import DataError
from esc_tf.evaluation.calibration import measure_calibration


class CalibrationTest(tf.test.TestCase):
    def test_known_bins(self) -> None:
        # Bin (0.9, 1]: confidences 0.96 and 0.98, one of them right; bin (0.5, 0.6]: one, right.
        probabilities = np.array([[0.96, 0.04], [0.98, 0.02], [0.4, 0.6]])
        found = measure_calibration(np.array([0, 1, 1]), probabilities)
        self.assertAllClose(found.expected_error, (2 * abs(0.97 - 0.5) + abs(0.6 - 1.0)) / 3)
        self.assertAllClose((found.confidence, found.accuracy), (2.54 / 3, 2 / 3))
        self.assertEqual([item.num_clips for item in found.bins], [0, 0, 0, 0, 0, 1, 0, 0, 0, 2])
        last = found.bins[-1]
        self.assertAllClose((last.confidence, last.accuracy), (0.97, 0.5))
        self.assertIsNone(found.bins[0].accuracy)

    def test_confident_and_right_is_no_error_and_confident_and_wrong_the_largest(self) -> None:
        probabilities = np.eye(3)
        self.assertEqual(measure_calibration(np.arange(3), probabilities).expected_error, 0.0)
        wrong = measure_calibration((np.arange(3) + 1) % 3, probabilities)
        self.assertEqual(wrong.expected_error, 1.0)

    def test_every_clip_falls_into_one_bin(self) -> None:
        rng = np.random.default_rng(0)
        probabilities = rng.dirichlet(np.ones(4), 500)
        found = measure_calibration(rng.integers(0, 4, 500), probabilities, num_bins=7)
        self.assertEqual(sum(item.num_clips for item in found.bins), 500)
        for item in found.bins:
            if item.confidence is not None:
                self.assertBetween(item.confidence, item.lower, item.upper)
        confidence = probabilities.max(axis=1)
        self.assertAllClose(found.confidence, confidence.mean())

    def test_labels_drawn_from_the_probabilities_are_calibrated(self) -> None:
        rng = np.random.default_rng(1)
        probabilities = rng.dirichlet(np.ones(3), 20000)
        labels = (rng.random((20000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
        # Measured 0.0070; what is left is the chance of the draw.
        self.assertLess(measure_calibration(labels, probabilities).expected_error, 0.02)

    def test_no_clips_are_refused(self) -> None:
        with self.assertRaises(DataError):
            measure_calibration(np.zeros(0, int), np.zeros((0, 3)))


if __name__ == "__main__":
    tf.test.main()
