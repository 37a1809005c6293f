"""Listening to what features stand for: each one's share of the spectrogram, as a mask.

A feature's share of every time and frequency, ``W[:, k] H[k] / W H``, says which part of a clip it
explains. Applied to the clip's own short-time transform it gives the sound of that part, with the
clip's own phases; the shares of all features sum to 1, and their sounds to the clip.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from esc_tf import frames
from esc_tf.config import LogMelConfig
from esc_tf.errors import RequestError
from esc_tf.frontends.power_spectrogram import analysis_window
from esc_tf.interpretation.divergences import check_nonnegative


@dataclass(frozen=True)
class ShortTimeTransform:
    """A short-time Fourier transform at a front end's frames, and its way back.

    Frames are added on both sides until every sample is under as many windows as in the middle,
    so that the inverse is exact to the clip's edges. Outside the clip there is silence.

    Args:
        n_fft: length of the transform in samples.
        hop_length: samples between the starts of two frames.
        win_length: length of the window, centred in ``n_fft``; None: ``n_fft``.
        window: ``hann`` (periodic) or ``hann_symmetric``.
        center: whether frame ``i`` is centred on sample ``i * hop_length``, or starts there.

    Raises:
        RequestError: the windows leave samples without weight, so that nothing gives them back.
    """

    n_fft: int
    hop_length: int
    win_length: int | None = None
    window: str = "hann"
    center: bool = True

    def __post_init__(self) -> None:
        window = self.padded_window
        whole = np.pad(window**2, (0, -self.n_fft % self.hop_length))
        weights = whole.reshape(-1, self.hop_length).sum(axis=0)
        if weights.min() < 1e-3 * weights.max():
            raise RequestError(
                f"a hop of {self.hop_length} samples is too long for windows of "
                f"{self.win_length or self.n_fft}: the sound between them cannot be rebuilt; "
                "use a front end with a shorter hop"
            )

    @classmethod
    def of_front_end(cls, settings: LogMelConfig) -> ShortTimeTransform:
        """The transform under a log-mel front end."""
        return cls(
            settings.n_fft,
            settings.hop_length,
            settings.win_length,
            settings.window,
            settings.center,
        )

    def count_frames(self, num_samples: int) -> int:
        """Frames that the front end has of a clip of so many samples, at least one."""
        return max(frames.count_frames(num_samples, self.n_fft, self.hop_length, self.center), 1)

    def filter(self, waveform: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Weigh a clip's time-frequency cells and transform back.

        Args:
            waveform: ``(samples,)``.
            mask: ``(n_fft // 2 + 1, frames)`` at the front end's frames; the frames that are added
                on either side take the nearest one's. A front end with pre-emphasis is one sample
                short, so the last frame may be missing.

        Returns:
            ``(samples,)`` of the waveform's type (at least float32).

        Raises:
            RequestError: the mask does not fit the clip.
        """
        waveform = np.asarray(waveform)
        num_samples, num_bins = len(waveform), self.n_fft // 2 + 1
        wanted = self.count_frames(num_samples)
        if mask.shape not in ((num_bins, wanted), (num_bins, max(wanted - 1, 1))):
            raise RequestError(
                f"the mask is {mask.shape[0]} bins × {mask.shape[1]} frames, but {num_samples} "
                f"samples have {num_bins} × {wanted}; use the clip that the activations are of"
            )
        # Sample at which the first frame starts, moved back by whole hops.
        first = -(self.n_fft // 2) if self.center else 0
        added = max(-(-(self.n_fft + first) // self.hop_length), 0)
        start = first - added * self.hop_length
        num_frames = 1 + (num_samples - 1 - start) // self.hop_length
        length = (num_frames - 1) * self.hop_length + self.n_fft
        padded = np.zeros(length, np.float64)
        padded[-start : num_samples - start] = waveform

        window = self.padded_window
        framed = np.lib.stride_tricks.sliding_window_view(padded, self.n_fft)[:: self.hop_length]
        spectrum = np.fft.rfft(framed * window, axis=1)
        nearest = np.clip(np.arange(num_frames) - added, 0, mask.shape[1] - 1)
        rebuilt = np.fft.irfft(spectrum * mask.T[nearest], self.n_fft, axis=1) * window
        total, weight = np.zeros(length), np.zeros(length)
        for index, frame in enumerate(rebuilt):
            place = slice(index * self.hop_length, index * self.hop_length + self.n_fft)
            total[place] += frame
            weight[place] += window**2
        inside = slice(-start, num_samples - start)
        result = total[inside] / weight[inside]
        return result.astype(np.result_type(waveform.dtype, np.float32), copy=False)

    @property
    def padded_window(self) -> np.ndarray:
        """The window, centred among ``n_fft`` samples."""
        window = analysis_window(self.window, self.win_length or self.n_fft)
        before = (self.n_fft - len(window)) // 2
        return np.pad(window, (before, self.n_fft - len(window) - before))


def compute_share(
    patterns: np.ndarray, activations: np.ndarray, chosen: int | Iterable[int]
) -> np.ndarray:
    """The part of W H that a feature, or a set of them, explains: from 0 to 1 in each cell.

    Where no feature explains anything all have equal parts, so that the shares of sets that make
    up all features sum to 1 everywhere.

    Args:
        patterns: W, ``(bins, rank)``, non-negative.
        activations: H, ``(rank, frames)``, non-negative.
        chosen: features, from 0.

    Returns:
        float64 ``(bins, frames)``.

    Raises:
        RequestError: W or H is negative, not finite or all zero; they do not fit each other;
            a feature is not there, or named twice.

    >>> patterns, activations = np.array([[1.0, 3.0]]), np.array([[1.0, 0.0], [1.0, 0.0]])
    >>> compute_share(patterns, activations, 1)
    array([[0.75, 0.5 ]])
    """
    patterns = check_nonnegative(patterns, "the matrix of patterns").astype(np.float64)
    activations = check_nonnegative(activations, "the matrix of activations").astype(np.float64)
    rank = len(activations)
    if patterns.shape[1] != rank:
        raise RequestError(f"there are {patterns.shape[1]} patterns for {rank} activations")
    features = [chosen] if isinstance(chosen, (int, np.integer)) else list(chosen)
    wrong = [feature for feature in features if not 0 <= feature < rank]
    if wrong:
        raise RequestError(f"there is no feature {wrong[0]}; they are numbered 0 to {rank - 1}")
    if len(set(features)) < len(features):
        raise RequestError("a feature is named twice; name each once")
    whole = patterns @ activations
    part = patterns[:, features] @ activations[features]
    equal = np.full_like(whole, len(features) / rank)
    return np.divide(part, whole, out=equal, where=whole > 0)


def spread_over_bins(mask: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """A mask of mel bands as one of FFT bins: each bin takes the mean of the bands over it.

    The mean is weighted as the bank is. Bins that no band reaches take the nearest bin's that one
    does, so masks that sum to 1 still do.

    Args:
        mask: ``(bands, frames)``.
        bank: mel filter bank ``(bins, bands)``.

    Returns:
        float64 ``(bins, frames)``.

    Raises:
        RequestError: the bank has other bands than the mask, or reaches no bin.
    """
    bank = np.asarray(bank, np.float64)
    if bank.shape[1] != len(mask):
        raise RequestError(f"the mask has {len(mask)} bands and the filter bank {bank.shape[1]}")
    reached = np.flatnonzero(bank.any(axis=1))
    if not reached.size:
        raise RequestError("the filter bank is zero everywhere")
    nearest = reached[np.abs(np.arange(len(bank))[:, np.newaxis] - reached).argmin(axis=1)]
    weights = bank[nearest]
    return (weights / weights.sum(axis=1, keepdims=True)) @ mask


def listen(
    waveform: np.ndarray,
    patterns: np.ndarray,
    activations: np.ndarray,
    chosen: int | Iterable[int],
    transform: ShortTimeTransform,
    bank: np.ndarray | None = None,
) -> np.ndarray:
    """Rebuild the sound that a feature, or a set of them, explains in a clip.

    Args:
        waveform: the clip, ``(samples,)``, at the front end's rate.
        patterns: W, ``(bands, rank)`` over mel bands, or ``(bins, rank)`` over FFT bins.
        activations: H of this clip, ``(rank, frames)``, at the front end's frames.
        chosen: features, from 0.
        transform: at the front end's frames.
        bank: the front end's mel filter bank ``(bins, bands)``; None: W is over FFT bins.

    Returns:
        ``(samples,)``. Those of sets that make up all features sum to the clip.

    Raises:
        RequestError: see ``compute_share``, ``spread_over_bins`` and ``ShortTimeTransform``.
    """
    mask = compute_share(patterns, activations, chosen)
    return transform.filter(waveform, mask if bank is None else spread_over_bins(mask, bank))
