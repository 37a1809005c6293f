"""Sounds of features: parts that sum to the clip, tones that are found, files that do not clip."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from esc_tf.errors import AudioError, RequestError, UnknownNameError
from esc_tf.frontends.mel_front_end import build_bank
from esc_tf.interpretation.reading import Reading
from esc_tf.interpretation.sounds import (
    LARGEST_SAMPLE,
    ClipFeatures,
    choose_gain,
    compute_level_db,
    write_wav,
)
from tests.interpretation.reading_with_sounds import (
    FEATURE_HZ,
    NUM_SAMPLES,
    RATE_HZ,
    write_reading_with_sounds,
)


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    return write_reading_with_sounds(tmp_path_factory.mktemp("planted"))


def test_the_bank_is_the_front_ends(reading: Reading) -> None:
    expected = librosa.filters.mel(sr=RATE_HZ, n_fft=256, n_mels=24).T
    bank = build_bank(reading.front_end, reading.sample_rate_hz)
    np.testing.assert_allclose(bank, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("layer", ["block_1", "block/2 out"])
def test_all_features_sum_to_the_clip(reading: Reading, layer: str) -> None:
    features = ClipFeatures(reading, 3, layer, "nmf")
    stored, _ = soundfile.read(reading.clips[3].path, dtype="float32")
    sounds = [features.rebuild(feature) for feature in range(len(features.activations))]
    assert all(sound.dtype == np.float32 for sound in sounds)
    # float32 sums of twenty sounds; measured 2e-7.
    np.testing.assert_allclose(np.sum(sounds, axis=0), stored, rtol=0, atol=1e-6)
    both = features.rebuild([0, 2])
    np.testing.assert_allclose(both, sounds[0] + sounds[2], rtol=0, atol=1e-6)


def test_each_feature_sounds_like_its_tone(reading: Reading) -> None:
    for feature, hz in enumerate(FEATURE_HZ):
        sound = ClipFeatures(reading, 0, "block_1", "mel_basis").rebuild(feature)
        power = np.abs(np.fft.rfft(sound)) ** 2
        frequencies_hz = np.fft.rfftfreq(NUM_SAMPLES, 1 / RATE_HZ)
        inside = np.abs(frequencies_hz - hz) < 60.0
        # Tones start and stop at once, which spreads a little of them; measured 0.97 to 0.999.
        assert power[inside].sum() > 0.95 * power.sum()


def test_shares_are_parts_of_the_reconstruction(reading: Reading) -> None:
    features = ClipFeatures(reading, 1, "block/2 out", "mel_basis")
    w, h = features.filters.astype(np.float64), features.activations.astype(np.float64)
    whole = (w @ h).sum()
    expected = [np.outer(w[:, k], h[k]).sum() / whole for k in range(20)]
    np.testing.assert_allclose(features.shares, expected, rtol=1e-6)


def test_what_is_not_there_is_named(reading: Reading, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="block_1"):
        ClipFeatures(reading, 0, "block_2", "nmf").rebuild(0)
    with pytest.raises(UnknownNameError, match="mel_basis"):
        ClipFeatures(reading, 0, "block_1", "mel_base").rebuild(0)
    with pytest.raises(RequestError, match="no feature 3; they are numbered 0 to 2"):
        ClipFeatures(reading, 0, "block_1", "nmf").rebuild(3)
    own = write_reading_with_sounds(tmp_path)
    Path(own.clips[0].path).unlink()
    with pytest.raises(AudioError, match="0.wav"):
        ClipFeatures(own, 0, "block_1", "nmf").rebuild(0)


def test_levels() -> None:
    noise = np.random.default_rng(0).standard_normal(1000)
    assert compute_level_db(0.1 * noise, noise) == pytest.approx(-20.0)
    assert compute_level_db(0 * noise, noise) is None
    assert compute_level_db(noise, 0 * noise) is None


def test_files_are_exact_to_half_a_step(tmp_path: Path) -> None:
    waveform = np.random.default_rng(0).uniform(-1.0, 1.0, 5000)
    waveform[:2] = -1.0, LARGEST_SAMPLE
    write_wav(tmp_path / "sound.wav", waveform, 22_050)
    info = soundfile.info(tmp_path / "sound.wav")
    assert (info.samplerate, info.channels, info.subtype) == (22_050, 1, "PCM_16")
    stored, _ = soundfile.read(tmp_path / "sound.wav")
    steps = 32768 * (stored - waveform)
    assert np.abs(steps[waveform <= LARGEST_SAMPLE]).max() <= 0.5
    assert abs(steps.mean()) < 0.02  # rounded, not cut off, which is half a step


def test_nothing_clips(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    write_wav(path, np.array([0.5]), 8000)
    before = path.read_bytes()
    for bad in (np.array([0.0, 1.01]), np.array([np.nan, 0.0])):
        with pytest.raises(ValueError, match="would clip"):
            write_wav(path, bad, 8000)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    loud = np.array([0.3, -1.7])
    gain = choose_gain([0.3, 1.7])
    write_wav(path, gain * loud, 8000)
    stored, _ = soundfile.read(path)
    assert stored.tolist() == pytest.approx((loud * LARGEST_SAMPLE / 1.7).tolist(), abs=2e-5)
