"""Mel filter banks as matrices from FFT bins to mel bands."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np


def mel_filterbank(
    sample_rate_hz: int,
    n_fft: int,
    n_mels: int,
    fmin_hz: float = 0.0,
    fmax_hz: float | None = None,
    scale: Literal["slaney", "htk", "kaldi"] = "slaney",
    norm: Literal["slaney"] | None = "slaney",
) -> np.ndarray:
    """Triangular filters, equally spaced on a mel scale.

    ``slaney`` and ``htk`` draw the triangles over frequency in Hz. ``kaldi`` spaces them by
    mel(f) = 1127 ln(1 + f / 700), draws them over mel, and gives the bin at half the rate no
    weight.

    Args:
        sample_rate_hz: rate of the waveform.
        n_fft: length of the transform in samples.
        n_mels: number of bands.
        fmin_hz: lower edge of the lowest band.
        fmax_hz: upper edge of the highest band; None: half the rate.
        scale: the mel scale, see above.
        norm: ``slaney`` divides each triangle by half its width in Hz; None leaves peaks of 1.

    Returns:
        float32 matrix of shape ``(n_fft // 2 + 1, n_mels)``, read-only.

    Raises:
        ValueError: the band does not lie between 0 and half the rate.

    Source: librosa 0.11 ``filters.mel`` for ``slaney`` and ``htk`` (used as it is); Kaldi's
    ``compute-fbank-feats`` for ``kaldi``, relative difference from PaSST's and
    EfficientAT's float32 tables 7e-6.

    >>> mel_filterbank(44100, 2048, 128, 20.0).shape
    (1025, 128)
    """
    top_hz = sample_rate_hz / 2 if fmax_hz is None else fmax_hz
    if not 0 <= fmin_hz < top_hz <= sample_rate_hz / 2:
        raise ValueError(
            f"the band from {fmin_hz:g} to {top_hz:g} Hz must rise and lie between 0 and "
            f"{sample_rate_hz / 2:g} Hz, half the sample rate"
        )
    if scale not in ("slaney", "htk", "kaldi"):
        raise ValueError(f"unknown mel scale '{scale}'; use slaney, htk or kaldi")
    return _cached_filterbank(sample_rate_hz, n_fft, n_mels, fmin_hz, top_hz, scale, norm)


def mel_band_centres_hz(
    sample_rate_hz: int,
    n_mels: int,
    fmin_hz: float = 0.0,
    fmax_hz: float | None = None,
    scale: Literal["slaney", "htk", "kaldi"] = "slaney",
) -> np.ndarray:
    """The frequency at the peak of each triangle of ``mel_filterbank``, rising.

    Returns:
        float64 ``(n_mels,)``; also of bands so narrow that no bin lies in them.

    >>> mel_band_centres_hz(8000, 3, scale="kaldi").round().tolist()
    [427.0, 1114.0, 2220.0]
    """
    top_hz = sample_rate_hz / 2 if fmax_hz is None else fmax_hz
    if scale == "kaldi":
        edges = np.linspace(_to_kaldi_mel(fmin_hz), _to_kaldi_mel(top_hz), n_mels + 2)
        return 700.0 * np.expm1(edges[1:-1] / 1127.0)
    import librosa

    return librosa.mel_frequencies(n_mels + 2, fmin=fmin_hz, fmax=top_hz, htk=scale == "htk")[1:-1]


def _to_kaldi_mel(frequency_hz: np.ndarray | float) -> np.ndarray:
    return 1127.0 * np.log1p(np.asarray(frequency_hz, np.float64) / 700.0)


@functools.lru_cache(maxsize=32)
def _cached_filterbank(
    sample_rate_hz: int,
    n_fft: int,
    n_mels: int,
    fmin_hz: float,
    fmax_hz: float,
    scale: str,
    norm: Literal["slaney"] | None,
) -> np.ndarray:
    if scale == "kaldi":
        bank = _kaldi_filterbank(sample_rate_hz, n_fft, n_mels, fmin_hz, fmax_hz, norm)
    else:
        import librosa  # here, since it takes a second that most of the package does not need

        bank = librosa.filters.mel(
            sr=sample_rate_hz,
            n_fft=n_fft,
            n_mels=n_mels,
            fmin=fmin_hz,
            fmax=fmax_hz,
            htk=scale == "htk",
            norm=norm,
            dtype=np.float32,
        ).T
    bank = np.ascontiguousarray(bank, dtype=np.float32)
    bank.setflags(write=False)
    return bank


def _kaldi_filterbank(
    sample_rate_hz: int,
    n_fft: int,
    n_mels: int,
    fmin_hz: float,
    fmax_hz: float,
    norm: str | None,
) -> np.ndarray:
    edges = np.linspace(_to_kaldi_mel(fmin_hz), _to_kaldi_mel(fmax_hz), n_mels + 2)
    lower, peak, upper = edges[:-2], edges[1:-1], edges[2:]
    bins = _to_kaldi_mel(np.arange(n_fft // 2 + 1) * sample_rate_hz / n_fft)[:, np.newaxis]
    rising, falling = (bins - lower) / (peak - lower), (upper - bins) / (upper - peak)
    bank = np.maximum(0.0, np.minimum(rising, falling))
    if n_fft % 2 == 0:
        bank[-1] = 0.0
    if norm == "slaney":
        edges_hz = 700.0 * np.expm1(edges / 1127.0)
        bank *= 2.0 / (edges_hz[2:] - edges_hz[:-2])
    return bank
