"""A decoded sound: samples and the rate they belong to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Clip:
    """A mono waveform together with its rate, so that the two cannot part.

    Args:
        waveform: float32 samples of shape ``(samples,)``, full scale ±1.
        sample_rate_hz: samples per second.

    >>> Clip(np.zeros(22050, np.float32), 44100).duration_s
    0.5
    """

    waveform: np.ndarray
    sample_rate_hz: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.waveform) / self.sample_rate_hz
