from __future__ import annotations

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from scipy import stats

from esc_tf.augment import (
    apply_feature_augment,
    build_feature_draw,
    build_waveform_mixup,
    mix_rows,
)
from esc_tf.augment.features import find_masked
from esc_tf.config import AugmentConfig
from esc_tf.config.augment import (
    FrequencyMaskConfig,
    MixupConfig,
    TimeMaskConfig,
    WaveMixConfig,
)

NUM_DRAWS = 1000
BATCH, TIME, FREQUENCY, CLASSES = 6, 30, 20, 4


def draw_many(augment, count=NUM_DRAWS):
    """Draw for ``count`` clips: a batch of draws."""
    draw = build_feature_draw(augment)
    seeds = np.stack([np.arange(count), np.full(count, 9)], axis=1).astype(np.int32)
    batch = next(iter(tf.data.Dataset.from_tensor_slices(seeds).map(draw).batch(count)))
    return {key: value.numpy() for key, value in batch.items()}


class FeatureTestCase(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        self.features = rng.standard_normal((BATCH, TIME, FREQUENCY, 1)).astype(np.float32)
        self.labels = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, BATCH)]

    def apply(self, augment, batch, jit_compile=False):
        apply = tf.function(
            lambda features, labels, batch: apply_feature_augment(features, labels, batch, augment),
            jit_compile=jit_compile,
        )
        features, labels = apply(self.features, self.labels, batch)
        return features.numpy(), labels.numpy()

    def assert_probability(self, num_drawn, probability):
        low, high = stats.binom.interval(0.9999, NUM_DRAWS, probability)
        self.assertBetween(num_drawn, low, high)


class MaskTest(FeatureTestCase):
    @parameterized.product(kind=("frequency", "time"), num_masks=(1, 3))
    def test_widths_and_places_fill_their_ranges(self, kind, num_masks):
        config = (
            AugmentConfig(frequency_mask=FrequencyMaskConfig(num_masks=num_masks, max_bands=5))
            if kind == "frequency"
            else AugmentConfig(time_mask=TimeMaskConfig(num_masks=num_masks, max_frames=5))
        )
        drawn = draw_many(config)
        self.assertEqual(list(drawn), [f"draw/{kind}_mask"])
        draws = drawn[f"draw/{kind}_mask"]
        self.assertEqual((draws.shape, draws.dtype), ((NUM_DRAWS, num_masks, 2), np.float32))
        counts = np.bincount(draws[..., 0].astype(int).ravel())
        self.assertLen(counts, 6)  # widths 0 to 5
        self.assertGreater(stats.chisquare(counts).pvalue, 0.001)
        for number in range(num_masks):
            self.assertGreater(stats.kstest(draws[:, number, 1], "uniform").pvalue, 0.001)

    @parameterized.parameters(
        # width and place as drawn, positions masked out of 8
        ((3, 0.0), [0, 1, 2]),
        ((3, 0.999), [5, 6, 7]),
        ((3, 0.5), [3, 4, 5]),
        ((0, 0.5), []),
        ((1, 0.99), [7]),
        ((8, 0.7), [0, 1, 2, 3, 4, 5, 6, 7]),
        ((50, 0.7), [0, 1, 2, 3, 4, 5, 6, 7]),
    )
    def test_masked_positions(self, draw, expected):
        masked = find_masked(tf.constant([[draw]], tf.float32), 8)
        self.assertAllEqual(np.flatnonzero(masked[0]), expected)

    def test_several_masks_add_up(self):
        draws = tf.constant([[[2, 0.0], [3, 0.99]], [[0, 0.0], [2, 0.5]]], tf.float32)
        masked = find_masked(draws, 8)
        self.assertAllEqual(np.flatnonzero(masked[0]), [0, 1, 5, 6, 7])
        self.assertAllEqual(np.flatnonzero(masked[1]), [3, 4])

    def test_every_place_is_equally_likely(self):
        draws = tf.constant([[[3, place]] for place in (np.arange(600) + 0.5) / 600], tf.float32)
        starts = np.argmax(find_masked(draws, 8), axis=1)
        self.assertAllEqual(np.bincount(starts), [100] * 6)

    @parameterized.parameters(0.0, 0.3, 1.0)
    def test_probability(self, probability):
        augment = AugmentConfig(
            frequency_mask=FrequencyMaskConfig(probability=probability, max_bands=10**6),
            time_mask=TimeMaskConfig(probability=probability, max_frames=10**6),
        )
        drawn = {key: draws[:, 0, 0] > 0 for key, draws in draw_many(augment).items()}
        for applied in drawn.values():
            if probability in (0.0, 1.0):
                self.assertAllEqual(applied, [bool(probability)] * NUM_DRAWS)
            else:
                self.assert_probability(applied.sum(), probability)
        both = drawn["draw/frequency_mask"] & drawn["draw/time_mask"]
        self.assert_probability(both.sum(), probability**2)

    @parameterized.parameters(False, True)
    def test_masked_values_are_the_clips_own_mean(self, jit_compile):
        augment = AugmentConfig(
            frequency_mask=FrequencyMaskConfig(max_bands=8),
            time_mask=TimeMaskConfig(num_masks=2, max_frames=6),
        )
        batch = draw_many(augment, BATCH)
        features, labels = self.apply(augment, batch, jit_compile)
        rows = find_masked(batch["draw/frequency_mask"], FREQUENCY).numpy()
        frames = find_masked(batch["draw/time_mask"], TIME).numpy()
        masked = rows[:, None, :, None] | frames[:, :, None, None]
        mean = self.features.mean(axis=(1, 2, 3), keepdims=True)
        # Measured: 1e-8.
        self.assertAllClose(features, np.where(masked, mean, self.features), atol=1e-6)
        self.assertAllEqual(labels, self.labels)
        self.assertBetween(masked.mean(), 0.05, 0.95)


