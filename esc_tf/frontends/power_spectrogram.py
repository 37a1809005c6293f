"""Interchangeable computations of the short-time power spectrum |X|².

All take a waveform that is padded already, whose frame ``i`` starts at sample
``i * hop_length``, and return float32 powers ``(batch, time, columns)`` of the bins asked for, or
of all; ``bins`` is the bin of each column, since an order of their own saves some a copy.

- ``RealFFT`` is the fastest within TensorFlow on CPUs.
- ``FactoredDFT`` is the fastest on TFLite, where it takes less than half of the FFT's time; it is
  made of small matrix products.
- ``DFTConvolution`` is made of one convolution, at any ``n_fft``; TFLite's FFT takes powers of two
  alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from esc_tf import frames

# Frames are put together from units of this many samples at least, since copying shorter ones
# costs more than copying a few samples too many.
_SMALLEST_UNIT = 32


def analysis_window(kind: str, win_length: int) -> np.ndarray:
    """Hann window in float64, of period ``win_length`` or (symmetric) ``win_length - 1``.

    >>> analysis_window("hann", 4).round(6).tolist()
    [0.0, 0.5, 1.0, 0.5]
    """
    period = win_length if kind == "hann" else win_length - 1
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(win_length) / max(period, 1))


def windowed_exponentials(window: np.ndarray, n_fft: int, num_bins: int) -> np.ndarray:
    """Kernels of a short-time transform: cosines of all bins, then their sines, float32.

    Args:
        window: float64 weights ``(win_length,)``.
        n_fft: length of the transform.
        num_bins: the lowest bins.

    Returns:
        ``(win_length, 2 * num_bins)``.
    """
    # Whole turns are taken off as integers: large angles would lose digits.
    turns = np.outer(np.arange(len(window)), np.arange(num_bins)) % n_fft
    angles = 2.0 * np.pi * turns / n_fft
    kernel = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * window[:, np.newaxis]
    return kernel.astype(np.float32)


@dataclass(frozen=True)
class Framing:
    """How frames are made of short units that neighbouring frames share.

    With units as long as the greatest common divisor of frame and hop length, the waveform is
    only viewed as ``(batch, units, unit)``, and every frame is a row of whole units.

    Args:
        frame_length: samples under one transform.
        hop_length: samples between the starts of two frames.
    """

    frame_length: int
    hop_length: int

    @property
    def unit(self) -> int:
        """Samples in a unit."""
        divisor = math.gcd(self.frame_length, self.hop_length)
        return divisor if divisor >= min(_SMALLEST_UNIT, self.hop_length) else self.hop_length

    @property
    def units_per_frame(self) -> int:
        """Units that hold one frame."""
        return -(-self.frame_length // self.unit)

    @property
    def units_per_hop(self) -> int:
        """Units between the starts of two frames."""
        return self.hop_length // self.unit

    @property
    def excess(self) -> int:
        """Samples by which the units of a frame are longer than the frame."""
        return self.units_per_frame * self.unit - self.frame_length

    def split_units(self, waveform: Any) -> Any:
        """View ``(batch, samples)`` as ``(batch, units, unit)``; the last frame is whole."""
        if self.excess:
            waveform = ops.pad(waveform, [[0, 0], [0, self.excess]])
        num_samples = ops.shape(waveform)[1]
        num_units = num_samples // self.unit
        return ops.reshape(waveform[:, : num_units * self.unit], (-1, num_units, self.unit))

    def gather_frames(self, waveform: Any) -> Any:
        """Copy ``(batch, samples)`` into frames ``(batch, time, frame_length)``."""
        num_frames = frames.count_frames(
            ops.shape(waveform)[1], self.frame_length, self.hop_length, center=False
        )
        within = np.arange(self.units_per_frame, dtype=np.int32)
        if isinstance(num_frames, int):
            starts = np.arange(num_frames, dtype=np.int32) * self.units_per_hop
        else:
            starts = ops.arange(num_frames, dtype="int32") * self.units_per_hop
        framed = ops.take(self.split_units(waveform), starts[:, np.newaxis] + within, axis=1)
        framed = ops.reshape(framed, (-1, num_frames, self.units_per_frame * self.unit))
        return framed[..., : self.frame_length] if self.excess else framed


class RealFFT:
    """|X|² by a real FFT.

    Args:
        n_fft: length of the transform.
        hop_length: samples between the starts of two frames.
        window: float64 weights of shape ``(win_length,)``, centred in ``n_fft``.
        num_bins: the lowest bins that are needed. All ``n_fft // 2 + 1`` are returned: leaving some
            out would be a copy of the others.
    """

    def __init__(self, n_fft: int, hop_length: int, window: np.ndarray, num_bins: int) -> None:
        self._n_fft = n_fft
        del num_bins
        self.bins = np.arange(n_fft // 2 + 1)
        self._framing = Framing(n_fft, hop_length)
        before = (n_fft - len(window)) // 2
        after = n_fft - len(window) - before
        self._window = np.pad(window, (before, after)).astype(np.float32)

    def __call__(self, waveform: Any) -> Any:
        """Map ``(batch, samples)`` to powers ``(batch, time, n_fft // 2 + 1)``."""
        real, imaginary = ops.rfft(
            self._framing.gather_frames(waveform) * self._window, fft_length=self._n_fft
        )
        return ops.square(real) + ops.square(imaginary)


class DFTConvolution:
    """|X|² by a convolution with windowed cosines and sines, computed in float64, kept in float32.

    The kernel is as long as the window, and its input channels are the samples of a unit, which
    is several times faster than a kernel that strides over single samples. On a GPU that rounds
    the factors of convolutions to TensorFloat-32, weak bands lose accuracy; switch that off or
    use ``RealFFT`` there.

    Args:
        n_fft: length of the transform.
        hop_length: samples between the starts of two frames.
        window: float64 weights of shape ``(win_length,)``, centred in ``n_fft``.
        num_bins: the lowest bins to return, at most ``n_fft // 2 + 1``.
    """

    def __init__(self, n_fft: int, hop_length: int, window: np.ndarray, num_bins: int) -> None:
        self._num_bins = num_bins
        self.bins = np.arange(num_bins)
        self._framing = Framing(len(window), hop_length)
        self._before = (n_fft - len(window)) // 2
        self._after = n_fft - len(window) - self._before
        kernel = windowed_exponentials(window, n_fft, num_bins)
        kernel = np.pad(kernel, ((0, self._framing.excess), (0, 0)))
        self._kernel = kernel.reshape(
            self._framing.units_per_frame, self._framing.unit, 2 * num_bins
        )

    def __call__(self, waveform: Any) -> Any:
        """Map ``(batch, samples)`` to powers ``(batch, time, num_bins)``."""
        if self._before or self._after:
            # The power does not depend on where in the transform the window lies, but on where
            # in the waveform.
            num_samples = ops.shape(waveform)[1]
            waveform = waveform[:, self._before : num_samples - self._after]
        spectrum = ops.conv(
            self._framing.split_units(waveform),
            ops.convert_to_tensor(self._kernel),
            strides=self._framing.units_per_hop,
            padding="valid",
            data_format="channels_last",
        )
        squares = ops.square(spectrum)
        return squares[..., : self._num_bins] + squares[..., self._num_bins :]


class FactoredDFT:
    """|X|² by two small matrix products, as in one step of Cooley and Tukey, in float32.

    With n_fft = rows · columns, x as a matrix ``x[a, b] = x[columns a + b]`` and the bin
    k = residue + rows · q::

        Y[b, residue] = Σ_a x[a, b] exp(-2πi a residue / rows)
        X[k] = Σ_b Y[b, residue] exp(-2πi b k / n_fft)

    The first sum is the same product for every b. In the second one the twiddle factors are part
    of the matrix, which is another for each residue. Residues above rows / 2 are mirror images
    for a real x, and those of 0 and of rows / 2 are real: they share one matrix. That is about
    100,000 multiplications a frame for n_fft 1024, where one matrix takes a million.

    The block ``j`` of ``rows / 2`` columns holds the bins from ``j · rows / 2`` on, each block in
    an order of its own. The bin at half the sample rate is left out: the slopes of mel bands end
    there at the latest, so it has no weight in them. On a GPU that rounds the factors of matrix
    products to TensorFloat-32, weak bands lose accuracy; switch that off or use ``RealFFT`` there.

    Args:
        n_fft: length of the transform, a multiple of 4.
        hop_length: samples between the starts of two frames.
        window: float64 weights of shape ``(win_length,)``, centred in ``n_fft``.
        num_bins: the lowest bins to return; a whole block more where they end inside it.

    Raises:
        ValueError: ``n_fft`` is not a multiple of 4.

    >>> FactoredDFT(64, 16, np.ones(64), 8).bins.tolist()
    [0, 1, 2, 3, 4, 7, 6, 5]
    """

    def __init__(self, n_fft: int, hop_length: int, window: np.ndarray, num_bins: int) -> None:
        rows, columns = factor_evenly(n_fft)
        self._before = (n_fft - len(window)) // 2
        self._after = n_fft - len(window) - self._before
        # The window may start anywhere in the transform, so rows of zeros are left out.
        num_rows = -(-len(window) // columns)
        self._framing = Framing(num_rows * columns, hop_length)
        self._missing = num_rows * columns - len(window)
        self._window = np.pad(window, (0, self._missing)).reshape(num_rows, columns)
        self._window = self._window.astype(np.float32)

        num_residues = rows // 2
        residues = np.arange(num_residues)
        num_blocks = min(-(-num_bins // num_residues), columns)
        blocks = np.arange(num_blocks)
        # Even blocks rise with the residue, odd ones are mirror images and fall.
        bins = rows * ((blocks + 1) // 2) + np.where(blocks % 2, -1, 1) * residues[:, np.newaxis]
        bins[0] = num_residues * blocks  # of the residues 0 and rows / 2 in turn
        self.bins = bins.T.reshape(-1)
        self._num_blocks = num_blocks

        # Whole turns are taken off as integers: large angles would lose digits.
        inner_turns = np.outer(np.arange(num_rows), residues) % rows
        inner = np.exp(-2j * np.pi * inner_turns / rows)
        parts = np.stack([inner.real, inner.imag], axis=1)
        parts[:, 1, 0] = 1.0 - 2.0 * (np.arange(num_rows) % 2)  # the residue rows / 2
        self._inner = parts.reshape(num_rows, rows).astype(np.float32)

        outer_turns = np.arange(columns)[:, np.newaxis] * bins[:, np.newaxis] % n_fft
        outer = np.exp(-2j * np.pi * outer_turns / n_fft)  # (residue, column, block)
        # The real parts of the mirrored Y are the same, the imaginary ones have the other sign.
        from_imaginary = 1j * np.where(blocks % 2, -1, 1) * outer
        from_real = outer.copy()
        from_real[0, :, 1::2] = 0.0
        from_imaginary[0] = np.where(blocks % 2, outer[0], 0.0)
        outer = np.stack([from_real, from_imaginary], axis=2)
        outer = outer.reshape(num_residues, 2 * columns, num_blocks)
        self._outer = (outer.real.astype(np.float32), outer.imag.astype(np.float32))

    def __call__(self, waveform: Any) -> Any:
        """Map ``(batch, samples)`` to powers ``(batch, time, columns)``."""
        num_samples = ops.shape(waveform)[1]
        if self._before or self._after:
            waveform = waveform[:, self._before : num_samples - self._after]
        if self._missing:
            waveform = ops.pad(waveform, [[0, 0], [0, self._missing]])
        framed = self._framing.gather_frames(waveform)
        num_frames = ops.shape(framed)[1]
        num_rows, columns = self._window.shape
        num_residues = len(self._outer[0])

        framed = ops.reshape(framed, (-1, num_rows, columns)) * self._window
        framed = ops.reshape(ops.transpose(framed, (0, 2, 1)), (-1, num_rows))
        inner = ops.reshape(ops.matmul(framed, self._inner), (-1, num_residues))
        # (frame, column, part, residue) → (residue, frame, column and part)
        inner = ops.reshape(ops.transpose(inner), (num_residues, -1, 2 * columns))
        real, imaginary = (ops.matmul(inner, matrix) for matrix in self._outer)
        power = ops.reshape(ops.square(real) + ops.square(imaginary), (num_residues, -1))
        power = ops.transpose(power)  # (frame and block, residue)
        return ops.reshape(power, (-1, num_frames, self._num_blocks * num_residues))


def factor_evenly(n_fft: int) -> tuple[int, int]:
    """Split into two even factors that are as near to each other as can be, the larger first.

    Raises:
        ValueError: ``n_fft`` is not a multiple of 4.

    >>> factor_evenly(1024), factor_evenly(2048), factor_evenly(1764)
    ((32, 32), (64, 32), (42, 42))
    """
    if n_fft < 4 or n_fft % 4:
        raise ValueError(f"n_fft {n_fft} is not a multiple of 4")
    half = next(a for a in range(math.isqrt(n_fft // 4), 0, -1) if (n_fft // 4) % a == 0)
    return n_fft // (2 * half), 2 * half


Computation = RealFFT | DFTConvolution | FactoredDFT

COMPUTATIONS: dict[str, type[Computation]] = {
    "rfft": RealFFT,
    "dft_conv": DFTConvolution,
    "factored_dft": FactoredDFT,
}
