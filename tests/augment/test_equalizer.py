from __future__ import annotations

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.augment import build_waveform_augment
from esc_tf.augment.equalizer import OCTAVES_HZ, Equalizer
from esc_tf.config import AudioConfig, AugmentConfig
from esc_tf.config.augment import EqualizerConfig

RATE_HZ, NUM_SAMPLES = 16000, 8000
GAINS_DB = np.array([3.0, -6.0, 4.0, 0.0, -2.0, 6.0, -5.0, 1.0, 9.0, -9.0], np.float32)


def make_tone(frequency_hz, rate_hz=RATE_HZ, num_samples=NUM_SAMPLES):
    return np.sin(2 * np.pi * frequency_hz * np.arange(num_samples) / rate_hz).astype(np.float32)


class EqualizerTest(tf.test.TestCase, parameterized.TestCase):
    # Whole periods in the clip.
    @parameterized.parameters(
        (500.0, 0.0), (1000.0, -2.0), (2000.0, 6.0), (4000.0, -5.0), (30.0, 3.0)
    )
    def test_a_tone_gets_the_gain_of_its_octave_and_keeps_its_phase(self, frequency_hz, gain_db):
        tone = make_tone(frequency_hz)
        heard = Equalizer(NUM_SAMPLES, RATE_HZ)(tone, NUM_SAMPLES, GAINS_DB).numpy()
        self.assertAllClose(heard, tone * 10.0 ** (gain_db / 20.0), atol=1e-4)

    def test_between_octaves_decibels_are_straight_over_the_logarithm(self):
        tone = make_tone(1400.0)
        heard = Equalizer(NUM_SAMPLES, RATE_HZ)(tone, NUM_SAMPLES, GAINS_DB).numpy()
        expected_db = np.interp(np.log2(1400.0), np.log2(OCTAVES_HZ), GAINS_DB)
        self.assertAllClose(heard, tone * 10.0 ** (expected_db / 20.0), atol=1e-4)

    def test_no_gain_leaves_the_waveform(self):
        noise = np.random.default_rng(0).standard_normal(7919).astype(np.float32)
        heard = Equalizer(7919, RATE_HZ)(noise, 7919, np.zeros(len(OCTAVES_HZ), np.float32))
        self.assertAllClose(heard, noise, atol=1e-5)

    def test_padding_stays_silent(self):
        tone = make_tone(1000.0)
        tone[5000:] = 0.0
        heard = Equalizer(NUM_SAMPLES, RATE_HZ)(tone, 5000, GAINS_DB).numpy()
        self.assertAllEqual(heard[5000:], np.zeros(3000))
        self.assertGreater(np.abs(heard[:5000]).max(), 0.5)

    def test_draws_each_gain_in_its_range_and_the_same_at_another_rate(self):
        config = AugmentConfig(equalizer=EqualizerConfig(probability=1.0, gain_db=(-12.0, 6.0)))
        gains_db = []
        for number in range(30):
            of_rates = []
            for rate_hz in (RATE_HZ, 2 * RATE_HZ):
                augment = build_waveform_augment(
                    config, AudioConfig(sample_rate_hz=rate_hz, duration_s=0.5)
                )
                tone = make_tone(1000.0, rate_hz, rate_hz // 2)
                heard = augment(tf.constant(tone), rate_hz // 2, tf.constant([number, 1])).numpy()
                of_rates.append(20.0 * np.log10(np.linalg.norm(heard) / np.linalg.norm(tone)))
            self.assertAllClose(*of_rates, atol=1e-3)
            gains_db.append(of_rates[0])
        self.assertAllInRange(gains_db, -12.0, 6.0)
        self.assertLess(min(gains_db), -7.0)
        self.assertGreater(max(gains_db), 1.0)

    def test_is_drawn_with_its_probability(self):
        config = AugmentConfig(equalizer=EqualizerConfig(probability=0.25))
        augment = build_waveform_augment(
            config, AudioConfig(sample_rate_hz=RATE_HZ, duration_s=0.5)
        )
        tone = tf.constant(make_tone(1000.0))
        apply = tf.function(lambda seed: augment(tone, NUM_SAMPLES, seed))
        changed = [
            bool(np.any(apply(tf.constant([number, 2])).numpy() != tone.numpy()))
            for number in range(400)
        ]
        # 400 draws of probability a quarter: 100, with a standard deviation of 8.7.
        self.assertBetween(sum(changed), 60, 140)
