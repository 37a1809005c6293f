"""Statistics over valid frames against NumPy on the valid frames alone."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.frontends import clip_statistics


def numpy_standardize(clip: np.ndarray) -> np.ndarray:
    clip = clip.astype(np.float64)
    return (clip - clip.mean()) / (clip.std() + 1e-6)


def numpy_unit_range(clip: np.ndarray) -> np.ndarray:
    return (clip - clip.min()) / (clip.max() - clip.min())


PAIRS = {
    "maximum": (clip_statistics.maximum, np.max),
    "minimum": (clip_statistics.minimum, np.min),
    "mean": (clip_statistics.mean, np.mean),
    "standardize": (clip_statistics.standardize, numpy_standardize),
    "scale_to_unit_range": (clip_statistics.scale_to_unit_range, numpy_unit_range),
}


class ClipStatisticsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*PAIRS)
    def test_equals_numpy_on_the_valid_frames(self, name: str) -> None:
        ours, theirs = PAIRS[name]
        features = np.random.default_rng(0).normal(-50.0, 20.0, (3, 7, 5)).astype(np.float32)
        num_valid = np.array([7, 4, 1])
        is_valid = np.arange(7)[np.newaxis, :, np.newaxis] < num_valid[:, np.newaxis, np.newaxis]
        spoilt = np.where(is_valid, features, np.float32(1e3))
        for values, mask in ((features, None), (spoilt, is_valid)):
            result = ours(tf.constant(values), None if mask is None else tf.constant(mask)).numpy()
            self.assertTrue(np.isfinite(result).all())
            for row, count in enumerate(num_valid if mask is not None else [7, 7, 7]):
                expected = np.atleast_2d(theirs(features[row, :count]))
                # Measured: 4e-6, on values of up to 100.
                self.assertAllClose(result[row, : len(expected)], expected, rtol=0.0, atol=2e-5)

    @parameterized.parameters("standardize", "scale_to_unit_range")
    def test_constant_clip_becomes_zero(self, name: str) -> None:
        ours, _ = PAIRS[name]
        features = tf.constant(np.full((1, 431, 128), -93.27, np.float32))

        def compute(features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch(features)
                result = ours(features)
                value = tf.reduce_sum(result**2 + result)
            return result, tape.gradient(value, features)

        # XLA, unlike TensorFlow's own kernels, makes 0 / 0 of the gradient of a root at 0.
        for compiled in (False, True):
            result, gradient = tf.function(compute, jit_compile=compiled)(features)
            self.assertAllEqual(result, np.zeros((1, 431, 128)))
            self.assertTrue(np.isfinite(gradient).all())


if __name__ == "__main__":
    tf.test.main()
