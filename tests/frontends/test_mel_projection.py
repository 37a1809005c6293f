"""The grouped product is the whole product."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.frontends.mel_projection import MelProjection, count_used_bins


class MelProjectionTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(1, 31, 32, 33, 128)
    def test_equals_the_matrix_product(self, num_bands: int) -> None:
        rng = np.random.default_rng(num_bands)
        bank = np.zeros((257, num_bands), np.float32)
        for band in range(num_bands):
            first = rng.integers(0, 250)
            bank[first : first + rng.integers(1, 7), band] = rng.uniform(0.1, 1.0)
        power = rng.uniform(size=(2, 5, 257)).astype(np.float32)
        # Measured: equal to 1e-7; sums of other zeros.
        self.assertAllClose(MelProjection(bank)(power), power @ bank, rtol=1e-5, atol=1e-7)

    def test_bins_above_the_highest_band_do_not_count(self) -> None:
        bank = np.zeros((100, 40), np.float32)
        bank[3, 2], bank[60, 30] = 1.0, 1.0
        self.assertEqual(count_used_bins(bank), 61)

    def test_empty_bands_give_zero(self) -> None:
        bank = np.zeros((100, 70), np.float32)
        power = np.ones((1, 3, 100), np.float32)
        self.assertAllEqual(MelProjection(bank)(power), np.zeros((1, 3, 70)))
        self.assertEqual(count_used_bins(bank), 1)


if __name__ == "__main__":
    tf.test.main()
