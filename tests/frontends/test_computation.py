"""The same front end by another computation."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.errors import ConfigError
from esc_tf.frontends import LogMelSpectrogram, with_computation, with_tflite_computation
from tests.frontends.setups import COMPUTATIONS, NAMES, build_setup, make_waveforms


class WithComputationTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(name=NAMES, computation=COMPUTATIONS)
    def test_same_features_and_settings(self, name: str, computation: str) -> None:
        layer = build_setup(name, computation="rfft")
        other = with_computation(layer, computation)
        self.assertEqual(other.settings.computation, computation)
        self.assertEqual(other.get_config(), layer.get_config() | {"computation": computation})
        waveform = make_waveforms(2, 12_000)
        expected = layer(waveform)
        self.assertAllInRange(expected, -200.0, 200.0)
        # In dB, nats / 5 or standard deviations. Measured: 3e-4.
        self.assertAllClose(other(waveform), expected, rtol=0.0, atol=1e-3)

    def test_with_padding_in_the_batch(self) -> None:
        layer = build_setup("efficientat_log_mel")
        waveform, num_samples = make_waveforms(3, 9_000), np.array([9_000, 4_000, 2_000])
        other = with_computation(layer, "factored_dft")
        # Measured: 1e-5.
        expected = layer(waveform, num_samples)
        self.assertAllClose(other(waveform, num_samples), expected, rtol=0.0, atol=1e-4)

    def test_the_same_computation_is_the_same_layer(self) -> None:
        layer = build_setup("panns_log_mel")
        self.assertIs(with_computation(layer, "rfft"), layer)

    def test_a_front_end_without_a_choice_stays(self) -> None:
        layer = keras.layers.Identity()
        self.assertIs(with_computation(layer, "rfft"), layer)
        self.assertIs(with_tflite_computation(layer), layer)

    @parameterized.parameters((1024, "factored_dft"), (1764, "factored_dft"), (1023, "dft_conv"))
    def test_the_fastest_on_tflite(self, n_fft: int, computation: str) -> None:
        layer = with_tflite_computation(LogMelSpectrogram(16000, n_fft=n_fft, n_mels=20))
        self.assertEqual(layer.settings.computation, computation)

    def test_what_cannot_be_factored_is_refused(self) -> None:
        layer = LogMelSpectrogram(16000, n_fft=1022, n_mels=20)
        with self.assertRaisesRegex(ConfigError, "multiple of 4, not 1022; use rfft or dft_conv"):
            with_computation(layer, "factored_dft")


if __name__ == "__main__":
    tf.test.main()
