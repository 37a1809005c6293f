"""What the weights of a learned front end hear: spectra of kernels, curves of bands, answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np

from esc_tf.frontends import FilterPower, MelInit, list_sublayers

# Kernels are padded with zeros to so many samples at least, so that short ones have smooth spectra.
_NUM_POINTS = 4096
_TONES_AT_ONCE = 32


@dataclass(frozen=True)
class KernelBank:
    """The kernels that meet the waveform.

    Attributes:
        kernels: ``(kernels, samples)``, float64; complex where a kernel has a real and an imaginary
            part, whose powers are summed.
        sample_rate_hz: of the waveform.
    """

    kernels: np.ndarray
    sample_rate_hz: int

    @cached_property
    def frequencies_hz(self) -> np.ndarray:
        """``(frequencies,)`` from 0 to half the rate."""
        return np.fft.rfftfreq(self._num_points, 1.0 / self.sample_rate_hz)

    @cached_property
    def responses(self) -> np.ndarray:
        """``(kernels, frequencies)``: magnitude of each kernel's answer to a tone of amplitude 1.

        sqrt(|R(f)|² + |I(f)|²) of a complex kernel, with the transforms of its parts.
        """
        parts = [self.kernels.real]
        if np.iscomplexobj(self.kernels):
            parts.append(self.kernels.imag)
        powers = sum(np.abs(np.fft.rfft(part, self._num_points)) ** 2 for part in parts)
        return np.sqrt(powers)

    @cached_property
    def dominant_hz(self) -> np.ndarray:
        """``(kernels,)``: the frequency that each answers to most; NaN for a kernel of zeros."""
        loudest = self.frequencies_hz[self.responses.argmax(axis=1)]
        return np.where(self.responses.any(axis=1), loudest, np.nan)

    @cached_property
    def order(self) -> np.ndarray:
        """``(kernels,)``: the kernels from the lowest dominant frequency to the highest."""
        return np.argsort(self.dominant_hz, kind="stable")

    @property
    def _num_points(self) -> int:
        return max(_NUM_POINTS, 1 << (self.kernels.shape[1] - 1).bit_length())


def read_kernels(front_end: keras.layers.Layer) -> KernelBank:
    """The first layer's kernels.

    Args:
        front_end: one with weights.

    Raises:
        ValueError: it has none.
    """
    stages = list_sublayers(front_end)
    if not stages:
        raise ValueError(f"{type(front_end).__name__} has no kernels")
    first = stages[0]
    kernel = keras.ops.convert_to_numpy(first.kernel).astype(np.float64)
    if isinstance(first, FilterPower):
        real, imaginary = np.split(kernel, 2, axis=1)
        return KernelBank((real + 1j * imaginary).T, front_end.sample_rate_hz)
    # Keras' convolutions do not turn their kernels round.
    return KernelBank(kernel[:, 0].T, front_end.sample_rate_hz)


def build_start(front_end: MelInit) -> MelInit:
    """The front end as it was before any training."""
    start: MelInit = MelInit.from_config(front_end.get_config())
    return start


def compare_kernels(learned: KernelBank, start: KernelBank) -> dict[str, np.ndarray]:
    """How far each kernel has moved.

    Returns:
        ``(kernels,)`` each: ``relative_change`` ‖k - k₀‖ / ‖k₀‖ (NaN where k₀ is zero) and
        ``dominant_shift_hz``.
    """
    norms = np.linalg.norm(start.kernels, axis=1)
    change = np.linalg.norm(learned.kernels - start.kernels, axis=1)
    relative = np.divide(change, norms, out=np.full(len(norms), np.nan), where=norms > 0.0)
    return {
        "relative_change": relative,
        "dominant_shift_hz": learned.dominant_hz - start.dominant_hz,
    }


def compute_mel_curves(front_end: MelInit) -> np.ndarray:
    """``(bands, frequencies)``: what a tone's power is in each band, through both stages.

    Band b answers Σ_k mel[k, b] |kernel_k(f)|², at the frequencies of its `KernelBank`.
    """
    bank = front_end.mel.read_bank().astype(np.float64)
    curves: np.ndarray = bank.T @ read_kernels(front_end).responses ** 2
    return curves


def measure_bands(curves: np.ndarray, frequencies_hz: np.ndarray) -> dict[str, np.ndarray]:
    """Where each band's curve lies.

    Args:
        curves: ``(bands, frequencies)``.
        frequencies_hz: of the columns.

    Returns:
        ``(bands,)`` each, in Hz: ``peak_hz``; ``centre_hz``, the mean frequency weighed by the
        squared curve, so that a low floor far away counts little; ``width_hz``, the standard
        deviation around it. NaN where a curve is nowhere above zero.
    """
    above = np.maximum(curves, 0.0)
    weights = above**2
    total = weights.sum(axis=1)
    heard = total > 0.0
    scale = np.where(heard, total, 1.0)
    centre = weights @ frequencies_hz / scale
    spread = weights * (frequencies_hz - centre[:, np.newaxis]) ** 2
    width = np.sqrt(spread.sum(axis=1) / scale)
    peak = frequencies_hz[above.argmax(axis=1)]
    return {
        "peak_hz": np.where(heard, peak, np.nan),
        "centre_hz": np.where(heard, centre, np.nan),
        "width_hz": np.where(heard, width, np.nan),
    }


def compare_bands(learned: MelInit, start: MelInit) -> dict[str, np.ndarray]:
    """How far each band has moved.

    Returns:
        ``(bands,)`` each: ``measure_bands`` of both, the start's as ``start_…``;
        ``centre_shift_hz``; ``relative_change`` ‖c - c₀‖ / ‖c₀‖ of the curves;
        ``bank_relative_change``, the same of the bank's weights alone; ``outside_share``, what
        of the band's weights lies on bins that had none at the start.
    """
    frequencies_hz = read_kernels(learned).frequencies_hz
    curves, start_curves = compute_mel_curves(learned), compute_mel_curves(start)
    measured, before = (measure_bands(item, frequencies_hz) for item in (curves, start_curves))
    bank, start_bank = (item.mel.read_bank().astype(np.float64) for item in (learned, start))
    outside = np.where(start_bank > 0.0, 0.0, bank)
    return {
        **measured,
        **{f"start_{name}": values for name, values in before.items()},
        "centre_shift_hz": measured["centre_hz"] - before["centre_hz"],
        "relative_change": _relative_change(curves, start_curves, axis=1),
        "bank_relative_change": _relative_change(bank, start_bank, axis=0),
        "outside_share": _divide(outside.sum(axis=0), bank.sum(axis=0)),
    }


def _relative_change(values: np.ndarray, start: np.ndarray, axis: int) -> np.ndarray:
    change = np.linalg.norm(values - start, axis=axis)
    return _divide(change, np.linalg.norm(start, axis=axis))


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    empty = np.full(len(numerator), np.nan)
    return np.divide(numerator, denominator, out=empty, where=denominator > 0.0)


def measure_tone_answers(
    front_end: Any, frequencies_hz: np.ndarray, num_samples: int, amplitude: float = 0.5
) -> np.ndarray:
    """``(bands, tones)``: the mean over time of each band while one tone sounds.

    Args:
        front_end: any.
        frequencies_hz: of the tones.
        num_samples: how long each sounds.
        amplitude: of each; full scale is 1.
    """
    times_s = np.arange(num_samples) / front_end.sample_rate_hz
    means = []
    for first in range(0, len(frequencies_hz), _TONES_AT_ONCE):
        chosen = frequencies_hz[first : first + _TONES_AT_ONCE, np.newaxis]
        tones = amplitude * np.sin(2.0 * np.pi * chosen * times_s)
        features = keras.ops.convert_to_numpy(front_end(tones.astype(np.float32)))
        means.append(features[..., 0].mean(axis=1))
    return np.concatenate(means).T


def choose_tones(sample_rate_hz: int, num_tones: int = 128) -> np.ndarray:
    """``(tones,)`` frequencies in Hz, evenly spaced on a logarithmic scale from 40 Hz.

    >>> choose_tones(16000, 3).round().tolist()
    [40.0, 551.0, 7600.0]
    """
    return np.geomspace(40.0, 0.475 * sample_rate_hz, num_tones)
