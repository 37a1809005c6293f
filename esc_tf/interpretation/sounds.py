"""Sounds of hidden features in the clips of a reading, and the files they are written to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile

from esc_tf.files import write_atomically
from esc_tf.frontends.mel_front_end import build_bank
from esc_tf.interpretation.listening import ShortTimeTransform, listen
from esc_tf.interpretation.reading import Reading

# The largest sample that 16 bits hold, full scale 1.
LARGEST_SAMPLE = 32767 / 32768


@dataclass(frozen=True)
class ClipFeatures:
    """One clip, and the features of one layer as one method explains them.

    Args:
        reading: what was read.
        clip_row: the clip.
        layer: of the reading.
        method: of the reading.

    Raises:
        UnknownNameError: while used: no such layer or method.
        RequestError: while used: a file of the reading is missing or damaged.
        AudioError: while used: the clip's audio is not there any more.
    """

    reading: Reading
    clip_row: int
    layer: str
    method: str

    @cached_property
    def waveform(self) -> np.ndarray:
        """The clip as the model heard it, float32 ``(samples,)``."""
        return self.reading.waveform(self.clip_row)

    @cached_property
    def filters(self) -> np.ndarray:
        """W, ``(bins, K)``."""
        return self.reading.filters(self.layer, self.method)

    @cached_property
    def activations(self) -> np.ndarray:
        """H, ``(K, frames)``."""
        return np.asarray(self.reading.activations(self.layer)[self.clip_row])

    @property
    def shares(self) -> np.ndarray:
        """How much of the reconstruction W H each feature makes up, ``(K,)``; sums to 1, or to 0.

        That is the sum of ``W[:, k] H[k]`` over all frequencies and times, by the sum of W H.
        """
        amounts = self.filters.sum(axis=0, dtype=np.float64) * self.activations.sum(
            axis=1, dtype=np.float64
        )
        return amounts / (amounts.sum() or 1.0)

    def rebuild(self, chosen: int | Iterable[int]) -> np.ndarray:
        """The sound that a feature, or a set of them, explains: float32 ``(samples,)``.

        Its level is that in the clip; the sounds of sets that make up all features sum to it.

        Raises:
            RequestError: no such feature, or one that is named twice.
        """
        return listen(
            self.waveform, self.filters, self.activations, chosen, self._transform, self._bank
        )

    @cached_property
    def _transform(self) -> ShortTimeTransform:
        return ShortTimeTransform.of_front_end(self.reading.front_end)

    @cached_property
    def _bank(self) -> np.ndarray:
        return build_bank(self.reading.front_end, self.reading.sample_rate_hz)


def choose_gain(peaks: Sequence[float]) -> float:
    """The largest gain up to 1 with which no sound of these peaks clips; the same for all.

    >>> choose_gain([0.5, 0.25])
    1.0
    >>> choose_gain([2.0, 0.25]) == LARGEST_SAMPLE / 2
    True
    """
    return min(1.0, LARGEST_SAMPLE / max([*peaks, LARGEST_SAMPLE]))


def find_peak(waveform: np.ndarray) -> float:
    """The largest absolute value; 0 of no samples."""
    return float(np.abs(waveform).max(initial=0.0))


def compute_level_db(part: np.ndarray, whole: np.ndarray) -> float | None:
    """Energy of a part relative to that of the whole clip, in dB; None where either is silent."""
    energies = [np.square(waveform, dtype=np.float64).sum() for waveform in (part, whole)]
    return None if min(energies) == 0.0 else float(10.0 * np.log10(energies[0] / energies[1]))


def write_wav(path: Path, waveform: np.ndarray, sample_rate_hz: int) -> None:
    """Write 16-bit PCM, mono, whole or not at all.

    Args:
        path: the file, replaced if it is there.
        waveform: ``(samples,)``, full scale 1.
        sample_rate_hz: its rate.

    Raises:
        ValueError: it would clip, or is not finite; a gain from ``choose_gain`` prevents that.
        OSError: it cannot be written.
    """
    waveform = np.asarray(waveform)
    peak = find_peak(waveform)
    if not peak <= 1.0:
        raise ValueError(f"a peak of {peak:g} would clip")
    # Rounded here: libsndfile cuts digits off.
    steps = np.clip(np.round(waveform * 32768.0), -32768, 32767).astype(np.int16)
    write_atomically(
        path,
        lambda file: soundfile.write(file, steps, sample_rate_hz, "PCM_16", format="WAV"),
        must_survive_power_loss=False,
    )
