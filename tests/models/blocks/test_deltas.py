"""Deltas against librosa's."""

from __future__ import annotations

import librosa
import numpy as np
import tensorflow as tf

from esc_tf.models.blocks import DeltaChannel


class DeltaChannelTest(tf.test.TestCase):
    def test_agrees_with_librosa(self) -> None:
        features = np.random.default_rng(0).normal(size=(2, 41, 60, 1)).astype(np.float32)
        outputs = DeltaChannel()(features).numpy()
        self.assertEqual(outputs.shape, DeltaChannel().compute_output_shape(features.shape))
        self.assertAllEqual(outputs[..., :1], features)
        expected = librosa.feature.delta(features[..., 0], width=9, axis=1, mode="nearest")
        self.assertGreater(np.abs(expected).max(), 0.1)
        # measured: 6e-8
        self.assertAllClose(outputs[..., 1], expected, rtol=0, atol=1e-6)

    def test_a_ramp_has_its_slope_and_a_constant_none(self) -> None:
        ramp = 3.0 * np.arange(20, dtype=np.float32).reshape(1, 20, 1, 1)
        outputs = DeltaChannel()(np.concatenate([ramp, 0 * ramp + 7.0], axis=2)).numpy()
        self.assertAllClose(outputs[0, 4:16, 0, 1], np.full(12, 3.0), atol=1e-5)
        self.assertAllEqual(outputs[0, :, 1, 1], np.zeros(20))

    def test_any_length(self) -> None:
        compute = tf.function(DeltaChannel(), [tf.TensorSpec([None, None, 4, 1])])
        for num_frames in (1, 3, 20):
            features = np.random.default_rng(0).normal(size=(2, num_frames, 4, 1))
            features = features.astype(np.float32)
            self.assertAllClose(compute(features), DeltaChannel()(features))


if __name__ == "__main__":
    tf.test.main()
