"""All arithmetic between samples, frames and seconds. Nothing else in the package repeats it.

A frame ``i`` of a centred short-time transform is centred on sample ``i * hop_length``; of an
uncentred one it starts there. The functions take Python integers, NumPy arrays or tensors, since
they use ``+ - * //`` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


def count_samples(duration_s: float, sample_rate_hz: int) -> int:
    """Number of samples in ``duration_s`` seconds, rounded to the nearest sample.

    >>> count_samples(5.0, 44100)
    220500
    """
    return int(round(duration_s * sample_rate_hz))


def count_frames(num_samples: Any, frame_length: int, hop_length: int, center: bool) -> Any:
    """Number of whole frames of a short-time transform.

    ``1 + (samples + padding - frame_length) // hop_length`` with
    ``padding = 2 * (frame_length // 2)`` if ``center`` else 0.

    Args:
        num_samples: length of the waveform in samples; integer, array or tensor.
        frame_length: samples under one transform (``n_fft``).
        hop_length: samples between the starts of two frames.
        center: whether the waveform is padded by ``frame_length // 2`` on both sides.

    Returns:
        The number of frames, of the kind of ``num_samples``; 0 or less means: too short.

    >>> count_frames(220500, 2048, 512, center=True)
    431
    >>> count_frames(220500, 2048, 512, center=False)
    427
    """
    padding = 2 * (frame_length // 2) if center else 0
    return 1 + (num_samples + padding - frame_length) // hop_length


def frame_times_s(num_frames: int, hop_length: int, sample_rate_hz: int) -> list[float]:
    """Centre time in seconds of each frame of a centred transform."""
    return [index * hop_length / sample_rate_hz for index in range(num_frames)]


@dataclass(frozen=True)
class TimeGrid:
    """Where the frames of a feature map lie: frame ``i`` at ``first_s + i * step_s``.

    Args:
        first_s: centre of the first frame, in seconds from the start of the clip.
        step_s: seconds from frame to frame.

    >>> TimeGrid(0.5, 1.0).times_s(3)
    [0.5, 1.5, 2.5]
    """

    first_s: float
    step_s: float

    def times_s(self, num_frames: int) -> list[float]:
        """Centre time in seconds of each frame."""
        return [self.first_s + index * self.step_s for index in range(num_frames)]


@dataclass(frozen=True)
class BandGrid:
    """Where the bands of a feature map lie: band ``i`` at ``first + i * step``.

    Args:
        first: centre of the first band, in bands of the network's features, from 0.
        step: such bands from band to band.

    >>> BandGrid(0.5, 2.0).places(3)
    [0.5, 2.5, 4.5]
    """

    first: float
    step: float

    def places(self, num_bands: int) -> list[float]:
        """Centre of each band."""
        return [self.first + index * self.step for index in range(num_bands)]


def divide_evenly(num_frames: int, duration_s: float) -> TimeGrid:
    """The grid of frames that share a clip evenly, each at the middle of its share.

    >>> divide_evenly(5, 5.0)
    TimeGrid(first_s=0.5, step_s=1.0)
    """
    step_s = duration_s / num_frames
    return TimeGrid(first_s=step_s / 2, step_s=step_s)
