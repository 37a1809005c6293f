"""Outlier exposure: the sounds themselves, and what becomes of the rows they replace."""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from scipy import signal, stats

from esc_tf.augment import build_batch_augment
from esc_tf.augment.mixup import MIXUP_WEIGHT, WAVE_MIX_WEIGHT
from esc_tf.augment.outliers import IS_OUTLIER, OUTLIER_SEED, OutlierGenerator
from esc_tf.config import AudioConfig, AugmentConfig, RecipeConfig
from esc_tf.config.augment import MixupConfig, OutlierConfig, WaveMixConfig
from tests.augment.test_features import NUM_DRAWS, draw_many

RATE_HZ = 16000
AUDIO = AudioConfig(sample_rate_hz=RATE_HZ, duration_s=2.0)
NUM_SAMPLES = 2 * RATE_HZ
LEVEL_DBFS = (-40.0, -20.0)
SOUNDING = ("noise", "tone", "chirp", "clicks", "bursts")
BATCH, CLASSES = 6, 4


@functools.cache
def build(kinds, layers, rate_hz):
    config = OutlierConfig(kinds=list(kinds), max_layers=layers, level_dbfs=LEVEL_DBFS)
    audio = AudioConfig(sample_rate_hz=rate_hz, duration_s=2.0)
    return tf.function(OutlierGenerator(config, audio), autograph=False)


def generate(*kinds, count=24, layers=1, rate_hz=RATE_HZ, seed=0):
    """``count`` outliers, ``(count, samples)``."""
    make = build(kinds, layers, rate_hz)
    return np.stack([make(tf.constant([number, seed])).numpy() for number in range(count)])


def level_db(sounds):
    """RMS of each row in dB of full scale."""
    return 10.0 * np.log10(np.mean(np.square(sounds, dtype=np.float64), axis=-1))


class SoundTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*((kind,) for kind in SOUNDING), SOUNDING)
    def test_levels_are_those_asked_for_and_nothing_clips(self, *kinds):
        sounds = generate(*kinds, layers=min(len(kinds), 3))
        self.assertTrue(np.isfinite(sounds).all())
        peaks = np.abs(sounds).max(axis=1)
        self.assertAllLessEqual(peaks, 1.0 + 1e-6)
        # Clicks of a high level are lowered until they fit.
        fits = peaks < 0.999
        self.assertGreater(np.sum(fits), 6)
        self.assertAllInRange(level_db(sounds)[fits], -40.01, -19.99)
        self.assertGreater(np.ptp(level_db(sounds)[fits]), 5.0)

    def test_silence_is_nothing_or_nearly_nothing(self):
        sounds = generate("silence", count=80)
        is_digital = np.all(sounds == 0.0, axis=1)
        self.assertBetween(np.sum(is_digital), *stats.binom.interval(0.9999, 80, 0.5))
        self.assertAllInRange(level_db(sounds[~is_digital]), -90.01, -59.99)

    def test_kinds_are_equally_likely(self):
        sounds = generate("silence", "noise", "tone", count=150)
        # Silence alone is quieter than all levels.
        num_silent = np.sum(level_db(sounds) < LEVEL_DBFS[0] - 1.0)
        self.assertBetween(num_silent, *stats.binom.interval(0.9999, 150, 1 / 3))

    def test_a_seed_is_a_sound_and_another_is_another(self):
        first, again, other = (generate(*SOUNDING, layers=3, count=8, seed=n) for n in (1, 1, 2))
        self.assertAllEqual(first, again)
        self.assertFalse(any(np.array_equal(*pair) for pair in zip(first, other, strict=True)))
        correlation = np.corrcoef(first)
        self.assertAllLess(np.abs(correlation - np.eye(len(correlation))), 0.5)

    def test_kinds_differ_as_their_names_say(self):
        flatness, crest = {}, {}
        for kind in SOUNDING:
            sounds = generate(kind)
            _, power = signal.welch(sounds, RATE_HZ, nperseg=1024)
            flatness[kind] = np.median(
                np.exp(np.mean(np.log(power + 1e-30), axis=1)) / np.mean(power, axis=1)
            )
            crest[kind] = np.median(np.abs(sounds).max(axis=1) / np.std(sounds, axis=1))
        # Noise fills the spectrum, a tone is a few lines; clicks stick out in time.
        self.assertGreater(flatness["noise"], 10 * flatness["tone"])
        self.assertGreater(flatness["noise"], 10 * flatness["bursts"])
        self.assertEqual(max(crest, key=crest.get), "clicks")

    def test_layers_lie_over_one_another(self):
        # A tone over another tone has lines that neither has alone.
        def count_lines(layers):
            sounds = generate("tone", count=40, layers=layers, seed=4)
            _, power = signal.periodogram(sounds, RATE_HZ, window="hann")
            return np.mean(np.sum(power > 1e-4 * power.max(axis=1, keepdims=True), axis=1))

        self.assertGreater(count_lines(3), 1.2 * count_lines(1))

    def test_pitches_and_rates_are_the_same_at_another_rate(self):
        def peaks_hz(rate_hz):
            sounds = generate("tone", rate_hz=rate_hz)
            bins_hz, power = signal.periodogram(sounds, rate_hz, window="hann")
            return bins_hz[power.argmax(axis=1)]

        low, high = peaks_hz(20000), peaks_hz(44100)
        self.assertAllClose(low, high, atol=2.0, rtol=0.002)
        self.assertGreater(np.ptp(low), 1000.0)
        self.assertAllLess(low, 8001.0)

    def test_a_pitch_is_the_slope_of_its_phase(self):
        generator = OutlierGenerator(OutlierConfig(), AUDIO)
        grid = np.linspace(0.0, 2.0, NUM_SAMPLES // 160 + 1)
        phase = generator._integrate(tf.constant(500.0 + 1500.0 * grid, tf.float32)).numpy()
        time_s = np.arange(NUM_SAMPLES) / RATE_HZ
        expected = 500.0 * time_s + 750.0 * time_s**2  # the integral of the line
        wrapped = (phase - expected + 0.5) % 1.0 - 0.5
        self.assertAllLess(np.abs(wrapped), 1e-4)


class RowTest(tf.test.TestCase, parameterized.TestCase):
    def make_batch(self, is_outlier, **more):
        rng = np.random.default_rng(0)
        waveform = rng.normal(0.0, 0.1, (BATCH, NUM_SAMPLES)).astype(np.float32)
        waveform[:, NUM_SAMPLES // 2 :] = 0.0
        return {
            "waveform": tf.constant(waveform),
            "num_samples": tf.fill([BATCH], NUM_SAMPLES // 2),
            "label": tf.one_hot([0, 1, 2, 3, 0, 1], CLASSES),
            IS_OUTLIER: tf.constant(is_outlier),
            OUTLIER_SEED: tf.constant([[row, 7] for row in range(BATCH)]),
            **more,
        }

    def augment(self, batch, loss="categorical_crossentropy", **kinds):
        augment = AugmentConfig(outlier=OutlierConfig(kinds=list(SOUNDING)), **kinds)
        augment_batch = build_batch_augment(augment, AUDIO, RecipeConfig(loss=loss))
        return tf.function(augment_batch, autograph=False)(batch)

    @parameterized.parameters(
        ("categorical_crossentropy", 1 / CLASSES), ("binary_crossentropy", 0.0)
    )
    def test_only_the_rows_that_were_drawn_change(self, loss, target):
        drawn = np.array([False, True, False, False, True, False])
        batch = self.make_batch(drawn)
        found = self.augment(batch, loss)
        self.assertEqual(set(found), {"waveform", "num_samples", "label", IS_OUTLIER})
        for key in ("waveform", "num_samples", "label"):
            self.assertAllEqual(found[key][~drawn], batch[key][~drawn])
            self.assertEqual(found[key].shape, batch[key].shape)
        self.assertAllEqual(found["num_samples"][drawn], [NUM_SAMPLES] * 2)
        self.assertAllClose(found["label"][drawn], np.full((2, CLASSES), target))
        config = OutlierConfig(kinds=list(SOUNDING))
        for row in (1, 4):
            alone = OutlierGenerator(config, AUDIO)(tf.constant([row, 7]))
            self.assertAllClose(found["waveform"][row], alone, atol=1e-6)
            self.assertGreater(level_db(alone.numpy()), -61.0)

    @parameterized.parameters(False, True)
    def test_none_or_all_may_be_drawn(self, is_outlier):
        batch = self.make_batch([is_outlier] * BATCH)
        found = self.augment(batch)
        changed = tf.reduce_any(found["waveform"] != batch["waveform"], axis=1)
        self.assertAllEqual(changed, [is_outlier] * BATCH)

    def test_outliers_are_not_mixed_with_clips(self):
        drawn = np.array([False, True, False, False, False, True])
        weight = tf.fill([BATCH], 0.6)
        mixes = {WAVE_MIX_WEIGHT: weight, MIXUP_WEIGHT: weight}
        batch = self.make_batch(drawn, **mixes)
        kinds = {"wave_mix": WaveMixConfig(), "mixup": MixupConfig(on="features")}
        found = self.augment(batch, **kinds)
        unmixed = self.augment(self.make_batch(drawn))
        self.assertAllEqual(found["waveform"][drawn], unmixed["waveform"][drawn])
        self.assertAllClose(found["label"][drawn], np.full((2, CLASSES), 1 / CLASSES))
        # Mixup takes from the row before: not from an outlier, and an outlier not from anything.
        self.assertAllClose(found[MIXUP_WEIGHT], [1.0, 1.0, 1.0, 0.6, 0.6, 1.0])
        on_waveforms = self.augment(batch, mixup=MixupConfig(on="waveform"))
        self.assertAllEqual(on_waveforms["waveform"][drawn], unmixed["waveform"][drawn])

    def test_without_outliers_nothing_is_added(self):
        self.assertIsNone(build_batch_augment(AugmentConfig(), AUDIO, RecipeConfig()))


class DrawTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(0.0, 0.1, 1.0)
    def test_as_often_as_configured(self, probability):
        drawn = draw_many(AugmentConfig(outlier=OutlierConfig(probability=probability)))
        low, high = stats.binom.interval(0.9999, NUM_DRAWS, probability)
        self.assertBetween(np.sum(drawn[IS_OUTLIER]), low, high)
        self.assertLen(np.unique(drawn[OUTLIER_SEED], axis=0), NUM_DRAWS)

    def test_other_draws_stay_what_they_are(self):
        plain = AugmentConfig(mixup=MixupConfig(), wave_mix=WaveMixConfig())
        with_outliers = draw_many(plain.model_copy(update={"outlier": OutlierConfig()}))
        for key, value in draw_many(plain).items():
            self.assertAllEqual(value, with_outliers[key])


if __name__ == "__main__":
    tf.test.main()
