"""Clips cut into segments; which of them are silent; how each is normalised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from esc_tf import frames
from esc_tf.config import SegmentsConfig


@dataclass(frozen=True)
class SegmentPlace:
    """Where a segment lies in its clip, and what its samples are divided by.

    Attributes:
        start: its first sample.
        num_samples: of the clip, from there on; fewer than a whole segment in a short clip.
        peak: the divisor that normalises it, above 0.
    """

    start: int
    num_samples: int
    peak: float

    def cut(self, waveform: np.ndarray) -> np.ndarray:
        """The normalised segment ``(num_samples,)`` of the clip's ``waveform``."""
        part = waveform[self.start : self.start + self.num_samples]
        return part if self.peak == 1.0 else part / np.float32(self.peak)


def find_segments(
    waveform: np.ndarray, config: SegmentsConfig, *, keep_loudest: bool = True
) -> list[SegmentPlace]:
    """Find the segments of a clip that are not silent.

    Segment ``i`` starts at sample ``i * hop_samples``; there are
    ``1 + (samples - num_samples) // hop_samples`` whole ones, or one that the clip does not fill.

    Args:
        waveform: the clip, float32 ``(samples,)``, one sample or more.
        config: their length, hop, level of silence and normalisation.
        keep_loudest: whether a clip with nothing but silent segments keeps its loudest one.

    >>> config = SegmentsConfig(num_samples=4, hop_samples=2, normalize_peak=None)
    >>> sound = np.array([0, 0, 0, 0, 0, 0, 1, -1, 1], np.float32)
    >>> [(place.start, place.num_samples) for place in find_segments(sound, config)]
    [(4, 4)]
    """
    length = config.num_samples
    count = max(frames.count_frames(len(waveform), length, config.hop_samples, center=False), 1)
    starts = config.hop_samples * np.arange(count)
    ends = np.minimum(starts + length, len(waveform))
    magnitudes = np.abs(waveform)
    clip_peak = float(magnitudes.max())
    energies = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    # Rounding in the sums may leave a trace of energy, of either sign, in digital silence.
    powers = np.maximum(energies[ends] - energies[starts], 0.0) / (ends - starts)
    kept = np.arange(count)
    if config.silence_db is not None:
        kept = np.flatnonzero(powers > 10.0 ** (config.silence_db / 10.0) * clip_peak**2)
    if not kept.size and keep_loudest:
        kept = np.array([powers.argmax()])

    def find_peak(start: int, end: int) -> float:
        if config.normalize_peak is None:
            return 1.0
        whole = config.normalize_peak == "clip"
        # Nothing makes digital silence louder.
        return (clip_peak if whole else float(magnitudes[start:end].max())) or 1.0

    return [
        SegmentPlace(start, end - start, find_peak(start, end))
        for start, end in zip(starts[kept].tolist(), ends[kept].tolist(), strict=True)
    ]
