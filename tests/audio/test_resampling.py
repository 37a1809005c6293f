"""Quality of the resampler as numbers."""

from __future__ import annotations

import numpy as np
import pytest

from esc_tf.audio import Clip, resample
from esc_tf.errors import AudioError


def make_tone(frequency_hz: float, rate_hz: int, duration_s: float = 1.0) -> Clip:
    times_s = np.arange(int(duration_s * rate_hz)) / rate_hz
    return Clip(np.sin(2 * np.pi * frequency_hz * times_s).astype(np.float32), rate_hz)


def tone_to_rest_db(clip: Clip, frequency_hz: float) -> float:
    """Power of the fitted tone over the power of everything else, away from the edges."""
    times_s = np.arange(len(clip.waveform)) / clip.sample_rate_hz
    middle = slice(len(times_s) // 4, -(len(times_s) // 4))
    phase = 2 * np.pi * frequency_hz * times_s[middle]
    basis = np.stack([np.sin(phase), np.cos(phase)], axis=1)
    samples = clip.waveform[middle].astype(np.float64)
    weights, *_ = np.linalg.lstsq(basis, samples, rcond=None)
    assert np.hypot(*weights) == pytest.approx(1.0, abs=1e-5)
    assert abs(np.arctan2(weights[1], weights[0])) < 1e-4  # no delay
    rest = samples - basis @ weights
    return 10 * np.log10(np.mean((basis @ weights) ** 2) / np.mean(rest**2))


@pytest.mark.parametrize(
    ("rate_hz", "new_rate_hz"),
    [(44100, 32000), (32000, 44100), (48000, 44100), (22050, 44100), (44100, 16000), (8000, 32000)],
)
@pytest.mark.parametrize("frequency_hz", [997.0, 3500.0])
def test_tone_stays_a_tone(rate_hz: int, new_rate_hz: int, frequency_hz: float) -> None:
    clip = resample(make_tone(frequency_hz, rate_hz), new_rate_hz)
    assert clip.sample_rate_hz == new_rate_hz
    assert clip.waveform.dtype == np.float32
    assert len(clip.waveform) == new_rate_hz
    assert tone_to_rest_db(clip, frequency_hz) > 140.0  # measured 150 and more


@pytest.mark.parametrize("frequency_hz", [8100.0, 9000.0, 15000.0, 21000.0])
def test_what_cannot_be_represented_is_rejected(frequency_hz: float) -> None:
    clip = resample(make_tone(frequency_hz, 44100), 16000)
    middle = clip.waveform[4000:-4000].astype(np.float64)
    rejection_db = -10 * np.log10(2 * np.mean(middle**2) + 1e-30)
    assert rejection_db > 140.0  # measured 157 and more


def test_same_rate_is_the_same_clip() -> None:
    clip = make_tone(100.0, 8000)
    assert resample(clip, 8000) is clip


def test_length_follows_the_ratio() -> None:
    for num_samples in (1, 7, 44100, 44101, 158760):
        resampled = resample(Clip(np.ones(num_samples, np.float32), 44100), 32000)
        assert abs(len(resampled.waveform) - num_samples * 32000 / 44100) <= 0.5 + 1e-9


def test_less_than_one_sample_is_refused() -> None:
    with pytest.raises(AudioError, match="less than one sample"):
        resample(Clip(np.ones(1, np.float32), 384000), 2000)
