"""Sounds from outside: levels, kinds, and that they repeat."""

from __future__ import annotations

import numpy as np
import pytest

from esc_tf.evaluation.outside_sounds import OUTSIDE, generate_outside

RATE_HZ, NUM_SAMPLES = 16000, 16000


def generate(kind: str, count: int = 12, seed: int = 0) -> np.ndarray:
    return np.stack(list(generate_outside(kind, count, NUM_SAMPLES, RATE_HZ, seed)))


def level_db(windows: np.ndarray) -> np.ndarray:
    """RMS of each window in dB of full scale."""
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10(np.mean(np.square(windows, dtype=np.float64), axis=1))


@pytest.mark.parametrize("kind", OUTSIDE)
def test_windows_are_sound_and_repeat(kind: str) -> None:
    windows = generate(kind)
    assert windows.dtype == np.float32 and windows.shape == (12, NUM_SAMPLES)
    assert np.isfinite(windows).all() and np.abs(windows).max() <= 1.0
    np.testing.assert_array_equal(windows, generate(kind))
    # The first windows do not depend on how many follow.
    np.testing.assert_array_equal(windows[:3], generate(kind, 3))
    assert not np.array_equal(windows, generate(kind, seed=1))


def test_silence_is_quiet_but_for_an_offset_and_hum() -> None:
    windows = generate("silence", 36)
    spread = np.array([level_db(window[None] - window.mean())[0] for window in windows])
    assert np.all(windows[0::6] == 0.0)
    for noise in (spread[1::6], spread[2::6]):
        assert np.all((noise > -90.1) & (noise < -59.9))
    assert set(np.unique(windows[3::6] * 2**15)) == {-1.0, 0.0, 1.0}
    assert np.all(np.ptp(windows[4::6], axis=1) == 0.0) and np.all(windows[4::6] != 0.0)
    hum = np.abs(np.fft.rfft(windows[5::6], axis=1)).argmax(axis=1) * RATE_HZ / NUM_SAMPLES
    assert set(hum) <= {50.0, 60.0}
    assert np.all((spread[5::6] > -70.1) & (spread[5::6] < -49.9))


def test_noise_has_the_slope_of_its_colour() -> None:
    windows = generate("noise", 10)
    assert np.all((level_db(windows) > -50.1) & (level_db(windows) < -5.9))
    power = np.square(np.abs(np.fft.rfft(windows, axis=1)))
    hertz = np.fft.rfftfreq(NUM_SAMPLES, 1 / RATE_HZ)
    bands = [(hertz > low) & (hertz < 2 * low) for low in (250.0, 2500.0)]
    rise_db = 10 * np.log10(power[:, bands[1]].mean(axis=1) / power[:, bands[0]].mean(axis=1))
    # A decade lies between the bands.
    np.testing.assert_allclose(rise_db, [0, -10, -20, 10, 20] * 2, atol=1.5)


def test_mixtures_hold_more_than_one_sound() -> None:
    single, mixed = generate("generated", 20), generate("mixtures", 20)
    assert len(np.unique(mixed.round(6), axis=0)) == 20

    def count_busy_bands(windows: np.ndarray) -> float:
        power = np.square(np.abs(np.fft.rfft(windows, axis=1)[:, : NUM_SAMPLES // 2]))
        bands = power.reshape(len(windows), 100, -1).sum(axis=2)
        return float(np.mean(bands > 1e-4 * bands.sum(axis=1, keepdims=True)))

    assert count_busy_bands(mixed) > count_busy_bands(single)
