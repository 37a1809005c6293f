"""A front end that begins as an exact log-mel spectrogram and may be trained away from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from esc_tf.config import MelInitConfig
from esc_tf.frontends.mel_front_end import MelFrontEnd
from esc_tf.frontends.power_spectrogram import Framing, windowed_exponentials


@keras.saving.register_keras_serializable(package="esc_tf")
class FilterPower(keras.layers.Layer):
    """Powers of complex filters: (x * real kernel)² + (x * imaginary kernel)².

    The sum of squares is smooth everywhere and its gradient at silence is 0, where that of a
    magnitude, its root, has none.

    Args:
        filter_length: samples under a kernel.
        hop_length: samples between the starts of two frames.
        num_filters: complex filters.

    Call arguments:
        waveform: ``(batch, samples)``.

    Returns:
        ``(batch, time, num_filters)``, with time = 1 + (samples - filter_length) // hop_length.
    """

    def __init__(
        self, filter_length: int, hop_length: int, num_filters: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.filter_length, self.hop_length = int(filter_length), int(hop_length)
        self.num_filters = int(num_filters)
        self._framing = Framing(self.filter_length, self.hop_length)

    def build(self, input_shape: Any = None) -> None:
        # One column for each kernel: first all real parts, then all imaginary ones.
        shape = (self.filter_length, 2 * self.num_filters)
        self.kernel = self.add_weight(shape=shape, initializer="glorot_uniform", name="kernel")
        self.built = True

    def call(self, waveform: Any) -> Any:
        framing = self._framing
        kernel = ops.convert_to_tensor(self.kernel)
        if framing.excess:
            kernel = ops.pad(kernel, [[0, framing.excess], [0, 0]])
        # A kernel whose input channels are the samples of a unit is several times faster than one
        # that strides over single samples.
        shape = (framing.units_per_frame, framing.unit, 2 * self.num_filters)
        filtered = ops.conv(
            framing.split_units(waveform),
            ops.reshape(kernel, shape),
            strides=framing.units_per_hop,
            padding="valid",
            data_format="channels_last",
        )
        squares = ops.square(filtered)
        return squares[..., : self.num_filters] + squares[..., self.num_filters :]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filter_length": self.filter_length,
            "hop_length": self.hop_length,
            "num_filters": self.num_filters,
        }


@keras.saving.register_keras_serializable(package="esc_tf")
class BandSum(keras.layers.Layer):
    """Sums of powers in bands, with weights that count as 0 where they are below.

    A band below zero has no logarithm, and a weight a little below zero on loud bins is enough to
    push a quiet band there. The gradient passes as if weights below zero counted, which they would
    not learn otherwise: nearly all of a mel bank begins at zero, and under a ReLU or an absolute
    value no band could ever grow wider.

    Args:
        num_bands: sums.
        limits: for each band the first bin that may count and the one behind the last; None: all
            bins may.

    Call arguments:
        powers: ``(batch, time, bins)``.

    Returns:
        ``(batch, time, num_bands)``, 0 or more.
    """

    def __init__(
        self, num_bands: int, limits: Sequence[Sequence[int]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_bands = int(num_bands)
        self.limits = None if limits is None else [[int(bin_) for bin_ in pair] for pair in limits]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (input_shape[-1], self.num_bands)
        self.kernel = self.add_weight(shape=shape, initializer="glorot_uniform", name="kernel")
        self._may_count: np.ndarray | float = 1.0
        if self.limits is not None:
            first, stop = np.array(self.limits).T
            bins = np.arange(self.kernel.shape[0])[:, np.newaxis]
            self._may_count = ((first <= bins) & (bins < stop)).astype(np.float32)
        self.built = True

    def call(self, powers: Any) -> Any:
        kernel = ops.convert_to_tensor(self.kernel) * self._may_count
        return ops.matmul(powers, kernel + ops.stop_gradient(ops.maximum(kernel, 0.0) - kernel))

    def read_bank(self) -> np.ndarray:
        """``(bins, num_bands)``: the weights that count, float32."""
        kernel = ops.convert_to_numpy(self.kernel) * self._may_count
        bank: np.ndarray = np.maximum(kernel, 0.0)
        return bank

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_bands": self.num_bands, "limits": self.limits}


def find_limits(bank: np.ndarray, reach: float) -> list[list[int]]:
    """The bins that each band spans, and ``reach`` times as many more on either side.

    Args:
        bank: ``(bins, bands)``.
        reach: 0 or more.

    Returns:
        For each band its first bin and the one behind its last; ``[0, 0]`` for an empty band.

    >>> find_limits(np.array([[0.0], [0.0], [0.5], [1.0], [0.0], [0.0]]), 0.5)
    [[1, 5]]
    """
    limits = []
    for weights in bank.T:
        used = np.flatnonzero(weights)
        if not used.size:
            limits.append([0, 0])
            continue
        margin = math.ceil(reach * (used[-1] + 1 - used[0]))
        first, stop = int(used[0]) - margin, int(used[-1]) + 1 + margin
        limits.append([max(first, 0), min(stop, len(weights))])
    return limits


@keras.saving.register_keras_serializable(package="esc_tf")
class MelInit(MelFrontEnd[MelInitConfig]):
    """Waveform → log-mel spectrogram whose kernels and bank are weights.

    features = normalise(compress(dft(x) · max(mel, 0))). ``dft`` begins as the windowed complex
    exponentials of all bins from 0 to half the rate, ``mel`` as the bank of triangles; neither has
    a bias. With the same settings the features then are those of ``LogMelSpectrogram``. See
    ``MelFrontEnd`` for clips of different lengths.

    Both stages need small steps: what a loud bin adds to a quiet band 80 dB below it weighs 10⁸
    times what the quiet bins do. The setting ``reach`` keeps such bins out of the bank.

    Sub-layers: ``dft`` (``FilterPower``), ``mel`` (``BandSum``). Those that the
    setting ``trained`` does not name are not trainable.

    Args:
        sample_rate_hz: rate of the waveforms.
        name: name of the layer.
        trainable: whether training may change any of it.
        **settings: the fields of ``MelInitConfig`` (which documents them) but ``name``.

    Call arguments:
        waveform: ``(batch, samples)``, full scale ±1.
        num_samples: optional int ``(batch,)``, valid samples at the start of each row.

    Returns:
        float32 features ``(batch, time, frequency, 1)``.

    Raises:
        ConfigError: a setting is unknown or wrong; all such are listed.
        ValueError: the waveform is shorter than one frame.

    Source: proposed in [Jüttner et al.]; measured agreement with the fixed mel in the tests.

    >>> layer = MelInit(22050, n_fft=1024, hop_length=512, n_mels=60, num_frames=41)
    >>> layer(keras.ops.zeros((1, 20992))).shape
    TensorShape([1, 41, 60, 1])
    >>> [weight.path for weight in layer.trainable_variables]
    ['dft/kernel', 'mel/kernel']
    """

    settings_class = MelInitConfig

    def __init__(self, sample_rate_hz: int, **settings: Any) -> None:
        super().__init__(sample_rate_hz, **settings)
        window, bank = self.build_window(), self.build_bank()
        n_fft = self.settings.n_fft
        # The power does not depend on where in the transform the window lies, but on where in the
        # waveform: so many samples before and behind it are not looked at.
        self._before = (n_fft - len(window)) // 2
        self._after = n_fft - len(window) - self._before
        self.dft = FilterPower(
            len(window), self.settings.hop_length, len(bank), name="dft", dtype="float32"
        )
        reach = self.settings.reach
        limits = None if reach is None else find_limits(bank, reach)
        self.mel = BandSum(bank.shape[1], limits, name="mel", dtype="float32")
        self.dft.build()
        self.mel.build((None, None, len(bank)))
        self.dft.set_weights([windowed_exponentials(window, n_fft, len(bank))])
        self.mel.set_weights([bank])
        self.dft.trainable = "dft" in self.settings.trained
        self.mel.trainable = "mel" in self.settings.trained

    def measure_stage_shapes(self, num_samples: int) -> dict[str, tuple[int, int]]:
        """Frames and channels behind each sub-layer for a waveform."""
        num_frames = self.settings.count_frames(num_samples)
        return {
            "dft": (num_frames, self.dft.num_filters),
            "mel": (num_frames, self.settings.n_mels),
        }

    def compute_mel(self, waveform: Any) -> Any:
        """Padded waveform ``(batch, samples)`` → mel powers ``(batch, time, n_mels)``."""
        if self._before or self._after:
            num_samples = ops.shape(waveform)[1]
            waveform = waveform[:, self._before : num_samples - self._after]
        return self.mel(self.dft(waveform))
