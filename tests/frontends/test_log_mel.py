"""What holds for every set-up: batches, padding, gradients, XLA, saving, TFLite."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.errors import ConfigError
from esc_tf.frontends import LogMelSpectrogram
from tests.frontends.setups import NAMES, PRODUCT, build_setup, make_waveforms

NUM_SAMPLES = 20_000
FEW_FRAMES = {"num_frames": 60}


def build_small(name: str, **changes: Any) -> LogMelSpectrogram:
    """A set-up for short clips, of which some frames remain to be filled."""
    return build_setup(name, **FEW_FRAMES | changes)


class BatchTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*PRODUCT)
    def test_a_clip_has_the_same_features_in_any_batch(self, name: str, computation: str) -> None:
        layer = build_small(name, computation=computation)
        waveforms = make_waveforms(5, NUM_SAMPLES)
        together = layer(waveforms).numpy()
        self.assertAllInRange(together, -200.0, 200.0)
        for row in range(5):
            alone = layer(waveforms[row : row + 1]).numpy()
            # Measured: equal bit by bit. That is a property of the libraries underneath and not
            # promised, since sums over another number of rows may be taken in another order.
            self.assertAllClose(together[row : row + 1], alone, rtol=0.0, atol=2e-5)
        self.assertAllClose(layer(waveforms[::-1]).numpy()[::-1], together, rtol=0.0, atol=2e-5)

    @parameterized.parameters(*PRODUCT)
    def test_a_shorter_clip_has_the_features_it_has_alone(
        self, name: str, computation: str
    ) -> None:
        layer = build_small(name, computation=computation)
        lengths = np.array([NUM_SAMPLES, 15_001, 9_999, 4_000], np.int32)
        waveforms = make_waveforms(4, NUM_SAMPLES)
        # Whatever lies behind the end is no part of the clip, even if it is loud.
        waveforms[np.arange(NUM_SAMPLES) >= lengths[:, np.newaxis]] = 0.9
        together = layer(waveforms, num_samples=lengths).numpy()
        self.assertAllInRange(together, -200.0, 200.0)
        for row, length in enumerate(lengths):
            alone = layer(waveforms[row : row + 1, :length]).numpy()
            self.assertEqual(alone.shape, (1, 60, together.shape[2], 1))
            # Measured: equal bit by bit but for TFNet's set-up with dft_conv, 5e-7.
            self.assertAllClose(together[row : row + 1], alone, rtol=0.0, atol=5e-5)

    @parameterized.parameters(*NAMES)
    def test_full_length_stated_or_not(self, name: str) -> None:
        layer = build_small(name)
        waveforms = make_waveforms(2, NUM_SAMPLES)
        lengths = np.full(2, NUM_SAMPLES, np.int32)
        in_graph = tf.function(lambda *inputs: layer(*inputs))
        for compute in (layer, in_graph):
            # The same operations, so the same bits.
            self.assertAllEqual(compute(waveforms, lengths), compute(waveforms))
        self.assertEqual(in_graph(waveforms, lengths).shape, layer(waveforms).shape)

    @parameterized.parameters("minimum", "zero")
    def test_padding_frames_are_filled(self, frame_padding: str) -> None:
        layer = build_small("se_cnn_log_mel", frame_padding=frame_padding)
        lengths = np.array([NUM_SAMPLES, 5120], np.int32)
        features = layer(make_waveforms(2, NUM_SAMPLES), num_samples=lengths).numpy()[..., 0]
        for clip, num_valid in zip(features, (40, 11), strict=True):
            filling = clip[:num_valid].min() if frame_padding == "minimum" else 0.0
            self.assertAllEqual(clip[num_valid:], np.full_like(clip[num_valid:], filling))
            self.assertGreater(clip[num_valid - 1].std(), 0.0)

    @parameterized.parameters(*PRODUCT)
    def test_silent_and_empty_rows_are_finite(self, name: str, computation: str) -> None:
        layer = build_small(name, computation=computation)
        waveforms = make_waveforms(3, NUM_SAMPLES)
        waveforms[1] = 0.0
        lengths = np.array([NUM_SAMPLES, NUM_SAMPLES, 0], np.int32)
        features = layer(waveforms, num_samples=lengths).numpy()
        self.assertAllInRange(features, -200.0, 200.0)
        # A silent clip is constant: it has no contrast that a normalisation could blow up.
        self.assertEqual(np.ptp(features[1]), 0.0)

    def test_silence_is_standardised_to_zero_at_any_level(self) -> None:
        # -93.27 dB is not exact in float32, so that the rounding of its mean would show.
        layer = build_small("se_cnn_log_mel", floor=10**-9.327)
        self.assertAllEqual(
            layer(np.zeros((1, NUM_SAMPLES), np.float32)), np.zeros((1, 60, 128, 1))
        )


class KnownAnswerTest(tf.test.TestCase):
    def test_twice_the_amplitude_is_six_decibels(self) -> None:
        layer = build_small("panns_log_mel", num_frames=None)
        waveforms = make_waveforms(1, NUM_SAMPLES)
        gain_db = layer(2 * waveforms) - layer(waveforms)
        self.assertAllClose(gain_db, np.full(gain_db.shape, 20 * np.log10(2)), atol=1e-4)

    def test_top_db_limits_the_range_of_each_clip(self) -> None:
        layer = build_small("panns_log_mel", top_db=30.0, num_frames=None)
        features = layer(make_waveforms(3, NUM_SAMPLES)).numpy()
        self.assertAllClose(np.ptp(features, axis=(1, 2, 3)), [30.0] * 3, atol=1e-4)

    def test_min_max_fills_the_unit_range(self) -> None:
        features = build_small("tfnet_log_mel", num_frames=None)(make_waveforms(3, NUM_SAMPLES))
        self.assertAllEqual(np.min(features, axis=(1, 2, 3)), [0.0] * 3)
        self.assertAllEqual(np.max(features, axis=(1, 2, 3)), [1.0] * 3)

    def test_standardised_clips_have_mean_zero_and_deviation_one(self) -> None:
        features = build_small("se_cnn_log_mel", num_frames=None)(make_waveforms(3, NUM_SAMPLES))
        self.assertAllClose(np.mean(features, axis=(1, 2, 3)), [0.0] * 3, atol=1e-5)
        self.assertAllClose(np.std(features, axis=(1, 2, 3)), [1.0] * 3, atol=1e-5)


class GraphTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*PRODUCT)
    def test_gradient_is_finite(self, name: str, computation: str) -> None:
        layer = build_small(name, computation=computation)
        waveforms = make_waveforms(3, NUM_SAMPLES)
        waveforms[1], waveforms[2] = 0.0, 0.25
        variable = tf.Variable(waveforms)
        weights = np.random.default_rng(0).standard_normal((1, *layer(waveforms).shape[1:]))
        for lengths in (None, np.array([NUM_SAMPLES, 9000, 0], np.int32)):
            with tf.GradientTape() as tape:
                value = tf.reduce_sum(layer(variable, num_samples=lengths) * weights)
            gradient = tape.gradient(value, variable).numpy()
            self.assertTrue(np.isfinite(gradient).all())
            self.assertGreater(np.abs(gradient[0]).max(), 0.0)
            self.assertAllEqual(gradient[1], np.zeros(NUM_SAMPLES))

    @parameterized.parameters(*PRODUCT)
    def test_compiled_by_xla(self, name: str, computation: str) -> None:
        layer = build_small(name, computation=computation)
        waveforms = make_waveforms(3, NUM_SAMPLES)
        waveforms[2] = 0.0
        lengths = np.array([NUM_SAMPLES, 9000, NUM_SAMPLES], np.int32)

        @tf.function(jit_compile=True)
        def compute(waveforms: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, ...]:
            with tf.GradientTape() as tape:
                tape.watch(waveforms)
                features = layer(waveforms, num_samples=lengths)
                value = tf.reduce_sum(features**2)
            return features, tape.gradient(value, waveforms)

        features, gradient = compute(waveforms, lengths)
        eager = layer(waveforms, num_samples=lengths)
        self.assertTrue(np.isfinite(gradient).all())
        self.assertAllInRange(features, -200.0, 200.0)
        self.assertAllClose(features, eager, rtol=0.0, atol=5e-4)  # measured 1e-4, in dB

    @parameterized.parameters(*PRODUCT)
    def test_length_known_at_run_time_only(self, name: str, computation: str) -> None:
        for num_frames in (None, 12, 60):
            layer = build_setup(name, computation=computation, num_frames=num_frames)
            compute = tf.function(layer, input_signature=[tf.TensorSpec([None, None])])
            for length in (12_000, 9_001):
                waveforms = make_waveforms(2, length)
                expected = layer(waveforms)
                self.assertEqual(expected.shape, layer.compute_output_shape((2, length)))
                self.assertAllClose(compute(waveforms), expected, rtol=0.0, atol=2e-5)

    def test_float32_under_any_policy(self) -> None:
        expected = build_small("se_cnn_log_mel")(make_waveforms(1, NUM_SAMPLES))
        keras.config.set_dtype_policy("mixed_float16")
        self.addCleanup(keras.config.set_dtype_policy, "float32")
        features = build_small("se_cnn_log_mel")(make_waveforms(1, NUM_SAMPLES))
        self.assertEqual(features.dtype, tf.float32)
        self.assertAllEqual(features, expected)

    @parameterized.parameters(*PRODUCT)
    def test_saved_and_loaded(self, name: str, computation: str) -> None:
        layer = build_small(name, computation=computation)
        inputs = keras.Input((NUM_SAMPLES,))
        model = keras.Model(inputs, layer(inputs))
        self.assertEqual(model.count_params(), 0)
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder) / "model.keras")
            loaded = keras.saving.load_model(Path(folder) / "model.keras")
        waveforms = make_waveforms(2, NUM_SAMPLES)
        self.assertAllEqual(loaded(waveforms), model(waveforms))
        self.assertEqual(loaded.layers[-1].settings, layer.settings)
        again = LogMelSpectrogram.from_config(layer.get_config())
        self.assertEqual(again.get_config(), layer.get_config())


class ErrorTest(tf.test.TestCase):
    def test_all_wrong_settings_at_once(self) -> None:
        with self.assertRaises(ConfigError) as caught:
            LogMelSpectrogram(8000, n_mel=40, hop_length=0)
        self.assertSameElements(
            caught.exception.problems,
            [
                "front_end.n_mel: unknown key; did you mean 'n_mels'?",
                "front_end.hop_length: must be at least 1, not 0",
            ],
        )
        with self.assertRaises(ConfigError) as caught:
            LogMelSpectrogram(8000, n_fft=256, win_length=300, fmax_hz=5000.0)
        self.assertLen(caught.exception.problems, 2)

    def test_too_short_a_waveform(self) -> None:
        layer = LogMelSpectrogram(8000, n_fft=256, center=False, n_mels=20)
        self.assertEqual(layer(np.zeros((1, 256), np.float32)).shape, (1, 1, 20, 1))
        with self.assertRaisesRegex(ValueError, "255 samples are fewer than the 256"):
            layer(np.zeros((1, 255), np.float32))
        layer = LogMelSpectrogram(8000, n_fft=256, pad_mode="reflect", n_mels=20)
        with self.assertRaisesRegex(ValueError, "128 samples are fewer than the 129"):
            layer(np.zeros((1, 128), np.float32))


if __name__ == "__main__":
    tf.test.main()
