"""Resampling in the graph, against libsoxr and against tones that are known."""

from __future__ import annotations

import numpy as np
import soxr
import tensorflow as tf
from absl.testing import parameterized

from export.resampling import count_resampled, resample

# Up, down, by a simple ratio, by none at all.
RATES = [
    (44_100, 32_000),
    (48_000, 32_000),
    (8_000, 32_000),
    (96_000, 16_000),
    (32_000, 44_100),
    (44_099, 32_000),
]
COMPILED = tf.function(resample, autograph=False, reduce_retracing=True)


def run(waveform: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    return COMPILED(tf.constant(waveform), tf.constant(from_hz), to_hz).numpy()


def make_tone(frequency_hz: float, sample_rate_hz: int, duration_s: float = 1.0) -> np.ndarray:
    places = np.arange(round(duration_s * sample_rate_hz)) / sample_rate_hz
    return (0.5 * np.sin(2 * np.pi * frequency_hz * places)).astype(np.float32)


def measure_snr_db(ours: np.ndarray, expected: np.ndarray) -> float:
    assert ours.shape == expected.shape and np.isfinite(ours).all()
    error = ours.astype(np.float64) - expected
    return float(10 * np.log10(np.sum(np.square(expected, dtype=np.float64)) / np.sum(error**2)))


class ResamplingTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*RATES)
    def test_agrees_with_libsoxr(self, from_hz: int, to_hz: int) -> None:
        noise = 0.1 * np.random.default_rng(0).standard_normal(from_hz).astype(np.float32)
        expected = soxr.resample(noise, from_hz, to_hz, quality="VHQ")
        # White noise is as loud as any sound in the filter's falling edge, the one place where
        # the two differ. Measured: 65 to 67 dB (libsoxr's own HQ and VHQ: 41 dB). Real clips at
        # 44.1 to 32 kHz: 75 to 108 dB.
        self.assertGreater(measure_snr_db(run(noise, from_hz, to_hz), expected), 62.0)

    @parameterized.parameters(*RATES)
    def test_a_tone_stays_what_it_is(self, from_hz: int, to_hz: int) -> None:
        expected = make_tone(1000.3, to_hz)
        ours = run(make_tone(1000.3, from_hz), from_hz, to_hz)
        self.assertEqual(ours.shape, expected.shape)
        inside = slice(to_hz // 4, -to_hz // 4)  # the tone starts and ends at once
        # Measured: 128 to 134 dB.
        self.assertGreater(measure_snr_db(ours[inside], expected[inside]), 120.0)

    @parameterized.parameters((44_100, 32_000), (96_000, 16_000))
    def test_what_cannot_be_heard_is_gone(self, from_hz: int, to_hz: int) -> None:
        tone = make_tone(to_hz / 2 + 100, from_hz)
        left = run(tone, from_hz, to_hz)[to_hz // 4 : -to_hz // 4]
        level_db = 20 * np.log10(np.sqrt(np.mean(left**2)) / np.sqrt(np.mean(tone**2)))
        self.assertLess(level_db, -120.0)  # measured: -135 and -140

    def test_lengths(self) -> None:
        for from_hz, to_hz in [*RATES, (44_100, 44_100)]:
            for length in (1, 2, 3, 7, 100, 4_411):
                ours = run(np.ones(length, np.float32), from_hz, to_hz)
                theirs = soxr.resample(np.ones(length, np.float32), from_hz, to_hz, quality="VHQ")
                # libsoxr makes nothing of what is less than half a sample.
                self.assertLen(ours, max(1, len(theirs)), msg=f"{length} at {from_hz}")
                self.assertTrue(np.isfinite(ours).all())
                self.assertEqual(count_resampled(length, from_hz, to_hz), len(ours))

    def test_the_same_rate_changes_nothing(self) -> None:
        noise = np.random.default_rng(0).standard_normal(1_000).astype(np.float32)
        self.assertAllEqual(run(noise, 32_000, 32_000), noise)

    def test_the_end_is_not_heard_at_the_start(self) -> None:
        impulse = np.zeros(44_100, np.float32)
        impulse[-1] = 1.0
        self.assertLess(np.abs(run(impulse, 44_100, 32_000)[:16_000]).max(), 1e-6)


if __name__ == "__main__":
    tf.test.main()
