"""Listening to features: parts that sum to the clip, tones that are told apart."""

from __future__ import annotations

import numpy as np
import pytest

from esc_tf.audio.filterbanks import mel_filterbank
from esc_tf.config import LogMelConfig
from esc_tf.errors import RequestError
from esc_tf.interpretation.listening import (
    ShortTimeTransform,
    compute_share,
    listen,
    spread_over_bins,
)

RATE_HZ = 16_000
TRANSFORMS = [
    ShortTimeTransform(512, 160, 400),
    ShortTimeTransform(512, 256),
    ShortTimeTransform(512, 128, window="hann_symmetric", center=False),
    ShortTimeTransform(500, 170, 401, center=False),
    ShortTimeTransform(511, 100),
]


def make_noise(num_samples: int = 8000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(num_samples).astype(np.float32)


def make_factors(bins: int, rank: int, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.gamma(0.3, 1.0, (bins, rank)), rng.gamma(0.3, 1.0, (rank, num_frames))


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("num_samples", [8000, 7777, 600, 100])
def test_a_mask_of_ones_gives_the_clip_back(transform, num_samples) -> None:
    waveform = make_noise(num_samples)
    mask = np.ones((transform.n_fft // 2 + 1, transform.count_frames(num_samples)))
    rebuilt = transform.filter(waveform, mask)
    assert rebuilt.shape == waveform.shape and rebuilt.dtype == np.float32
    np.testing.assert_allclose(rebuilt, waveform, rtol=0.0, atol=1e-6)  # measured 5e-7, float32
    np.testing.assert_allclose(transform.filter(waveform.astype(np.float64), mask), waveform)


@pytest.mark.parametrize("over_mel", [True, False])
def test_the_parts_sum_to_the_clip(over_mel) -> None:
    waveform = make_noise().astype(np.float64)
    transform = TRANSFORMS[0]
    # Bins below 300 Hz and above 6 kHz belong to no band.
    bank = mel_filterbank(RATE_HZ, 512, 40, 300.0, 6000.0) if over_mel else None
    bins = 40 if over_mel else 257
    patterns, activations = make_factors(bins, 5, transform.count_frames(len(waveform)))
    patterns[:, 2] = 0.0  # explains nothing
    activations[:, 10:14] = 0.0  # nothing is explained
    sets = [[0], [1, 4], [2], [3]]
    masks = [compute_share(patterns, activations, chosen) for chosen in sets]
    np.testing.assert_allclose(sum(masks), 1.0, rtol=1e-12)
    assert min(mask.min() for mask in masks) >= 0
    if bank is not None:
        spread = sum(spread_over_bins(mask, bank) for mask in masks)
        assert spread.shape == (257, activations.shape[1])
        np.testing.assert_allclose(spread, 1.0, rtol=1e-12)
    parts = [listen(waveform, patterns, activations, chosen, transform, bank) for chosen in sets]
    np.testing.assert_allclose(sum(parts), waveform, rtol=0.0, atol=1e-12)
    assert all(np.abs(part).max() < np.abs(waveform).max() for part in parts)


@pytest.mark.parametrize("center", [True, False])
def test_two_tones_are_told_apart_in_time_and_frequency(center) -> None:
    """A low tone in the first half, a high one throughout, and a W and H that say so."""
    time_s = np.arange(16_000) / RATE_HZ
    low = np.where(time_s < 0.5, np.sin(2 * np.pi * 500.0 * time_s), 0.0)
    high = np.sin(2 * np.pi * 4000.0 * time_s)
    transform = ShortTimeTransform(512, 128, center=center)
    bank = mel_filterbank(RATE_HZ, 512, 32)
    num_frames = transform.count_frames(len(low))
    peaks_hz = bank.argmax(axis=0) * RATE_HZ / 512
    patterns = np.stack([peaks_hz < 2000.0, peaks_hz >= 2000.0], axis=1).astype(np.float64)
    activations = np.ones((2, num_frames))
    for feature, expected in ((0, low), (1, high)):
        heard = listen(low + high, patterns, activations, feature, transform, bank)
        error = np.square(heard - expected).mean() / np.square(expected).mean()
        assert error < 0.01  # leakage of the tone that stops at once; measured below 0.005
    # The mask's frames are where the front end has them: half a second of everything, then none.
    centres = np.arange(num_frames) * 128 + (0 if center else 256)
    activations = np.stack([centres < 8000, centres >= 8000]).astype(np.float64)
    patterns = np.ones((32, 2))
    heard = listen(low + high, patterns, activations, 0, transform, bank)
    edge = 512
    np.testing.assert_allclose(heard[: 8000 - edge], (low + high)[: 8000 - edge], atol=1e-9)
    np.testing.assert_allclose(heard[8000 + edge :], 0.0, atol=1e-9)
    middle = heard[8000 - edge : 8000 + edge]
    gain = (middle @ high[8000 - edge : 8000 + edge]) / np.square(high[:1024]).sum()
    assert 0.4 < gain < 0.65


def test_as_the_front_end_counts_frames() -> None:
    settings = LogMelConfig(name="log_mel", n_fft=1024, win_length=800, hop_length=320)
    transform = ShortTimeTransform.of_front_end(settings)
    assert transform == ShortTimeTransform(1024, 320, 800)
    assert transform.count_frames(160_000) == 501
    # Pre-emphasis is one sample short: 159,999 have 500 frames, and the mask is one short.
    waveform = make_noise(160_000)
    rebuilt = transform.filter(waveform, np.ones((513, 500)))
    np.testing.assert_allclose(rebuilt, waveform, rtol=0.0, atol=1e-6)


def test_silence_stays_silence() -> None:
    transform = TRANSFORMS[0]
    patterns, activations = make_factors(257, 3, transform.count_frames(4000))
    heard = listen(np.zeros(4000, np.float32), patterns, activations, [0, 1], transform)
    assert heard.shape == (4000,) and not heard.any()


def share(chosen, patterns=None, activations=None) -> np.ndarray:
    default = make_factors(4, 3, 6)
    return compute_share(
        default[0] if patterns is None else patterns,
        default[1] if activations is None else activations,
        chosen,
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: share(3), "no feature 3; they are numbered 0 to 2"),
        (lambda: share(-1), "no feature -1"),
        (lambda: share([1, 1]), "named twice"),
        (lambda: share(0, patterns=-np.ones((4, 3))), "negative"),
        (lambda: share(0, activations=np.full((3, 6), np.nan)), "not finite"),
        (lambda: share(0, activations=np.ones((2, 6))), "3 patterns for 2 activations"),
        (lambda: spread_over_bins(np.ones((4, 6)), np.ones((9, 5))), "4 bands and the filter bank"),
        (lambda: spread_over_bins(np.ones((4, 6)), np.zeros((9, 4))), "zero everywhere"),
        (lambda: ShortTimeTransform(512, 512), "hop of 512 samples is too long"),
        (
            lambda: TRANSFORMS[1].filter(make_noise(), np.ones((257, 9))),
            "257 bins × 9 frames, but 8000 samples have 257 × 32",
        ),
    ],
)
def test_bad_input_is_told(call, message) -> None:
    with pytest.raises(RequestError, match=message):
        call()
