"""The achieved signal-to-noise ratio, measured on the mixture."""

from __future__ import annotations

import numpy as np
import pytest

from esc_tf.audio import generate_noise, mix_at_snr, power


@pytest.mark.parametrize("snr_db", [-25.0, -3.0, 0.0, 15.0, 40.0])
@pytest.mark.parametrize("color", ["white", "brown", "violet"])
def test_achieved_ratio(snr_db: float, color: str) -> None:
    rng = np.random.default_rng(0)
    signal = (0.1 * np.sin(np.arange(20000) * 0.05)).astype(np.float32)
    noise = 37.0 * generate_noise(rng, 20000, color)
    mixture = mix_at_snr(signal, noise, snr_db)
    assert mixture.dtype == np.float32
    added = mixture.astype(np.float64) - signal
    achieved_db = 10 * np.log10(np.mean(np.square(signal, dtype=np.float64)) / np.mean(added**2))
    assert achieved_db == pytest.approx(snr_db, abs=1e-5)  # measured 2e-7 dB
    # What was added is the noise and nothing else.
    assert np.corrcoef(added, noise)[0, 1] > 0.999999


def test_silence_on_either_side_changes_nothing() -> None:
    sound, silence = np.full(10, 0.5, np.float32), np.zeros(10, np.float32)
    np.testing.assert_array_equal(mix_at_snr(silence, sound, 10.0), silence)
    np.testing.assert_array_equal(mix_at_snr(sound, silence, 10.0), sound)


def test_refuses_wrong_input() -> None:
    sound = np.full(10, 0.5, np.float32)
    with pytest.raises(ValueError, match="one shape"):
        mix_at_snr(sound, sound[:5], 0.0)
    with pytest.raises(ValueError, match="finite"):
        mix_at_snr(sound, np.full(10, np.nan, np.float32), 0.0)


def test_power_is_the_mean_square() -> None:
    assert power(np.array([3.0, -4.0], np.float32)) == 12.5
    assert power(np.zeros(0, np.float32)) == 0.0
    # In float32 a sum of squares this long would stand still.
    assert power(np.full(1 << 25, 0.1, np.float32)) == pytest.approx(0.01, rel=1e-6)
