"""All arithmetic between samples, frames and seconds. Nothing else in the package repeats it.

A frame ``i`` of a centred short-time transform is centred on sample ``i * hop_length``; of an
uncentred one it starts there. The functions take Python integers, NumPy arrays or tensors, since
they use ``+ - * //`` alone.
"""

from __future__ import annotations

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
