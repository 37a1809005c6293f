"""Segments of clips: where they lie, which are silent, how they are normalised."""

from __future__ import annotations

import numpy as np
import pytest

from esc_tf.audio.segments import find_segments
from esc_tf.config import SegmentsConfig


def config(**changes: object) -> SegmentsConfig:
    return SegmentsConfig.model_validate({"num_samples": 100, "hop_samples": 50, **changes})


def starts(waveform: np.ndarray, settings: SegmentsConfig, **options: bool) -> list[int]:
    return [place.start for place in find_segments(waveform, settings, **options)]


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, 1000).astype(np.float32)


@pytest.mark.parametrize(
    ("num_samples", "expected"),
    [(100, [0]), (149, [0]), (150, [0, 50]), (199, [0, 50]), (250, [0, 50, 100, 150])],
)
def test_segments_that_the_end_does_not_fill_are_left_out(
    noise: np.ndarray, num_samples: int, expected: list[int]
) -> None:
    places = find_segments(noise[:num_samples], config())
    assert [place.start for place in places] == expected
    assert {place.num_samples for place in places} == {100}


def test_a_short_clip_is_one_short_segment(noise: np.ndarray) -> None:
    (place,) = find_segments(noise[:30], config())
    assert (place.start, place.num_samples) == (0, 30)
    assert len(place.cut(noise[:30])) == 30


def test_the_level_below_the_clips_peak_decides_what_is_silent() -> None:
    # A click of level 1, then a constant 60 dB below it, then one 80 dB below.
    waveform = np.concatenate([np.full(100, 1e-3), np.full(100, 1e-4), [1.0]] * 2)
    waveform = waveform[:-1].astype(np.float32)  # ends before the second click
    settings = config(hop_samples=100, num_samples=100)
    expected = {}
    for place in (0, 100, 200, 300):
        power = np.mean(np.square(waveform[place : place + 100], dtype=float))
        expected[place] = 10 * np.log10(power)
    for silence_db in (-70.0, -50.0, -90.0):
        loud = [place for place, level_db in expected.items() if level_db > silence_db]
        found = starts(waveform, settings.model_copy(update={"silence_db": silence_db}))
        assert found == loud
        # The clip's gain changes nothing.
        quiet = starts(waveform * 1e-3, settings.model_copy(update={"silence_db": silence_db}))
        assert quiet == loud
    assert starts(waveform, settings) == [0, 200]
    assert starts(waveform, settings.model_copy(update={"silence_db": None})) == [0, 100, 200, 300]


def test_of_a_clip_of_silence_the_loudest_segment_is_kept_if_asked() -> None:
    # Far below the one loud sample, which lies behind the last segment.
    waveform = np.full(10_000, 1e-5, np.float32)
    waveform[5_000:5_100] = 2e-5
    waveform[-1] = 1.0
    settings = config(num_samples=100, hop_samples=200)
    assert starts(waveform, settings, keep_loudest=False) == []
    assert starts(waveform, settings) == [5_000]
    # Digital silence has no loudest one; the first is as good as any.
    assert starts(np.zeros(300, np.float32), config()) == [0]
    assert starts(np.zeros(300, np.float32), config(), keep_loudest=False) == []


def test_normalisation_by_the_segments_or_the_clips_peak(noise: np.ndarray) -> None:
    noise[700] = -0.9
    for place in find_segments(noise, config()):
        part = place.cut(noise)
        assert np.abs(part).max() == pytest.approx(1.0, abs=1e-6)
        original = noise[place.start : place.start + 100]
        np.testing.assert_allclose(part, original / np.abs(original).max(), rtol=1e-6)
    for place in find_segments(noise, config(normalize_peak="clip")):
        original = noise[place.start : place.start + 100]
        np.testing.assert_allclose(place.cut(noise), original / 0.9, rtol=1e-6)
    for place in find_segments(noise, config(normalize_peak=None)):
        assert np.shares_memory(place.cut(noise), noise)  # a view
    (silence,) = find_segments(np.zeros(100, np.float32), config())
    assert not silence.cut(np.zeros(100, np.float32)).any()
