"""Wave mixing: rows of a batch mixed as waveforms, before mixup."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from scipy import stats

from esc_tf.augment import build_batch_mix
from esc_tf.augment.mixup import WAVE_MIX_WEIGHT, build_wave_mix, remove_mean
from esc_tf.config import AugmentConfig
from esc_tf.config.augment import MixupConfig, WaveMixConfig
from tests.augment.test_features import NUM_DRAWS, draw_many

WAVE_MIX = AugmentConfig(wave_mix=WaveMixConfig())
TEACHERS = {"taught", "teacher_waveform", "teacher_num_samples"}


class WaveMixTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        self.num_samples = np.array([30, 10, 20, 5], np.int32)
        valid = np.arange(30) < self.num_samples[:, None]
        # Far from zero in the mean, so that taking the mean away shows.
        self.waveform = np.where(valid, rng.normal(0.5, 0.1, (4, 30)), 0.0).astype(np.float32)

    def make_batch(self, weight):
        return {
            "waveform": tf.constant(self.waveform),
            "num_samples": tf.constant(self.num_samples),
            "label": tf.eye(4),
            WAVE_MIX_WEIGHT: tf.constant(weight, tf.float32),
        }

    def test_means_are_those_of_the_valid_samples(self):
        centred = remove_mean(tf.constant(self.waveform), tf.constant(self.num_samples)).numpy()
        for row, count in zip(centred, self.num_samples, strict=True):
            self.assertAllClose(row[:count].mean(), 0.0, atol=1e-6)
            self.assertAllEqual(row[count:], np.zeros(30 - count))

    @parameterized.parameters(False, True)
    def test_mixes_centred_waveforms_and_labels_alike(self, jit_compile):
        weight = [1.0, 0.75, 0.5, 0.6]
        mix = tf.function(build_wave_mix(WAVE_MIX), jit_compile=jit_compile)
        mixed = mix(self.make_batch(weight))
        self.assertEqual(set(mixed), {"waveform", "num_samples", "label"})
        # Row 0 is not mixed: it keeps its mean and its length.
        self.assertAllEqual(mixed["waveform"][0], self.waveform[0])
        self.assertAllEqual(mixed["num_samples"], [30, 10, 30, 10])
        self.assertAllClose(
            mixed["label"], [[1, 0, 0, 0], [0, 0.75, 0, 0.25], [0.5, 0, 0.5, 0], [0, 0.4, 0, 0.6]]
        )
        centred = [
            np.where(np.arange(30) < count, row - row[:count].mean(), 0.0)
            for row, count in zip(self.waveform, self.num_samples, strict=True)
        ]
        for row in range(1, 4):
            partner = (row + 2) % 4  # half a batch away
            expected = weight[row] * centred[row] + (1 - weight[row]) * centred[partner]
            self.assertAllClose(mixed["waveform"][row], expected, atol=1e-6)

    def test_a_teacher_hears_and_answers_the_same_mixture(self):
        batch = self.make_batch([1.0, 0.75, 0.5, 0.6])
        plain = build_wave_mix(WAVE_MIX)(dict(batch))
        mixed = build_wave_mix(WAVE_MIX)(
            {
                **batch,
                "taught": batch["label"][:, ::-1],
                "teacher_waveform": tf.repeat(batch["waveform"], 2, axis=1),
                "teacher_num_samples": 2 * batch["num_samples"],
            }
        )
        self.assertEqual(set(mixed) - set(plain), TEACHERS)
        for key, value in plain.items():
            self.assertAllEqual(mixed[key], value)
        self.assertAllClose(mixed["taught"], mixed["label"][:, ::-1])
        self.assertAllClose(mixed["teacher_waveform"], tf.repeat(mixed["waveform"], 2, axis=1))
        self.assertAllEqual(mixed["teacher_num_samples"], 2 * mixed["num_samples"])

    def test_a_batch_of_one_is_mixed_with_itself(self):
        batch = {key: value[:1] for key, value in self.make_batch([0.7] * 4).items()}
        mixed = build_wave_mix(WAVE_MIX)(batch)
        self.assertAllClose(mixed["waveform"][0], self.waveform[0] - self.waveform[0].mean())
        self.assertAllClose(mixed["label"], [[1, 0, 0, 0]])

    def test_weights_are_the_larger_part_of_beta(self):
        config = AugmentConfig(wave_mix=WaveMixConfig(probability=1.0, alpha=2.0))
        weights = draw_many(config)[WAVE_MIX_WEIGHT]
        self.assertEqual((weights.shape, weights.dtype), ((NUM_DRAWS,), np.float32))
        self.assertAllInRange(weights, 0.5, 1.0)
        folded = stats.beta(2.0, 2.0)
        # Of max(x, 1 - x): both halves of a symmetric density lie on one another.
        self.assertGreater(stats.kstest(weights, lambda x: 2.0 * folded.cdf(x) - 1.0).pvalue, 0.001)

    @parameterized.parameters(0.0, 0.5, 1.0)
    def test_probability(self, probability):
        config = AugmentConfig(wave_mix=WaveMixConfig(probability=probability))
        num_mixed = np.sum(draw_many(config)[WAVE_MIX_WEIGHT] < 1.0)
        low, high = stats.binom.interval(0.9999, NUM_DRAWS, probability)
        self.assertBetween(num_mixed, low, high)

    def test_stands_beside_mixup_on_features_and_before_mixup_of_waveforms(self):
        on_features = WAVE_MIX.model_copy(update={"mixup": MixupConfig(on="features")})
        kept = tf.fill([4], 0.3)
        batch = {**self.make_batch([0.5] * 4), "draw/mixup_weight": kept}
        mixed = build_batch_mix(on_features)(batch)
        self.assertAllEqual(mixed["draw/mixup_weight"], kept)
        self.assertAllEqual(
            mixed["waveform"], build_wave_mix(WAVE_MIX)(self.make_batch([0.5] * 4))["waveform"]
        )
        both = WAVE_MIX.model_copy(update={"mixup": MixupConfig(on="waveform")})
        twice = build_batch_mix(both)(batch)
        self.assertEqual(set(twice), {"waveform", "num_samples", "label"})
        # Row 0: 0.3 of the mixture of 0 and 2, the rest of that of 3 and 1.
        self.assertAllClose(twice["label"][0], [0.15, 0.35, 0.15, 0.35])

    def test_nothing_configured(self):
        self.assertIsNone(build_wave_mix(AugmentConfig()))
        self.assertIsNone(build_batch_mix(AugmentConfig(mixup=MixupConfig(on="features"))))


if __name__ == "__main__":
    tf.test.main()
