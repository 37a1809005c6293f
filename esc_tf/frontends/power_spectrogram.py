"""Two interchangeable computations of the short-time power spectrum |X|².

Both take a waveform that is padded already, whose frame ``i`` starts at sample
``i * hop_length``, and return float32 powers ``(batch, time, bins)`` of the bins asked for or of
all.
``RealFFT`` is the faster one on CPUs; ``DFTConvolution`` is made of one convolution, for devices
without an FFT or with one for powers of two alone, at any ``n_fft``.
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
        self._framing = Framing(len(window), hop_length)
        self._before = (n_fft - len(window)) // 2
        self._after = n_fft - len(window) - self._before
        # Whole turns are taken off as integers: large angles would lose digits.
        turns = np.outer(np.arange(len(window)), np.arange(num_bins)) % n_fft
        angles = 2.0 * np.pi * turns / n_fft
        kernel = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * window[:, np.newaxis]
        kernel = np.pad(kernel, ((0, self._framing.excess), (0, 0)))
        shape = (self._framing.units_per_frame, self._framing.unit, 2 * num_bins)
        self._kernel = kernel.reshape(shape).astype(np.float32)

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


COMPUTATIONS: dict[str, type[RealFFT] | type[DFTConvolution]] = {
    "rfft": RealFFT,
    "dft_conv": DFTConvolution,
}
