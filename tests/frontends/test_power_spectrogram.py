"""All computations against SciPy, and the framing against plain slices."""

from __future__ import annotations

import numpy as np
import scipy.fft
import scipy.signal
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.frontends.power_spectrogram import (
    COMPUTATIONS,
    FactoredDFT,
    Framing,
    analysis_window,
    factor_evenly,
)
from tests.shared_files import shared_path

# Frame and hop length: a common divisor, none, a hop longer than the frame, shortest hops.
LENGTHS = [(1024, 320), (800, 320), (1764, 882), (1000, 441), (64, 100), (16, 1), (37, 2), (50, 50)]


class FramingTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*LENGTHS)
    def test_frames_are_slices(self, frame_length: int, hop_length: int) -> None:
        framing = Framing(frame_length, hop_length)
        for num_samples in (frame_length, frame_length + hop_length - 1, 3 * frame_length + 5):
            waveform = np.arange(1, 2 * num_samples + 1, dtype=np.float32).reshape(2, -1)
            starts = range(0, num_samples - frame_length + 1, hop_length)
            expected = np.stack([waveform[:, i : i + frame_length] for i in starts], axis=1)
            self.assertAllEqual(framing.gather_frames(waveform), expected)

    @parameterized.parameters((1024, 320, 64), (2048, 512, 512), (1000, 441, 441), (64, 16, 16))
    def test_units(self, frame_length: int, hop_length: int, unit: int) -> None:
        self.assertEqual(Framing(frame_length, hop_length).unit, unit)


class PowerTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        computation=list(COMPUTATIONS),
        lengths=[
            (256, 256, 64),
            (256, 200, 80),
            (255, 101, 40),
            (1764, 1764, 882),
            (60, 60, 90),
            (4, 3, 2),
        ],
        kind=["hann", "hann_symmetric"],
    )
    def test_equals_scipy(self, computation: str, lengths: tuple[int, int, int], kind: str) -> None:
        n_fft, win_length, hop_length = lengths
        if computation == "factored_dft" and n_fft % 4:
            with self.assertRaisesRegex(ValueError, "multiple of 4"):
                COMPUTATIONS[computation](n_fft, hop_length, np.ones(win_length), 8)
            return
        waveform = np.random.default_rng(0).standard_normal((2, 4000)).astype(np.float32)
        window = analysis_window(kind, win_length)
        expected_window = scipy.signal.get_window("hann", win_length, fftbins=kind == "hann")
        self.assertAllClose(window, expected_window, rtol=0.0, atol=1e-15)
        before = (n_fft - win_length) // 2
        padded = np.pad(expected_window, (before, n_fft - win_length - before))
        starts = range(0, 4000 - n_fft + 1, hop_length)
        framed = np.stack([waveform[:, i : i + n_fft] for i in starts], axis=1)
        expected = np.abs(scipy.fft.rfft(framed * padded)) ** 2
        for num_bins in (n_fft // 2 + 1, n_fft // 3):
            layer = COMPUTATIONS[computation](n_fft, hop_length, window, num_bins)
            power = layer(tf.constant(waveform)).numpy()
            self.assertEqual(power.dtype, np.float32)
            self.assertTrue(np.isfinite(power).all())
            self.assertEqual(power.shape[-1], len(layer.bins))
            self.assertLen(set(layer.bins), len(layer.bins))
            # The factored transform has no bin at half the rate.
            wanted = min(num_bins, n_fft // 2) if computation == "factored_dft" else num_bins
            self.assertContainsSubset(range(wanted), layer.bins)
            error = power - expected[..., layer.bins]
            # Measured: 2e-7 (rfft), 6e-7 (dft_conv) and 3e-7 (factored_dft) of the norm.
            self.assertLess(np.linalg.norm(error) / np.linalg.norm(expected), 2e-6)

    @parameterized.parameters(*COMPUTATIONS)
    def test_tone_at_the_centre_of_a_bin(self, computation: str) -> None:
        tone = np.cos(2 * np.pi * 20 * np.arange(1024) / 256).astype(np.float32)
        layer = COMPUTATIONS[computation](256, 64, analysis_window("hann", 256), 129)
        power = layer(tf.constant(tone[np.newaxis])).numpy()
        expected = np.zeros(129)
        expected[[19, 20, 21]] = [32.0**2, 64.0**2, 32.0**2]
        self.assertAllClose(power[0], np.tile(expected[layer.bins], (13, 1)), atol=1e-2)

    @parameterized.product(computation=list(COMPUTATIONS), fixture=["efficientat", "panns"])
    def test_equals_the_reference(self, computation: str, fixture: str) -> None:
        arrays = np.load(shared_path(f"reference/mel_{fixture}.npz"))
        waveform = arrays["input"]
        if fixture == "efficientat":
            waveform = waveform[:, 1:] - np.float32(0.97) * waveform[:, :-1]
            window = analysis_window("hann_symmetric", 800)
            reference = arrays["power"].swapaxes(1, 2)
        else:
            window = analysis_window("hann", 1024)
            reference = arrays["power"][:, 0]
        waveform = np.pad(waveform, ((0, 0), (512, 512)), mode="reflect")
        layer = COMPUTATIONS[computation](1024, 320, window, 513)
        power = layer(tf.constant(waveform)).numpy()[:, ::8]
        order = np.argsort(layer.bins)
        power = power[..., order[::16]]
        reference = reference[..., : power.shape[-1]]
        self.assertTrue(np.isfinite(power).all())
        error = np.linalg.norm(power - reference) / np.linalg.norm(reference)
        self.assertLess(error, 5e-6)  # measured 9e-7


class FactoredDFTTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((4, 2, 2), (12, 6, 2), (2048, 64, 32), (1764, 42, 42), (1004, 502, 2))
    def test_factors(self, n_fft: int, rows: int, columns: int) -> None:
        self.assertEqual(factor_evenly(n_fft), (rows, columns))

    @parameterized.parameters(0, 2, 6, 1023)
    def test_no_factors(self, n_fft: int) -> None:
        with self.assertRaisesRegex(ValueError, "not a multiple of 4"):
            factor_evenly(n_fft)

    @parameterized.parameters((64, 33), (64, 5), (256, 100), (1764, 441))
    def test_bins_stay_in_their_blocks(self, n_fft: int, num_bins: int) -> None:
        # So a mel band is still a product with few neighbouring columns.
        size = factor_evenly(n_fft)[0] // 2
        bins = FactoredDFT(n_fft, n_fft, np.ones(n_fft), num_bins).bins.reshape(-1, size)
        self.assertAllEqual(np.sort(bins, axis=1), np.arange(bins.size).reshape(-1, size))

    def test_any_batch_and_length_known_when_it_runs(self) -> None:
        layer = FactoredDFT(64, 16, analysis_window("hann", 50), 20)
        run = tf.function(layer, [tf.TensorSpec([None, None], tf.float32)])
        for shape in ((0, 64), (1, 64), (3, 200)):
            waveform = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
            expected = layer(waveform)
            self.assertEqual(expected.shape, (shape[0], (shape[1] - 64) // 16 + 1, 20))
            self.assertAllClose(run(waveform), expected, atol=1e-4)


if __name__ == "__main__":
    tf.test.main()
