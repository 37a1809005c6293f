"""Sound files in memory."""

from __future__ import annotations

import io

import numpy as np
import soundfile


def tone(frequency_hz: float, duration_s: float, rate_hz: int, peak: float = 0.5) -> np.ndarray:
    times_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    return (peak * np.sin(2 * np.pi * frequency_hz * times_s)).astype(np.float32)


def encode(
    waveform: np.ndarray, rate_hz: int, container: str = "WAV", subtype: str | None = None
) -> bytes:
    """A file of samples ``(samples,)`` or ``(samples, channels)``."""
    file = io.BytesIO()
    soundfile.write(file, waveform, rate_hz, format=container, subtype=subtype)
    return file.getvalue()
