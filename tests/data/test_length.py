from __future__ import annotations

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.audio.length import fit_waveform
from esc_tf.data.length import fit_length


class FitLengthTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        # length, pad, crop, expected samples, valid
        (3, "end", "start", [1, 2, 3, 0, 0, 0, 0], 3),
        (3, "silence", "start", [1, 2, 3, 0, 0, 0, 0], 7),
        (3, "center", "start", [0, 0, 1, 2, 3, 0, 0], 7),
        (4, "center", "start", [0, 1, 2, 3, 4, 0, 0], 7),
        (3, "repeat", "start", [1, 2, 3, 1, 2, 3, 1], 7),
        (1, "repeat", "start", [1, 1, 1, 1, 1, 1, 1], 7),
        (1, "end", "random", [1, 0, 0, 0, 0, 0, 0], 1),
        (10, "end", "start", [1, 2, 3, 4, 5, 6, 7], 7),
        (10, "end", "center", [2, 3, 4, 5, 6, 7, 8], 7),
        (11, "repeat", "center", [3, 4, 5, 6, 7, 8, 9], 7),
        (10, "center", "random", [2, 3, 4, 5, 6, 7, 8], 7),  # without a draw: the centre
    )
    def test_rules(self, length, pad, crop, expected, valid):
        waveform = tf.range(1, length + 1, dtype=tf.float32)
        fitted, num_samples = fit_length(waveform, 7, pad, crop)
        self.assertAllEqual(fitted, expected)
        self.assertEqual(num_samples, valid)
        self.assertEqual(num_samples.dtype, tf.int32)
        # The same without TensorFlow.
        fitted, num_samples = fit_waveform(waveform.numpy(), 7, pad, crop)
        self.assertAllEqual(fitted, expected)
        self.assertEqual((num_samples, fitted.dtype), (valid, np.float32))

    @parameterized.product(
        pad=("end", "silence", "center", "repeat"), crop=("start", "center", "random")
    )
    def test_a_clip_of_the_right_length_is_left_as_it_is(self, pad, crop):
        waveform = tf.range(7, dtype=tf.float32)
        fitted, num_samples = fit_length(waveform, 7, pad, crop, tf.constant(0.9))
        self.assertAllEqual(fitted, waveform)
        self.assertEqual(num_samples, 7)

    def test_random_crop_reaches_every_place_equally(self):
        waveform = tf.range(10, dtype=tf.float32)
        fractions = np.arange(400) / 400
        starts = [
            int(fit_length(waveform, 7, "end", "random", tf.constant(f, tf.float32))[0][0])
            for f in fractions
        ]
        self.assertAllEqual(np.bincount(starts), [100, 100, 100, 100])
        # The largest float32 below one must not run over the end.
        last = fit_length(waveform, 7, "end", "random", np.nextafter(np.float32(1), np.float32(0)))
        self.assertAllEqual(last[0], [3, 4, 5, 6, 7, 8, 9])


if __name__ == "__main__":
    tf.test.main()
