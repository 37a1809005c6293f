"""The spectrograms to be explained: against librosa, known answers, the network's frames."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from esc_tf.config import LogMelConfig
from esc_tf.errors import UnknownNameError
from esc_tf.evaluation.time_grids import measure_time_grids
from esc_tf.interpretation.spectrograms import MelSpectrogram
from tests.export.models import build_tiny

RATE_HZ, NUM_SAMPLES = 8000, 4000
FRONT_END = LogMelConfig(
    name="log_mel",
    n_fft=256,
    hop_length=128,
    n_mels=24,
    normalization="standardize",
    num_frames=7,
    floor=1e-3,
)


def test_powers_are_librosas() -> None:
    waveform = np.random.default_rng(0).normal(0.0, 0.1, NUM_SAMPLES).astype(np.float32)
    theirs = librosa.feature.melspectrogram(
        y=waveform, sr=RATE_HZ, n_fft=256, hop_length=128, n_mels=24, pad_mode="constant"
    )
    ours = {
        kind: MelSpectrogram(FRONT_END, RATE_HZ, NUM_SAMPLES, kind).compute(waveform)
        for kind in ("power", "magnitude", "log1p")
    }
    np.testing.assert_allclose(ours["power"], theirs, rtol=1e-4)
    np.testing.assert_allclose(ours["magnitude"], np.sqrt(theirs), rtol=1e-4)
    np.testing.assert_allclose(ours["log1p"], np.log(1.0 + np.sqrt(theirs)), rtol=1e-4)


def test_silence_is_zero_and_a_tone_lies_in_its_band() -> None:
    spectrogram = MelSpectrogram(FRONT_END, RATE_HZ, NUM_SAMPLES)
    assert not spectrogram.compute(np.zeros(NUM_SAMPLES)).any()
    time_s = np.arange(NUM_SAMPLES) / RATE_HZ
    values = spectrogram.compute(0.5 * np.sin(2 * np.pi * spectrogram.frequencies_hz[15] * time_s))
    assert (values[:, 1:-1].argmax(axis=0) == 15).all()


def test_frames_are_the_networks() -> None:
    model = build_tiny()
    spectrogram = MelSpectrogram(model.front_end.settings, RATE_HZ, NUM_SAMPLES)
    features = model.extract_features(np.zeros((1, NUM_SAMPLES), np.float32))
    times_s = measure_time_grids(model)["features"].times_s(features.shape[1])
    np.testing.assert_allclose(spectrogram.frame_times_s, times_s)


def test_unknown_kind() -> None:
    with pytest.raises(UnknownNameError, match="log1p"):
        MelSpectrogram(FRONT_END, RATE_HZ, NUM_SAMPLES, "log")
