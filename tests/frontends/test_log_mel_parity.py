"""Agreement with librosa and with the published front ends. Nothing here was written here."""

from __future__ import annotations

import json

import librosa
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.audio import read_clip
from tests.frontends.setups import COMPUTATIONS, build_setup
from tests.shared_files import shared_path

RATE_HZ, NUM_SAMPLES = 44100, 220500
MEL = {"sr": RATE_HZ, "n_fft": 2048, "hop_length": 512, "n_mels": 128, "fmin": 20, "fmax": 22050}


def librosa_db(waveform: np.ndarray) -> np.ndarray:
    """(frequency, time) in dB as the thesis makes it."""
    return librosa.power_to_db(librosa.feature.melspectrogram(y=waveform, **MEL))


def librosa_features(waveform: np.ndarray, num_frames: int = 431) -> np.ndarray:
    """(time, frequency): standardised by clip, cut or filled with the minimum."""
    features = librosa_db(waveform)
    features = (features - features.mean()) / (features.std() + 1e-6)
    missing = max(0, num_frames - features.shape[1])
    features = np.pad(features, ((0, 0), (0, missing)), constant_values=features.min())
    return features[:, :num_frames].T


def make_signals() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    times_s = np.arange(NUM_SAMPLES) / RATE_HZ
    noise = rng.standard_normal(NUM_SAMPLES)
    tone = np.sin(2 * np.pi * 1000 * times_s)
    signals = {
        "noise": 0.1 * noise,
        "quiet noise": 1e-6 * noise,
        "tone": 0.5 * tone,
        "tone in noise": 0.5 * tone + 1e-4 * noise,
        "burst": noise * (np.abs(times_s - 2.5) < 0.1),
        "click": np.eye(1, NUM_SAMPLES, 5000)[0],
        "silence": np.zeros(NUM_SAMPLES),
        "constant": np.full(NUM_SAMPLES, 0.25),
        "short": 0.1 * noise[:100_000],
        "long": 0.1 * np.concatenate([noise, 0.01 * noise])[:300_000],
    }
    return {name: signal.astype(np.float32) for name, signal in signals.items()}


SIGNALS = make_signals()
# Largest differences in dB. librosa transforms in float64. In bands that lie 70 to 80 dB below a
# pure tone, the float32 rounding of the transform shows, and a convolution's is another on each
# kind of CPU. Measured: 7e-4 (rfft) and, with dft_conv, 2.5e-3 on a Xeon, 5.9e-3 on an EPYC for the
# tones, 2e-4 for the constant, 3e-5 and less for everything else.
TOLERANCES_DB = {
    "rfft": {"tone": 1e-3, "tone in noise": 1e-3, "constant": 5e-4, None: 1e-4},
    "dft_conv": {"tone": 8e-3, "tone in noise": 8e-3, "constant": 5e-4, None: 1e-4},
    "factored_dft": {"tone": 4e-3, "tone in noise": 4e-3, "constant": 5e-4, None: 1e-4},
}


class LibrosaTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(computation=COMPUTATIONS, signal=list(SIGNALS))
    def test_decibels(self, computation: str, signal: str) -> None:
        layer = build_setup(
            "se_cnn_log_mel", normalization="none", num_frames=None, computation=computation
        )
        ours = layer(SIGNALS[signal][np.newaxis]).numpy()[0, ..., 0]
        theirs = librosa_db(SIGNALS[signal]).T
        self.assertEqual(ours.shape, theirs.shape)
        self.assertAllInRange(ours, -101.0, 100.0)
        tolerances = TOLERANCES_DB[computation]
        self.assertLess(np.abs(ours - theirs).max(), tolerances.get(signal, tolerances[None]))

    @parameterized.product(computation=COMPUTATIONS, signal=list(SIGNALS))
    def test_features_end_to_end(self, computation: str, signal: str) -> None:
        layer = build_setup("se_cnn_log_mel", computation=computation)
        ours = layer(SIGNALS[signal][np.newaxis]).numpy()
        theirs = librosa_features(SIGNALS[signal])
        self.assertEqual(ours.shape, (1, 431, 128, 1))
        self.assertAllInRange(ours, -100.0, 100.0)
        # In standard deviations. Measured: 5e-5 and less; 2e-4 for the tones (dft_conv) and for
        # the quiet noise, whose deviation is a fraction of a dB.
        self.assertLess(np.abs(ours[0, ..., 0] - theirs).max(), 5e-4)

    @parameterized.parameters(
        ("rfft", 1e-3, 1e-4), ("dft_conv", 2e-3, 1e-4), ("factored_dft", 4e-3, 3e-4)
    )
    def test_real_clips(
        self, computation: str, tolerance_db: float, tolerance_of_features: float
    ) -> None:
        folder = shared_path("esc10/audio")
        decibels = build_setup(
            "se_cnn_log_mel", normalization="none", num_frames=None, computation=computation
        )
        features = build_setup("se_cnn_log_mel", computation=computation)
        for path in sorted(folder.glob("*.ogg"))[::40]:
            waveform = read_clip(path).waveform
            ours = decibels(waveform[np.newaxis]).numpy()[0, ..., 0]
            self.assertAllInRange(ours, -101.0, 100.0)
            # Measured on every eighth clip: at most 4e-4 (rfft) and 7e-4 (dft_conv on a Xeon,
            # 1.5e-3 on an EPYC); factored_dft
            # on every 16th: 2.4e-3 in bands 70 dB below a tone, and 3e-4 in all but one value of
            # ten thousand.
            error_db = np.abs(ours - librosa_db(waveform).T)
            self.assertLess(error_db.max(), tolerance_db)
            self.assertLess(np.quantile(error_db, 0.999), 5e-4)
            ours = features(waveform[np.newaxis]).numpy()[0, ..., 0]
            # In standard deviations. Measured: 5e-5 (rfft, dft_conv), 1.3e-4 (factored_dft).
            error = np.abs(ours - librosa_features(waveform))
            self.assertLess(error.max(), tolerance_of_features)

    @parameterized.product(
        computation=COMPUTATIONS,
        settings=[
            {"n_fft": 1764, "hop_length": 882, "mel_scale": "htk", "mel_norm": None},
            {"n_fft": 2048, "hop_length": 441, "win_length": 1764},
            {"n_fft": 1024, "hop_length": 320, "center": False},
            {"n_fft": 1000, "hop_length": 1500, "pad_mode": "reflect"},
            {"n_fft": 1023, "hop_length": 256, "win_length": 700, "pad_mode": "reflect"},
            {"n_fft": 512, "hop_length": 7},
        ],
    )
    def test_other_settings(self, computation: str, settings: dict) -> None:
        if computation == "factored_dft" and settings["n_fft"] % 4:
            self.skipTest("factored_dft takes multiples of 4; test_computation.py has its error")
        waveform = SIGNALS["noise"][:30000]
        layer = build_setup(
            "se_cnn_log_mel",
            normalization="none",
            num_frames=None,
            computation=computation,
            n_mels=40,
            **settings,
        )
        theirs = librosa.feature.melspectrogram(
            y=waveform,
            **MEL
            | {
                "n_mels": 40,
                "n_fft": settings["n_fft"],
                "hop_length": settings["hop_length"],
                "win_length": settings.get("win_length"),
                "center": settings.get("center", True),
                "pad_mode": "reflect" if "pad_mode" in settings else "constant",
                "htk": "mel_scale" in settings,
                "norm": settings.get("mel_norm", "slaney"),
            },
        )
        ours = layer(waveform[np.newaxis]).numpy()[0, ..., 0]
        theirs = librosa.power_to_db(theirs).T
        self.assertEqual(ours.shape, theirs.shape)
        self.assertAllInRange(ours, -101.0, 100.0)
        self.assertLess(np.abs(ours - theirs).max(), 1e-3)  # measured 4e-5


class FixtureTest(tf.test.TestCase, parameterized.TestCase):
    def check(self, layer: tf.keras.layers.Layer, fixture: str, array: str, index: tuple) -> None:
        arrays = np.load(shared_path(f"reference/{fixture}.npz"))
        axes = json.loads(shared_path(f"reference/{fixture}.json").read_text())["arrays"][array]
        self.assertTrue(axes["axes"].endswith(("mel, frame", "frame, mel")))
        waveform = np.atleast_2d(arrays["input"])
        ours = layer(waveform).numpy()[..., 0]
        if axes["axes"].endswith("mel, frame"):
            ours = ours.swapaxes(1, 2)
        reference = arrays[array][index]
        self.assertAllInRange(ours, -200.0, 200.0)
        self.assertEqual(ours.shape, reference.shape)
        error = np.linalg.norm(ours - reference) / np.linalg.norm(reference)
        self.assertLess(error, 1e-5)  # measured 1.5e-6 (Kaldi), 3e-7 (PANNs), 2e-6 (TFNet)

    @parameterized.parameters(*COMPUTATIONS)
    def test_efficientat(self, computation: str) -> None:
        layer = build_setup("efficientat_log_mel", computation=computation)
        self.check(layer, "mel_efficientat", "mel", (...,))

    @parameterized.parameters(*COMPUTATIONS)
    def test_passt(self, computation: str) -> None:
        layer = build_setup("efficientat_log_mel", computation=computation)
        self.check(layer, "mel_passt", "mel", (...,))
        layer = build_setup("efficientat_log_mel", computation=computation, fmax_hz=15500.0)
        self.check(layer, "mel_passt", "mel_default_range", (...,))

    @parameterized.parameters(*COMPUTATIONS)
    def test_panns(self, computation: str) -> None:
        layer = build_setup("panns_log_mel", computation=computation)
        self.check(layer, "mel_panns", "logmel", (slice(None), 0))

    @parameterized.parameters(*COMPUTATIONS)
    def test_tfnet(self, computation: str) -> None:
        layer = build_setup("tfnet_log_mel", computation=computation)
        self.check(layer, "mel_tfnet", "feature", (slice(0, 1),))


if __name__ == "__main__":
    tf.test.main()
