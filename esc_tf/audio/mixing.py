"""Mixing of a signal with noise at a signal-to-noise ratio."""

from __future__ import annotations

import numpy as np


def power(waveform: np.ndarray) -> float:
    """Mean square of the samples, accumulated in float64; 0 for no samples.

    >>> power(np.array([1.0, -1.0, 1.0, -1.0], np.float32))
    1.0
    """
    if waveform.size == 0:
        return 0.0
    return float(np.mean(np.square(np.asarray(waveform, np.float64))))


def mix_at_snr(signal: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add noise so that the powers of signal and added noise differ by ``snr_db``.

    mixture = signal + α · noise with α = sqrt(P_signal / P_noise · 10^(-snr_db / 10)).

    Args:
        signal: float samples of shape ``(samples,)``.
        noise: samples of the same shape, at any level.
        snr_db: signal-to-noise ratio in dB.

    Returns:
        float32 mixture. A silent signal has no signal-to-noise ratio, and silent noise cannot be
        scaled: the signal is then returned as it is.

    Raises:
        ValueError: the shapes differ, or a power or the ratio is not finite.
    """
    if signal.shape != noise.shape:
        raise ValueError(f"signal {signal.shape} and noise {noise.shape} must have one shape")
    signal_power, noise_power = power(signal), power(noise)
    if not np.isfinite([signal_power, noise_power, snr_db]).all():
        raise ValueError("signal, noise and snr_db must be finite")
    if signal_power == 0.0 or noise_power == 0.0:
        return np.asarray(signal, np.float32)
    scale = np.sqrt(signal_power / noise_power * 10.0 ** (-snr_db / 10.0))
    return (np.asarray(signal, np.float64) + scale * noise).astype(np.float32)
