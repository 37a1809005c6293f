from __future__ import annotations

import itertools

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from scipy import interpolate, signal, stats

from esc_tf.augment import build_waveform_augment
from esc_tf.augment.waveform import (
    NoiseGenerator,
    apply_gain,
    change_speed,
    mix_noise,
    roll_waveform,
    shift_waveform,
)
from esc_tf.config import AudioConfig, AugmentConfig
from esc_tf.config.augment import GainConfig, NoiseConfig, RollConfig, SpeedConfig, TimeShiftConfig

RATE_HZ = 16000
NUM_SAMPLES = 8000
AUDIO = AudioConfig(sample_rate_hz=RATE_HZ, duration_s=NUM_SAMPLES / RATE_HZ)
COLORS = ["white", "pink", "brown", "blue", "violet"]
SLOPES_DB = {"white": 0.0, "pink": -10.0, "brown": -20.0, "blue": 10.0, "violet": 20.0}
NUM_DRAWS = 400


def seed_of(number):
    return tf.constant([number, 5], tf.int32)


def power(values):
    return np.mean(np.square(np.asarray(values, np.float64)))


class WaveformTestCase(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        # Never zero, so that zeros that moved in can be told from samples.
        samples = np.sign(rng.standard_normal(NUM_SAMPLES)) * rng.uniform(0.1, 0.5, NUM_SAMPLES)
        self.waveform = samples.astype(np.float32)

    def augment_many(self, count=NUM_DRAWS, valid=NUM_SAMPLES, audio=AUDIO, **kinds):
        """Augment one waveform with ``count`` seeds; returns ``(count, samples)``."""
        augment = build_waveform_augment(AugmentConfig(**kinds), audio)
        waveform = tf.constant(
            np.where(np.arange(NUM_SAMPLES) < valid, self.waveform, 0.0), tf.float32
        )
        apply = tf.function(lambda seed: augment(waveform, tf.constant(valid), seed))
        return np.stack([apply(seed_of(number)).numpy() for number in range(count)])

    def assert_probability(self, num_changed, count, probability):
        """The count of changed clips lies within the binomial's central 99.99 %."""
        low, high = stats.binom.interval(0.9999, count, probability)
        self.assertBetween(num_changed, low, high)


class NoiseTest(WaveformTestCase):
    @parameterized.parameters(*COLORS)
    def test_slope_in_db_per_decade(self, color):
        generate = tf.function(NoiseGenerator(44100, 44100, [color]))
        densities = []
        for number in range(20):
            noise = generate(seed_of(number), tf.constant(0)).numpy()
            self.assertTrue(np.isfinite(noise).all())
            frequencies_hz, density = signal.welch(noise, 44100, nperseg=8192)
            densities.append(density)
        band = (frequencies_hz > 50) & (frequencies_hz < 20000)
        level_db = 10 * np.log10(np.mean(densities, axis=0)[band])
        decades = np.log10(frequencies_hz[band])
        # Equal weight for every decade, not for every bin.
        fit = np.polyfit(decades, level_db, 1, w=1 / np.sqrt(frequencies_hz[band]))
        # Measured: 0.11 dB a decade off, and 0.33 dB about the line.
        self.assertAllClose(fit[0], SLOPES_DB[color], atol=0.4)
        self.assertLess(np.std(level_db - np.polyval(fit, decades)), 0.6)

    def test_white_noise_is_gaussian(self):
        noise = NoiseGenerator(NUM_SAMPLES, RATE_HZ, ["white"])(seed_of(1), tf.constant(0)).numpy()
        self.assertGreater(stats.kstest(noise / noise.std(), "norm").pvalue, 0.01)
        correlation = np.corrcoef(noise[:-1], noise[1:])[0, 1]
        self.assertLess(abs(correlation), 0.05)

    @parameterized.parameters(1, 2, 7, 101, 4999)
    def test_any_length(self, num_samples):
        noise = NoiseGenerator(num_samples, RATE_HZ, COLORS)(seed_of(0), tf.constant(1))
        self.assertEqual(noise.shape, (num_samples,))
        self.assertTrue(np.isfinite(noise).all())

    @parameterized.product(snr_db=(-25.0, 0.0, 15.0, 40.0), color=COLORS, valid=(NUM_SAMPLES, 3000))
    def test_snr_of_the_mixture(self, snr_db, color, valid):
        kinds = {"noise": NoiseConfig(probability=1.0, colors=[color], snr_db=(snr_db, snr_db))}
        for mixture in self.augment_many(3, valid, **kinds):
            clean = self.waveform[:valid].astype(np.float64)
            added = mixture[:valid] - clean
            # Measured: at most 9e-7 dB off.
            self.assertAllClose(10 * np.log10(power(clean) / power(added)), snr_db, atol=1e-4)
            self.assertAllEqual(mixture[valid:], np.zeros(NUM_SAMPLES - valid))

    def test_snr_is_drawn_from_its_range(self):
        mixtures = self.augment_many(noise=NoiseConfig(probability=1.0, snr_db=(-5.0, 25.0)))
        added = mixtures - self.waveform.astype(np.float64)
        snrs_db = 10 * np.log10(power(self.waveform) / np.mean(added**2, axis=1))
        self.assertBetween(snrs_db.min(), -5.01, -3.0)
        self.assertBetween(snrs_db.max(), 23.0, 25.01)
        self.assertGreater(stats.kstest((snrs_db + 5) / 30, "uniform").pvalue, 0.01)

    def test_every_color_is_drawn_equally(self):
        noise = NoiseConfig(probability=1.0, colors=["blue", "brown"])
        added = self.augment_many(noise=noise) - self.waveform
        # Neighbouring samples of brown noise are alike, of blue noise they are opposed.
        correlation = np.sum(added[:, 1:] * added[:, :-1], axis=1) / np.sum(added**2, axis=1)
        self.assertAllInRange(np.abs(correlation), 0.35, 1.0)
        self.assert_probability(np.sum(correlation > 0), NUM_DRAWS, 0.5)

    def test_silence_stays_silent(self):
        silence, noise = tf.zeros([100]), tf.random.stateless_normal([100], seed_of(0))
        length = tf.constant(100)
        self.assertAllEqual(mix_noise(silence, noise, length, tf.constant(0.0)), silence)
        self.assertAllEqual(mix_noise(noise, silence, length, tf.constant(0.0)), noise)


class TimeShiftTest(WaveformTestCase):
    @parameterized.parameters(
        (0, 5, [1, 2, 3, 4, 5, 0, 0]),
        (2, 5, [0, 0, 1, 2, 3, 0, 0]),
        (-2, 5, [3, 4, 5, 0, 0, 0, 0]),
        (5, 5, [0, 0, 0, 0, 0, 0, 0]),
        (-5, 5, [0, 0, 0, 0, 0, 0, 0]),
        (3, 7, [0, 0, 0, 1, 2, 3, 4]),
        (-3, 7, [4, 5, 6, 7, 0, 0, 0]),
    )
    def test_zeros_move_in_and_nothing_wraps(self, shift, valid, expected):
        waveform = tf.constant([n if n <= valid else 0 for n in range(1, 8)], tf.float32)
        shifted = shift_waveform(waveform, tf.constant(valid), tf.constant(shift))
        self.assertAllEqual(shifted, expected)

    @parameterized.parameters((NUM_SAMPLES, 0.2), (5000, 0.2), (NUM_SAMPLES, 1.0))
    def test_shifts_fill_their_range(self, valid, max_fraction):
        config = TimeShiftConfig(probability=1.0, max_fraction=max_fraction)
        furthest = int(valid * max_fraction)
        shifts = []
        for shifted in self.augment_many(200, valid, time_shift=config):
            there = np.flatnonzero(shifted)
            if there.size == 0:  # all of it can be shifted out where max_fraction is 1
                self.assertEqual(max_fraction, 1.0)
                continue
            late, early = there[0], valid - 1 - there[-1]
            self.assertEqual(min(late, early), 0)
            expected = np.zeros(NUM_SAMPLES, np.float32)
            expected[late : valid - early] = self.waveform[early : valid - late]
            self.assertAllEqual(shifted, expected)
            shifts.append(late - early)
        self.assertAllInRange(shifts, -furthest, furthest)
        uniform = stats.uniform(-furthest, 2 * furthest)
        self.assertGreater(stats.kstest(shifts, uniform.cdf).pvalue, 0.01)


class RollTest(WaveformTestCase):
    @parameterized.parameters(
        (0, 5, [1, 2, 3, 4, 5, 0, 0]),
        (2, 5, [4, 5, 1, 2, 3, 0, 0]),
        (-2, 5, [3, 4, 5, 1, 2, 0, 0]),
        (5, 5, [1, 2, 3, 4, 5, 0, 0]),
        (-13, 7, [7, 1, 2, 3, 4, 5, 6]),
        (3, 1, [1, 0, 0, 0, 0, 0, 0]),
    )
    def test_what_leaves_comes_in_again_and_the_padding_stays(self, shift, valid, expected):
        waveform = tf.constant([n if n <= valid else 0 for n in range(1, 8)], tf.float32)
        rolled = roll_waveform(waveform, tf.constant(valid), tf.constant(shift))
        self.assertAllEqual(rolled, expected)

    def find_shifts(self, rolled, valid):
        """How far each row was rolled, from its correlation with the clip."""
        spectra = np.fft.rfft(rolled[:, :valid]) * np.conj(np.fft.rfft(self.waveform[:valid]))
        shifts = np.argmax(np.fft.irfft(spectra, valid), axis=1)
        for row, shift in zip(rolled, shifts, strict=True):
            self.assertAllEqual(row[:valid], np.roll(self.waveform[:valid], shift))
            self.assertAllEqual(row[valid:], np.zeros(NUM_SAMPLES - valid))
        return shifts

    @parameterized.parameters(NUM_SAMPLES, 5001)
    def test_every_shift_of_the_clip_is_equally_likely(self, valid):
        shifts = self.find_shifts(self.augment_many(valid=valid, roll=RollConfig()), valid)
        self.assertGreater(stats.kstest(shifts / valid, "uniform").pvalue, 0.01)

    def test_shifts_in_seconds_fill_their_range_in_both_directions(self):
        config = RollConfig(max_shift_s=0.125)
        shifts = self.find_shifts(self.augment_many(roll=config), NUM_SAMPLES)
        shifts = np.where(shifts > NUM_SAMPLES // 2, shifts - NUM_SAMPLES, shifts)
        self.assertAllInRange(shifts, -2000, 2000)
        self.assertGreater(stats.kstest((shifts + 2000) / 4000, "uniform").pvalue, 0.01)


class GainTest(WaveformTestCase):
    @parameterized.parameters((6.0, 1.9952623), (-20.0, 0.1), (0.0, 1.0))
    def test_gain_in_db(self, gain_db, factor):
        config = GainConfig(probability=1.0, gain_db=(gain_db, gain_db))
        for scaled in self.augment_many(2, gain=config):
            self.assertAllClose(scaled, self.waveform * factor, rtol=1e-6, atol=0)
        self.assertAllClose(apply_gain(tf.ones([2]), tf.constant(gain_db)), [factor] * 2, rtol=1e-6)

    def test_gains_fill_their_range(self):
        scaled = self.augment_many(gain=GainConfig(probability=1.0, gain_db=(-18.0, 6.0)))
        gains_db = 20 * np.log10(scaled[:, 0] / self.waveform[0])
        self.assertAllInRange(gains_db, -18.001, 6.001)
        self.assertGreater(stats.kstest((gains_db + 18) / 24, "uniform").pvalue, 0.01)


class WaveformAugmentTest(WaveformTestCase):
    KINDS = {
        "noise": NoiseConfig,
        "time_shift": TimeShiftConfig,
        "gain": GainConfig,
        "roll": RollConfig,
    }

    @parameterized.product(kind=tuple(KINDS), probability=(0.0, 0.3, 1.0))
    def test_probability(self, kind, probability):
        augmented = self.augment_many(**{kind: self.KINDS[kind](probability=probability)})
        num_changed = int(np.sum((augmented != self.waveform).any(axis=1)))
        if probability in (0.0, 1.0):
            self.assertEqual(num_changed, NUM_DRAWS * probability)
        else:
            self.assert_probability(num_changed, NUM_DRAWS, probability)

    def test_kinds_are_drawn_on_their_own(self):
        """Each kind draws alike whether the others are on or not, and independently of them."""
        alone = {
            name: self.augment_many(**{name: kind(probability=0.5)}) != self.waveform
            for name, kind in self.KINDS.items()
        }
        drawn = {name: changed.any(axis=1) for name, changed in alone.items()}
        together = self.augment_many(
            **{name: kind(probability=0.5) for name, kind in self.KINDS.items()}
        )
        any_drawn = np.any(list(drawn.values()), axis=0)
        self.assertAllEqual((together != self.waveform).any(axis=1), any_drawn)
        for one, other in itertools.combinations(self.KINDS, 2):
            self.assert_probability(np.sum(drawn[one] & drawn[other]), NUM_DRAWS, 0.25)

    def test_noise_keeps_its_snr_after_shift_and_gain(self):
        both = {"time_shift": TimeShiftConfig(probability=1.0), "gain": GainConfig(probability=1.0)}
        noise = NoiseConfig(probability=1.0, snr_db=(10.0, 10.0))
        clean = self.augment_many(20, **both).astype(np.float64)
        noisy = self.augment_many(20, noise=noise, **both)
        added = noisy - clean
        snrs_db = 10 * np.log10(np.mean(clean**2, axis=1) / np.mean(added**2, axis=1))
        self.assertAllClose(snrs_db, [10.0] * 20, atol=1e-3)
        # What the shift emptied is filled with noise.
        self.assertGreater(np.mean(noisy != 0), 0.999)

    def test_same_seed_same_samples(self):
        kinds = {name: kind(probability=1.0) for name, kind in self.KINDS.items()}
        first, again = self.augment_many(4, **kinds), self.augment_many(4, **kinds)
        self.assertAllEqual(first, again)
        self.assertLen({row.tobytes() for row in first}, 4)

    def test_nothing_configured(self):
        self.assertIsNone(build_waveform_augment(AugmentConfig(), AUDIO))


if __name__ == "__main__":
    tf.test.main()


class SpeedTest(WaveformTestCase):
    @parameterized.parameters(0.8, 1.0, 1.25)
    def test_a_tone_changes_its_pitch_by_the_factor(self, factor):
        time_s = np.arange(NUM_SAMPLES) / RATE_HZ
        tone = np.sin(2 * np.pi * 300.0 * time_s).astype(np.float32)
        heard = change_speed(tf.constant(tone), NUM_SAMPLES, tf.constant(factor)).numpy()
        # Before the faster one starts again.
        whole = int((NUM_SAMPLES - 4) / max(factor, 1.0))
        expected = np.sin(2 * np.pi * 300.0 * factor * time_s)
        self.assertAllClose(heard[:whole], expected[:whole], atol=2e-4)

    def test_equals_a_spline_through_the_samples(self):
        x = self.waveform.astype(np.float64)
        tangents = (np.roll(x, -1) - np.roll(x, 1)) / 2.0
        spline = interpolate.CubicHermiteSpline(
            np.arange(NUM_SAMPLES + 1), np.append(x, x[0]), np.append(tangents, tangents[0])
        )
        heard = change_speed(tf.constant(self.waveform), NUM_SAMPLES, tf.constant(1.23)).numpy()
        positions = np.arange(NUM_SAMPLES) * float(np.float32(1.23))
        self.assertAllClose(heard, spline(positions % NUM_SAMPLES), atol=1e-5)

    def test_padding_stays_where_it_is(self):
        waveform = tf.constant(np.append(self.waveform[:5000], np.zeros(3000, np.float32)))
        heard = change_speed(waveform, 5000, tf.constant(0.9)).numpy()
        self.assertAllEqual(heard[5000:], np.zeros(3000))
        self.assertAllClose(
            heard[:5000],
            change_speed(tf.constant(self.waveform[:5000]), 5000, tf.constant(0.9)).numpy(),
        )

    def test_draws_factors_within_their_range_and_with_their_probability(self):
        tone = np.sin(2 * np.pi * 500.0 * np.arange(NUM_SAMPLES) / RATE_HZ).astype(np.float32)
        self.waveform = tone
        heard = self.augment_many(speed=SpeedConfig(probability=0.5, factor=(0.5, 2.0)))
        is_same = np.all(heard == tone, axis=1)
        self.assert_probability(NUM_DRAWS - is_same.sum(), NUM_DRAWS, 0.5)
        # The first 2000 samples of each hold no second start.
        spectra = np.abs(np.fft.rfft(heard[~is_same, :2000] * np.hanning(2000), 1 << 16))
        factors = spectra.argmax(axis=1) / (1 << 16) * RATE_HZ / 500.0
        self.assertAllInRange(factors, 0.49, 2.02)
        logarithms = np.log2(factors)
        self.assertGreater(stats.kstest(logarithms, stats.uniform(-1.0, 2.0).cdf).pvalue, 1e-4)

    def test_the_same_seed_gives_the_same_factor_at_another_rate(self):
        config = AugmentConfig(speed=SpeedConfig(probability=1.0, factor=(0.8, 1.25)))
        peaks = []
        for rate_hz in (16000, 32000):
            audio = AudioConfig(sample_rate_hz=rate_hz, duration_s=0.5)
            tone = np.sin(2 * np.pi * 500.0 * np.arange(rate_hz // 2) / rate_hz)
            augment = build_waveform_augment(config, audio)
            heard = augment(tf.constant(tone, tf.float32), rate_hz // 2, seed_of(3)).numpy()
            num_samples = rate_hz // 4
            spectrum = np.abs(
                np.fft.rfft(heard[:num_samples] * np.hanning(num_samples), rate_hz * 8)
            )
            peaks.append(spectrum.argmax() / 8.0)
        self.assertAllClose(peaks[0], peaks[1], atol=0.5)
        self.assertNotAllClose(peaks[0], 500.0, atol=5.0)
