"""Coloured noise with exact spectral slopes."""

from __future__ import annotations

import numpy as np

# Power falls or rises with frequency to this exponent: 10 dB per decade for each unit.
POWER_EXPONENTS = {"white": 0.0, "pink": -1.0, "brown": -2.0, "blue": 1.0, "violet": 2.0}


def noise_amplitudes(num_samples: int, color: str, flat_below: float = 0.0) -> np.ndarray:
    """Amplitude weights that turn the spectrum of white noise into that of a colour.

    Power slopes in dB per decade: white 0, pink -10, brown -20, blue +10, violet +20. The
    constant (bin 0) is left out except for white. White noise of unit power keeps unit power on
    average. Brown noise has most of its power in the very lowest bins of a long clip, below
    anything audible; ``flat_below`` stops the rise towards low frequencies.

    Args:
        num_samples: length of the noise.
        color: a key of ``POWER_EXPONENTS``.
        flat_below: frequency in cycles per sample (Hz divided by the rate) below which the
            weights stay what they are there; 0: the slope holds down to bin 1.

    Returns:
        float32 weights of shape ``(num_samples // 2 + 1,)`` for the bins of a real FFT.

    Raises:
        ValueError: an unknown colour, or no samples.

    >>> noise_amplitudes(8, "white").tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    if color not in POWER_EXPONENTS:
        raise ValueError(f"unknown noise colour '{color}'; use one of {', '.join(POWER_EXPONENTS)}")
    if num_samples < 1:
        raise ValueError("noise needs at least one sample")
    exponent = POWER_EXPONENTS[color]
    if exponent == 0.0:
        return np.ones(num_samples // 2 + 1, np.float32)
    bins = np.arange(num_samples // 2 + 1, dtype=np.float64)
    weights = np.zeros_like(bins)
    weights[1:] = np.maximum(bins[1:], flat_below * num_samples) ** (exponent / 2)
    # In the spectrum of a real signal every bin counts twice, but for the first and, at an even
    # length, the last.
    counts = np.full_like(bins, 2.0)
    counts[0] = 1.0
    if num_samples % 2 == 0:
        counts[-1] = 1.0
    mean_power = np.sum(counts * weights**2) / num_samples
    return (weights / np.sqrt(mean_power or 1.0)).astype(np.float32)


def color_noise(white: np.ndarray, color: str, flat_below: float = 0.0) -> np.ndarray:
    """Give white noise a colour.

    Args:
        white: float samples of shape ``(..., samples)``.
        color: see ``noise_amplitudes``.
        flat_below: see ``noise_amplitudes``.

    Returns:
        float32 noise of the same shape.
    """
    num_samples = white.shape[-1]
    spectrum = np.fft.rfft(np.asarray(white, np.float64), axis=-1)
    weights = noise_amplitudes(num_samples, color, flat_below)
    return np.fft.irfft(spectrum * weights, n=num_samples, axis=-1).astype(np.float32)


def generate_noise(
    rng: np.random.Generator, num_samples: int, color: str, flat_below: float = 0.0
) -> np.ndarray:
    """Gaussian noise of a colour, with unit power on average.

    Args:
        rng: source of the randomness; the same state gives the same noise.
        num_samples: length.
        color: see ``noise_amplitudes``.
        flat_below: see ``noise_amplitudes``.

    Returns:
        float32 samples of shape ``(num_samples,)``.
    """
    return color_noise(rng.standard_normal(num_samples), color, flat_below)
