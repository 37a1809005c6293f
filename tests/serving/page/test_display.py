"""What is drawn: the envelope and the mel spectrogram, beside computations of another kind."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from serving.page.display import SoundDisplay
from tests.serving.page.sounds import tone


def describe(waveform: np.ndarray, rate_hz: int, num_blocks: int = 1) -> dict:
    display = SoundDisplay(rate_hz, len(waveform) / rate_hz)
    for block in np.array_split(waveform, num_blocks):
        if len(block):
            display.add(block)
    return display.describe()


def read_mel(described: dict) -> np.ndarray:
    """Values from 0 to 1, ``(columns, bands)``."""
    mel = described["mel"]
    values = np.frombuffer(base64.b64decode(mel["data"]), np.uint8) / 255
    return values.reshape(mel["columns"], mel["bands"])


def expected_band(frequency_hz: float, described: dict) -> float:
    """Where a frequency lies among bands equally spaced over mel, by the formula alone."""

    def mel(hz: float) -> float:
        return 1127 * np.log(1 + hz / 700)

    bands = described["mel"]["bands"]
    return mel(frequency_hz) / mel(described["mel"]["top_hz"]) * (bands + 1) - 1


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 96_000])
@pytest.mark.parametrize("frequency_hz", [200.0, 1_000.0, 3_500.0])
def test_a_tone_is_brightest_at_its_band(rate_hz: int, frequency_hz: float) -> None:
    described = describe(tone(frequency_hz, 2.0, rate_hz), rate_hz, 7)
    assert described["mel"]["top_hz"] == rate_hz / 2
    mel = read_mel(described)
    middle = mel[len(mel) // 4 : -len(mel) // 4]
    brightest = middle.argmax(axis=1)
    # Bands narrower than the transform's bins can move it by one or two.
    assert np.abs(brightest - expected_band(frequency_hz, described)).max() <= 2.0
    assert mel.max() == 1.0


def test_levels_are_decibels_below_the_loudest() -> None:
    rate_hz = 16_000
    loud, quiet = tone(1_000, 1.0, rate_hz, 0.8), tone(1_000, 1.0, rate_hz, 0.08)
    mel = read_mel(describe(np.concatenate([loud, quiet]), rate_hz))
    band = mel.max(axis=1)
    # A tenth of the amplitude is 20 dB less, and black is at 80 dB.
    first, second = band[20:80].mean(), band[-80:-20].mean()
    assert first - second == pytest.approx(20 / 80, abs=1 / 255)


def test_columns_follow_the_time() -> None:
    rate_hz = 8_000
    waveform = np.zeros(3 * rate_hz, np.float32)
    waveform[2 * rate_hz] = 1.0
    described = describe(waveform, rate_hz)
    mel = read_mel(described)
    click = mel.sum(axis=1).argmax() / len(mel) * described["duration_s"]
    assert click == pytest.approx(2.0, abs=0.02)
    high = np.array(described["envelope"]["high"])
    assert high.argmax() / len(high) * 3.0 == pytest.approx(2.0, abs=0.01)
    assert high.max() == 1.0 and np.count_nonzero(high) == 1


def test_the_envelope_holds_the_extremes_of_every_column() -> None:
    waveform = np.random.default_rng(0).normal(0.0, 0.1, 24_000).astype(np.float32)
    envelope = describe(waveform, 8_000)["envelope"]
    low, high = np.array(envelope["low"]), np.array(envelope["high"])
    assert len(low) == len(high) == 1_000
    parts = np.split(waveform[: 24 * 1_000], 1_000)
    # 16 samples are a step, so that columns of 24 start at every other one or the next.
    assert high.max() == pytest.approx(waveform.max(), abs=1e-4)
    assert low.min() == pytest.approx(waveform.min(), abs=1e-4)
    assert np.mean(np.abs(high - [part.max() for part in parts])) < 0.05
    assert (low <= high).all()


def test_blocks_of_any_size_give_the_same_pictures() -> None:
    waveform = np.random.default_rng(1).normal(0.0, 0.1, 30_000).astype(np.float32)
    whole = describe(waveform, 16_000)
    assert describe(waveform, 16_000, 13) == whole
    assert describe(waveform, 16_000, 2_999) == whole


def test_long_sounds_have_no_more_columns_and_skip_nothing() -> None:
    rate_hz = 4_000
    waveform = np.zeros(90 * rate_hz, np.float32)
    clicks = [11.003, 44.51, 80.2]
    for click_s in clicks:
        waveform[round(click_s * rate_hz)] = 0.9
    described = describe(waveform, rate_hz, 40)
    assert described["duration_s"] == 90.0
    assert len(described["envelope"]["low"]) == 1_000
    mel = read_mel(described)
    assert len(mel) == 800
    loud = np.flatnonzero(mel.mean(axis=1) > 0.2) / 800 * 90.0
    assert all(np.abs(loud - click_s).min() < 0.25 for click_s in clicks)
    assert len(loud) <= 2 * len(clicks)


@pytest.mark.parametrize("num_samples", [1, 2, 300])
def test_the_shortest_sounds_and_silence_can_be_drawn(num_samples: int) -> None:
    described = describe(np.zeros(num_samples, np.float32), 8_000)
    assert read_mel(described).max() == 0.0
    assert read_mel(described).size
    assert set(described["envelope"]["high"]) == {0.0}
    assert described["duration_s"] == num_samples / 8_000
