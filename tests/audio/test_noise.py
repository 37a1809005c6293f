"""Spectral slopes as numbers, by SciPy's periodogram and a regression over decades."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from esc_tf.audio import color_noise, generate_noise, noise_amplitudes

SLOPES_DB = {"white": 0.0, "pink": -10.0, "brown": -20.0, "blue": 10.0, "violet": 20.0}
NUM_SAMPLES = 1 << 18


def measure_slope_db(noise: np.ndarray, lowest: float = 1e-4, highest: float = 0.4) -> float:
    """Slope in dB per decade, from the mean powers of bands equally wide in the logarithm."""
    frequencies, powers = signal.periodogram(noise, detrend=False)
    edges = np.geomspace(lowest, highest, 25)
    band_of = np.digitize(frequencies, edges)
    bands = range(1, len(edges))
    centres = [np.mean(np.log10(frequencies[band_of == band])) for band in bands]
    levels = [10 * np.log10(np.mean(powers[band_of == band])) for band in bands]
    return float(np.polyfit(centres, levels, 1)[0])


@pytest.mark.parametrize("color", SLOPES_DB)
def test_slope_of_the_noise(color: str) -> None:
    # 3.6 decades. Measured with ten seeds: within 0.34 dB per decade of the slope wanted.
    slope_db = measure_slope_db(generate_noise(np.random.default_rng(0), NUM_SAMPLES, color))
    assert abs(slope_db - SLOPES_DB[color]) < 0.5


@pytest.mark.parametrize("color", SLOPES_DB)
@pytest.mark.parametrize("num_samples", [1000, 1001])
def test_slope_of_the_weights_is_exact(color: str, num_samples: int) -> None:
    weights = noise_amplitudes(num_samples, color)
    assert weights.shape == (num_samples // 2 + 1,)
    assert weights.dtype == np.float32
    bins = np.arange(1, len(weights))
    slope_db, _ = np.polyfit(np.log10(bins), 20 * np.log10(weights[1:].astype(np.float64)), 1)
    assert abs(slope_db - SLOPES_DB[color]) < 1e-6  # measured 6e-8, float32 rounding


@pytest.mark.parametrize("color", SLOPES_DB)
@pytest.mark.parametrize("num_samples", [1000, 1001])
def test_unit_power_on_average(color: str, num_samples: int) -> None:
    # An impulse of energy `num_samples` has the flat spectrum of white noise of unit power.
    impulse = np.zeros(num_samples)
    impulse[0] = np.sqrt(num_samples)
    assert np.mean(np.square(color_noise(impulse, color), dtype=np.float64)) == pytest.approx(
        1.0, abs=1e-5
    )


@pytest.mark.parametrize("color", ["pink", "brown", "blue", "violet"])
def test_no_constant_part(color: str) -> None:
    assert noise_amplitudes(100, color)[0] == 0.0
    noise = generate_noise(np.random.default_rng(1), 4000, color)
    assert abs(np.mean(noise, dtype=np.float64)) < 1e-6 * np.max(np.abs(noise))


def test_white_noise_stays_as_it_is() -> None:
    white = np.random.default_rng(2).standard_normal(999)
    np.testing.assert_allclose(color_noise(white, "white"), white, atol=1e-6)


def test_flat_below_a_frequency() -> None:
    weights = noise_amplitudes(NUM_SAMPLES, "brown", flat_below=0.01)
    corner = int(0.01 * NUM_SAMPLES)
    assert np.ptp(weights[1:corner]) == 0.0
    assert weights[10 * corner] / weights[corner] == pytest.approx(0.1, rel=1e-3)
    noise = generate_noise(np.random.default_rng(3), NUM_SAMPLES, "brown", flat_below=0.01)
    # Over fewer decades than above: measured 0.6 and 0.05.
    assert abs(measure_slope_db(noise, 2e-4, 0.009)) < 1.0
    assert abs(measure_slope_db(noise, 0.011, 0.4) + 20.0) < 0.5


def test_the_generator_decides_the_noise() -> None:
    first, again, other = (
        generate_noise(np.random.default_rng(seed), 100, "pink") for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("num_samples", [1, 2, 3])
@pytest.mark.parametrize("color", SLOPES_DB)
def test_shortest_noise_is_finite(num_samples: int, color: str) -> None:
    assert np.isfinite(generate_noise(np.random.default_rng(0), num_samples, color)).all()


def test_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="unknown noise colour 'red'"):
        noise_amplitudes(100, "red")
    with pytest.raises(ValueError, match="at least one sample"):
        noise_amplitudes(0, "white")
