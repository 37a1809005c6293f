from __future__ import annotations

import librosa
import numpy as np
import pytest

from esc_tf import frames


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("n_fft", [256, 255, 1024])
@pytest.mark.parametrize("hop_length", [1, 100, 256, 300])
@pytest.mark.parametrize("num_samples", [1024, 1025, 4000, 4097])
def test_as_many_frames_as_librosa_cuts(
    num_samples: int, hop_length: int, n_fft: int, center: bool
) -> None:
    waveform = np.zeros(num_samples, np.float32)
    expected = librosa.stft(waveform, n_fft=n_fft, hop_length=hop_length, center=center)
    found = frames.count_frames(num_samples, n_fft, hop_length, center)
    assert found == expected.shape[1]


def test_published_sizes() -> None:
    assert frames.count_frames(220500, 2048, 512, center=True) == 431
    assert frames.count_frames(220500, 2048, 512, center=False) == 427
    assert frames.count_frames(160000, 1024, 320, center=True) == 501


def test_a_waveform_shorter_than_a_frame_has_none() -> None:
    assert frames.count_frames(1023, 1024, 320, center=False) == 0
    assert frames.count_frames(0, 1024, 320, center=False) <= 0


def test_frames_of_many_clips_at_once() -> None:
    found = frames.count_frames(np.array([1024, 1344, 1343]), 1024, 320, center=False)
    np.testing.assert_array_equal(found, [1, 2, 1])


@pytest.mark.parametrize(
    ("duration_s", "rate_hz", "expected"),
    [(5.0, 44100, 220500), (1.0, 16000, 16000), (0.1, 11025, 1102), (0.3, 8000, 2400)],
)
def test_samples_are_rounded_not_cut(duration_s: float, rate_hz: int, expected: int) -> None:
    assert frames.count_samples(duration_s, rate_hz) == expected


def test_a_frame_lies_where_its_hop_puts_it() -> None:
    assert frames.frame_times_s(3, 441, 44100) == pytest.approx([0.0, 0.01, 0.02], abs=1e-12)
