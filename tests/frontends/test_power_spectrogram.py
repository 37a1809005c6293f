"""Both computations against SciPy, and the framing against plain slices."""

from __future__ import annotations

import numpy as np
import scipy.fft
import scipy.signal
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.frontends.power_spectrogram import COMPUTATIONS, Framing, analysis_window
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
        lengths=[(256, 256, 64), (256, 200, 80), (255, 101, 40), (1764, 1764, 882), (60, 60, 90)],
        kind=["hann", "hann_symmetric"],
    )
    def test_equals_scipy(self, computation: str, lengths: tuple[int, int, int], kind: str) -> None:
        n_fft, win_length, hop_length = lengths
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
            self.assertGreaterEqual(power.shape[-1], num_bins)
            error = power - expected[..., : power.shape[-1]]
            # Measured: 2e-7 (rfft) and 6e-7 (dft_conv) of the norm.
            self.assertLess(np.linalg.norm(error) / np.linalg.norm(expected), 2e-6)

    @parameterized.parameters(*COMPUTATIONS)
    def test_tone_at_the_centre_of_a_bin(self, computation: str) -> None:
        tone = np.cos(2 * np.pi * 20 * np.arange(1024) / 256).astype(np.float32)
        layer = COMPUTATIONS[computation](256, 64, analysis_window("hann", 256), 129)
        power = layer(tf.constant(tone[np.newaxis])).numpy()
        expected = np.zeros(129)
        expected[[19, 20, 21]] = [32.0**2, 64.0**2, 32.0**2]
        self.assertAllClose(power[0], np.tile(expected, (13, 1)), atol=1e-2)

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
        power = COMPUTATIONS[computation](1024, 320, window, 513)(tf.constant(waveform)).numpy()
        power = power[:, ::8, ::16]
        self.assertTrue(np.isfinite(power).all())
        error = np.linalg.norm(power - reference) / np.linalg.norm(reference)
        self.assertLess(error, 5e-6)  # measured 9e-7


if __name__ == "__main__":
    tf.test.main()