class MixupTest(FeatureTestCase):
    @parameterized.parameters(0.2, 1.0, 5.0)
    def test_weights_are_beta(self, alpha):
        weights = draw_many(AugmentConfig(mixup=MixupConfig(alpha=alpha)))["draw/mixup_weight"]
        self.assertEqual((weights.shape, weights.dtype), ((NUM_DRAWS,), np.float32))
        self.assertAllInRange(weights, 0.0, 1.0)
        self.assertGreater(stats.kstest(weights, stats.beta(alpha, alpha).cdf).pvalue, 0.001)

    def test_tiny_alpha_is_a_coin(self):
        """Both gamma draws underflow, and the weight is still a number."""
        weights = draw_many(AugmentConfig(mixup=MixupConfig(alpha=1e-6)))["draw/mixup_weight"]
        self.assertAllInSet(weights, [0.0, 1.0])
        self.assert_probability(weights.sum(), 0.5)

    @parameterized.parameters(0.0, 0.3, 1.0)
    def test_probability(self, probability):
        mixup = MixupConfig(probability=probability, alpha=5.0)
        weights = draw_many(AugmentConfig(mixup=mixup))["draw/mixup_weight"]
        if probability in (0.0, 1.0):
            self.assertAllEqual(weights < 1, [bool(probability)] * NUM_DRAWS)
        else:
            self.assert_probability(np.sum(weights < 1), probability)

    def test_weights_of_at_least_half_are_the_larger_of_both(self):
        plain, larger = (
            draw_many(AugmentConfig(mixup=MixupConfig(alpha=0.3, at_least_half=at_least_half)))
            for at_least_half in (False, True)
        )
        expected = np.maximum(plain["draw/mixup_weight"], 1.0 - plain["draw/mixup_weight"])
        self.assertAllEqual(larger["draw/mixup_weight"], expected)

    @parameterized.parameters(False, True)
    def test_features_and_labels_are_mixed_alike(self, jit_compile):
        augment = AugmentConfig(mixup=MixupConfig(alpha=1.0))
        batch = draw_many(augment, BATCH)
        features, labels = self.apply(augment, batch, jit_compile)
        self.assertAllClose(labels.sum(axis=1), np.ones(BATCH), atol=1e-6)
        for row in range(BATCH):
            weight = batch["draw/mixup_weight"][row]
            mixed = weight * self.features[row] + (1 - weight) * self.features[row - 1]
            self.assertAllClose(features[row], mixed, atol=1e-6)
            soft = weight * self.labels[row] + (1 - weight) * self.labels[row - 1]
            self.assertAllClose(labels[row], soft, atol=1e-6)

    def test_weight_one_changes_nothing(self):
        self.assertAllEqual(mix_rows(tf.constant(self.features), tf.ones([BATCH])), self.features)

    def test_masks_come_before_mixup(self):
        augment = AugmentConfig(
            time_mask=TimeMaskConfig(max_frames=20), mixup=MixupConfig(alpha=1.0)
        )
        batch = draw_many(augment, BATCH)
        masked, _ = self.apply(augment.model_copy(update={"mixup": None}), batch)
        self.assertNotAllClose(masked, self.features)
        features, _ = self.apply(augment, batch)
        mixed = mix_rows(tf.constant(masked), tf.constant(batch["draw/mixup_weight"]))
        self.assertAllClose(features, mixed, atol=1e-6)

    def test_half_precision_features_stay_so(self):
        augment = AugmentConfig(
            frequency_mask=FrequencyMaskConfig(), mixup=MixupConfig(), time_mask=TimeMaskConfig()
        )
        batch = draw_many(augment, BATCH)
        features = tf.constant(self.features * 100 + 3000, tf.float16)
        mixed, labels = apply_feature_augment(features, tf.constant(self.labels), batch, augment)
        self.assertEqual((mixed.dtype, labels.dtype), (tf.float16, tf.float32))
        self.assertTrue(np.isfinite(mixed).all())

    @parameterized.parameters(False, True)
    def test_waveforms(self, jit_compile):
        augment = AugmentConfig(mixup=MixupConfig(on="waveform", alpha=1.0))
        weight = tf.constant([1.0, 0.25, 0.0, 0.5])
        batch = {
            "waveform": tf.constant(self.features[:4, :, 0, 0]),
            "num_samples": tf.constant([30, 10, 20, 5]),
            "label": tf.eye(4),
            "draw/mixup_weight": weight,
        }
        mix = tf.function(build_waveform_mixup(augment), jit_compile=jit_compile)
        mixed = mix(batch)
        self.assertEqual(set(mixed), {"waveform", "num_samples", "label"})
        # The larger of both; row 0 is not mixed and keeps its own.
        self.assertAllEqual(mixed["num_samples"], [30, 30, 20, 20])
        self.assertAllClose(
            mixed["label"], [[1, 0, 0, 0], [0.75, 0.25, 0, 0], [0, 1, 0, 0], [0, 0, 0.5, 0.5]]
        )
        for row in range(4):
            expected = weight[row] * batch["waveform"][row]
            expected += (1 - weight[row]) * batch["waveform"][row - 1]
            self.assertAllClose(mixed["waveform"][row], expected, atol=1e-6)
        # Features are then left alone.
        features, labels = self.apply(augment, {})
        self.assertAllEqual(features, self.features)
        self.assertAllEqual(labels, self.labels)

    def test_where_mixup_is_on_features_waveforms_are_left_alone(self):
        self.assertIsNone(build_waveform_mixup(AugmentConfig(mixup=MixupConfig(on="features"))))
        self.assertIsNone(build_waveform_mixup(AugmentConfig()))


class DrawTest(FeatureTestCase):
    def test_nothing_configured(self):
        self.assertIsNone(build_feature_draw(AugmentConfig()))
        features, labels = self.apply(AugmentConfig(), {})
        self.assertAllEqual(features, self.features)
        self.assertAllEqual(labels, self.labels)

    def test_same_seed_same_draws_and_kinds_on_their_own(self):
        kinds = {
            "frequency_mask": FrequencyMaskConfig(),
            "time_mask": TimeMaskConfig(),
            "mixup": MixupConfig(),
            "wave_mix": WaveMixConfig(probability=1.0),
        }
        together = draw_many(AugmentConfig(**kinds), 20)
        for key, values in draw_many(AugmentConfig(**kinds), 20).items():
            self.assertAllEqual(values, together[key])
        for name, kind in kinds.items():
            ((key, values),) = draw_many(AugmentConfig(**{name: kind}), 20).items()
            self.assertAllEqual(values, together[key])
            self.assertLen(np.unique(values, axis=0), 20)


if __name__ == "__main__":
    tf.test.main()
