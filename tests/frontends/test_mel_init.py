"""The mel spectrogram that can be trained: where it begins, and what may move."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.audio import read_clip, resample
from esc_tf.audio.filterbanks import mel_filterbank
from esc_tf.errors import ConfigError
from esc_tf.frontends import LogMelSpectrogram, MelInit, list_sublayers
from tests.frontends.setups import NAMES, make_waveforms, read_setup
from tests.shared_files import shared_path

NUM_SAMPLES = 20_000
DB_PER_NEPER = 10.0 / np.log(10.0)


def build(name: str, **changes: object) -> MelInit:
    """The front end with the settings of a log-mel's file."""
    config, audio = read_setup(name)
    settings = config.model_dump(exclude={"name", "computation"}) | changes
    return MelInit(audio.sample_rate_hz, **settings)


def build_fixed(layer: MelInit, computation: str = "rfft") -> LogMelSpectrogram:
    """The log-mel spectrogram that a front end begins as."""
    settings = layer.settings.model_dump(exclude={"name", "trained", "reach"})
    return LogMelSpectrogram(layer.sample_rate_hz, **settings, computation=computation)


def numpy_log_mel(waveform: np.ndarray, layer: MelInit) -> np.ndarray:
    """(time, frequency) in dB or nepers by NumPy's FFT in float64, frame by frame."""
    settings = layer.settings
    signal = waveform.astype(np.float64)
    if settings.pre_emphasis is not None:
        signal = signal[1:] - settings.pre_emphasis * signal[:-1]
    mode = "reflect" if settings.pad_mode == "reflect" else "constant"
    signal = np.pad(signal, settings.n_fft // 2, mode=mode)
    length = settings.win_length or settings.n_fft
    period = length if settings.window == "hann" else length - 1
    window = np.sin(np.pi * np.arange(length) / period) ** 2
    first = (settings.n_fft - length) // 2
    bank = mel_filterbank(
        layer.sample_rate_hz,
        settings.n_fft,
        settings.n_mels,
        settings.fmin_hz,
        settings.fmax_hz,
        settings.mel_scale,
        settings.mel_norm,
    ).astype(np.float64)
    rows = []
    for start in range(0, len(signal) - settings.n_fft + 1, settings.hop_length):
        frame = np.zeros(settings.n_fft)
        frame[first : first + length] = signal[start + first : start + first + length] * window
        mel = np.abs(np.fft.rfft(frame)) ** 2 @ bank
        if settings.compression == "log":
            rows.append(np.log(mel + settings.floor))
        else:
            rows.append(10.0 * np.log10(np.maximum(mel, settings.floor)))
    features = np.array(rows)
    if settings.compression == "db" and settings.top_db is not None:
        features = np.maximum(features, features.max() - settings.top_db)
    return features


class BeginningTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters("se_cnn_log_mel", "efficientat_log_mel", "log_mel_60")
    def test_on_real_clips_it_is_the_fixed_mel(self, name: str) -> None:
        folder = shared_path("esc10/audio")
        layer = build(name, normalization="none", num_frames=None)
        same_sums, other_sums = build_fixed(layer, "dft_conv"), build_fixed(layer)
        unit = DB_PER_NEPER if layer.settings.compression == "log" else 1.0
        for path in sorted(folder.glob("*.ogg"))[::40]:
            waveform = resample(read_clip(path), layer.sample_rate_hz).waveform[np.newaxis]
            ours = layer(waveform).numpy() * unit
            self.assertAllInRange(ours, -120.0, 100.0)
            # In dB. Measured on every eighth clip: 8e-6 where the fixed mel sums as this does.
            self.assertAllClose(ours, same_sums(waveform) * unit, rtol=0.0, atol=1e-3)
            # An FFT rounds otherwise, which shows in bands 70 dB below the loudest. Measured: at
            # most 1.8e-3 (and the FFT itself 4e-4 from float64), in 9,999 of 10,000 values 1.3e-3,
            # within 60 dB 3e-4.
            error = np.abs(ours - other_sums(waveform) * unit)
            self.assertLess(error[ours > ours.max() - 60.0].max(), 1e-3)
            self.assertLess(np.quantile(error, 0.999), 1e-3)
            self.assertLess(error.max(), 5e-3)

    @parameterized.parameters(*NAMES)
    def test_normalised_and_cut_it_is_the_fixed_mel(self, name: str) -> None:
        layer = build(name, num_frames=60)
        lengths = np.array([NUM_SAMPLES, 15_001, 4_000], np.int32)
        waveforms = make_waveforms(3, NUM_SAMPLES)
        features = layer(waveforms, num_samples=lengths)
        self.assertEqual(features.shape, layer.compute_output_shape((3, NUM_SAMPLES)))
        expected = build_fixed(layer, "dft_conv")(waveforms, num_samples=lengths)
        # measured: at most 8e-6, in the units of the network's input
        self.assertAllClose(features, expected, rtol=0.0, atol=1e-4)

    @parameterized.parameters("se_cnn_log_mel", "efficientat_log_mel", "log_mel_60")
    def test_agrees_with_numpy(self, name: str) -> None:
        layer = build(name, normalization="none", num_frames=None)
        waveforms = make_waveforms(2, NUM_SAMPLES)
        for waveform, ours in zip(waveforms, layer(waveforms).numpy()[..., 0], strict=True):
            expected = numpy_log_mel(waveform, layer)
            self.assertGreater(np.ptp(expected), 4.0)
            # measured: 4e-5
            self.assertAllClose(ours, expected, rtol=0.0, atol=2e-4)

    def test_kernels_are_windowed_exponentials_and_triangles(self) -> None:
        layer = build("efficientat_log_mel")
        kernel, bank = layer.get_weights()
        self.assertEqual(kernel.shape, (800, 2 * 513))
        times = np.arange(800)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * times / 799)
        wave = window * np.exp(2j * np.pi * 37 * times / 1024)
        self.assertAllClose(kernel[:, 37], wave.real, rtol=0.0, atol=1e-6)
        self.assertAllClose(kernel[:, 513 + 37], wave.imag, rtol=0.0, atol=1e-6)
        self.assertAllEqual(bank, mel_filterbank(32000, 1024, 128, 0.0, 15000.0, "kaldi", None))

    def test_lengths_that_divide_nothing(self) -> None:
        layer = MelInit(8000, n_fft=301, win_length=250, hop_length=77, n_mels=20)
        waveforms = make_waveforms(2, 5000)
        expected = build_fixed(layer)(waveforms)
        self.assertEqual(layer(waveforms).shape, (2, 1 + 5000 // 77 - 1 + 1, 20, 1))
        self.assertAllClose(layer(waveforms), expected, rtol=0.0, atol=1e-3)


class TrainingTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ([], []),
        (["mel"], ["mel/kernel"]),
        (["dft"], ["dft/kernel"]),
        (["mel", "dft"], ["dft/kernel", "mel/kernel"]),
    )
    def test_only_the_named_stages_train(self, trained: list[str], paths: list[str]) -> None:
        layer = build("log_mel_60", trained=trained)
        self.assertEqual([item.path for item in layer.trainable_variables], paths)
        self.assertEqual([stage.name for stage in list_sublayers(layer)], ["dft", "mel"])
        again = MelInit.from_config(layer.get_config())
        self.assertEqual([item.path for item in again.trainable_variables], paths)

    def test_a_stage_named_twice(self) -> None:
        with self.assertRaisesRegex(ConfigError, "front_end.trained: names a stage twice"):
            build("log_mel_60", trained=["mel", "mel"])

    @parameterized.parameters("db", "log")
    def test_gradients_are_those_of_small_steps(self, compression: str) -> None:
        layer = MelInit(8000, n_fft=64, hop_length=32, n_mels=6, compression=compression)
        rng = np.random.default_rng(0)
        waveforms = 0.3 * rng.normal(size=(2, 1000)).astype(np.float32)
        weights = rng.normal(size=layer(waveforms).shape)

        def measure() -> np.float64:
            return np.sum(layer(waveforms).numpy().astype(np.float64) * weights)

        with tf.GradientTape() as tape:
            value = tf.reduce_sum(layer(waveforms) * weights.astype(np.float32))
        gradients = tape.gradient(value, layer.trainable_variables)
        for variable, gradient in zip(layer.trainable_variables, gradients, strict=True):
            start = variable.numpy()
            direction = gradient.numpy()
            if variable.path == "mel/kernel":  # below zero weights do not count, see BandSum
                direction = np.where(start > 0.0, direction, 0.0)
            expected = np.sum(direction * gradient.numpy()) / np.linalg.norm(direction)
            direction = direction / np.linalg.norm(direction)
            step = 1e-3 * np.abs(start).max()
            variable.assign(start + step * direction)
            above = measure()
            variable.assign(start - step * direction)
            slope = (above - measure()) / (2 * step)
            variable.assign(start)
            # measured: within 2e-4
            self.assertAllClose(slope / expected, 1.0, rtol=2e-3)

    @parameterized.parameters("db", "log")
    def test_silence_has_no_gradient_and_no_nan(self, compression: str) -> None:
        layer = build("log_mel_60", compression=compression, normalization="standardize")
        for waveforms in (np.zeros((2, NUM_SAMPLES)), np.full((2, NUM_SAMPLES), 1e-30)):
            with tf.GradientTape() as tape:
                value = tf.reduce_sum(layer(waveforms.astype(np.float32)) ** 2)
            for gradient in tape.gradient(value, layer.trainable_variables):
                self.assertTrue(np.isfinite(gradient.numpy()).all())

    def test_weights_below_zero_keep_the_logarithm_finite(self) -> None:
        for name in ("log_mel_60", "efficientat_log_mel"):
            layer = build(name, normalization="none", num_frames=None)
            kernel, bank = layer.get_weights()
            bank[:, 5] *= -1.0
            layer.set_weights([kernel, bank])
            waveforms = make_waveforms(2, NUM_SAMPLES)
            with tf.GradientTape() as tape:
                features = layer(waveforms)
                value = tf.reduce_sum(features)
            self.assertTrue(np.isfinite(features.numpy()).all())
            scale = 1.0 if name == "efficientat_log_mel" else DB_PER_NEPER
            lowest = scale * np.log(layer.settings.floor)
            if layer.settings.top_db is not None:  # of the first clip, which is the loudest
                lowest = features.numpy()[0].max() - layer.settings.top_db
            self.assertAllClose(features[0, :, 5, 0], np.full(features.shape[1], lowest), rtol=1e-5)
            for gradient in tape.gradient(value, layer.trainable_variables):
                self.assertTrue(np.isfinite(gradient.numpy()).all())

    def test_weights_below_zero_on_loud_bins_do_not_silence_quiet_bands(self) -> None:
        layer = build("log_mel_60", normalization="none", top_db=None)
        times_s = np.arange(NUM_SAMPLES) / layer.sample_rate_hz
        noise = 1e-4 * np.random.default_rng(0).normal(size=NUM_SAMPLES)
        loud_and_quiet = (np.sin(2 * np.pi * 200.0 * times_s) + noise)[np.newaxis]
        before = layer(loud_and_quiet.astype(np.float32)).numpy()
        kernel, bank = layer.get_weights()
        layer.set_weights([kernel, np.where(bank > 0.0, bank, -1e-3 * bank.max())])
        self.assertAllEqual(layer(loud_and_quiet.astype(np.float32)), before)
        self.assertLess(before[0, :, 50, 0].max(), before.max() - 60.0)

    def test_bins_that_no_triangle_spans_may_join(self) -> None:
        layer = build("log_mel_60", normalization="none")
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(layer(make_waveforms(2, NUM_SAMPLES)))
        gradient = tape.gradient(value, layer.mel.kernel).numpy()
        outside = layer.get_weights()[1] == 0.0
        self.assertGreater(outside.mean(), 0.9)
        self.assertGreater((gradient[outside] != 0.0).mean(), 0.9)

    def test_a_band_grows_no_further_than_its_reach(self) -> None:
        layer = build("log_mel_60", reach=1.0, normalization="none")
        start = layer.get_weights()[1]
        self.assertAllEqual(layer.mel.read_bank(), start)
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(layer(make_waveforms(2, NUM_SAMPLES)))
        gradient = tape.gradient(value, layer.mel.kernel).numpy()
        for band in (0, 20, 59):
            used = np.flatnonzero(start[:, band])
            width = used[-1] + 1 - used[0]
            first, stop = max(used[0] - width, 0), min(used[-1] + 1 + width, len(start))
            self.assertTrue((gradient[first:stop, band] != 0.0).all())
            self.assertFalse(gradient[:first, band].any())
            self.assertFalse(gradient[stop:, band].any())
        layer.set_weights([layer.get_weights()[0], np.ones_like(start)])
        self.assertLess(layer.mel.read_bank().mean(), 0.2)
        again = MelInit.from_config(layer.get_config())
        again.set_weights(layer.get_weights())
        self.assertAllEqual(again(make_waveforms(1, 4_000)), layer(make_waveforms(1, 4_000)))

    def test_a_step_moves_what_trains_and_nothing_else(self) -> None:
        layer = build("log_mel_60", trained=["mel"])
        kernel, bank = layer.get_weights()
        optimizer = keras.optimizers.SGD(1e-3)
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(layer(make_waveforms(2, NUM_SAMPLES)))
        optimizer.apply(tape.gradient(value, layer.trainable_variables), layer.trainable_variables)
        self.assertAllEqual(layer.get_weights()[0], kernel)
        self.assertGreater(np.abs(layer.get_weights()[1] - bank).max(), 0.0)


if __name__ == "__main__":
    tf.test.main()
