"""What front ends of learned convolutions share."""

from __future__ import annotations

from typing import Any, TypeVar

import keras
import numpy as np
from keras import ops

from esc_tf import frames
from esc_tf.config import HeuriNetConfig, MSTNetConfig
from esc_tf.frontends.configured import ConfiguredFrontEnd

SettingsType = TypeVar("SettingsType", bound=HeuriNetConfig | MSTNetConfig)


class ConvolutionalFrontEnd(ConfiguredFrontEnd[SettingsType]):
    """Waveform → features by convolutions along time, in float32 whatever the dtype policy.

    The bands of the features are the channels of the last convolution. What lies beyond
    ``num_samples`` counts as silence.

    A subclass names the class of its settings and makes its layers.

    Args:
        sample_rate_hz: rate of the waveforms; the weights fit this one alone.
        name: name of the layer.
        trainable: whether training may change its weights.
        **settings: the fields of the class of settings (which documents them) but ``name``.

    Raises:
        ConfigError: a setting is unknown or wrong; all such are listed.
    """

    @property
    def stages(self) -> list[keras.layers.Layer]:
        """Convolutions and pools from input to output."""
        raise NotImplementedError

    def call(self, waveform: Any, num_samples: Any = None) -> Any:
        """Compute the features of a batch."""
        waveform = ops.cast(waveform, "float32")
        length = ops.shape(waveform)[1]
        if isinstance(length, int) and self._settings.count_frames(length) < 1:
            raise ValueError(
                f"{length} samples are fewer than one frame of {type(self).__name__} needs; use "
                "longer waveforms"
            )
        if num_samples is not None:
            positions = ops.arange(length, dtype="int32")[np.newaxis]
            is_valid = positions < ops.cast(num_samples, "int32")[:, np.newaxis]
            waveform = ops.where(is_valid, waveform, 0.0)
        x = waveform[..., np.newaxis]
        for stage in self.stages:
            x = stage(x)
        return x[..., np.newaxis]

    def compute_output_shape(
        self, waveform_shape: tuple[int | None, ...], num_samples_shape: Any = None
    ) -> tuple[int | None, ...]:
        """Shape of the features for a waveform of ``(batch, samples)``."""
        batch, num_samples = waveform_shape
        num_frames = None if num_samples is None else self._settings.count_frames(num_samples)
        return batch, num_frames, self._settings.filters[-1], 1

    def measure_stage_shapes(self, num_samples: int) -> dict[str, tuple[int, int]]:
        """Positions and channels behind each stage for a waveform."""
        shape: tuple[int, ...] = (1, num_samples, 1)
        shapes = {}
        for stage in self.stages:
            shape = stage.compute_output_shape(shape)
            shapes[stage.name] = (shape[1], shape[2])
        return shapes

    def measure_time_grid(self, num_samples: int) -> frames.TimeGrid:
        """Centre times of the frames of a waveform."""
        shapes = self.measure_stage_shapes(num_samples)
        first, step, length = 0.0, 1, num_samples  # in samples
        for stage in self.stages:
            window = getattr(stage, "pool_size", None) or stage.kernel_size
            stride, num_positions = stage.strides[0], shapes[stage.name][0]
            before = 0
            if stage.padding == "same":
                # As TensorFlow divides it: the odd one behind.
                before = max((num_positions - 1) * stride + window[0] - length, 0) // 2
            first += ((window[0] - 1) / 2 - before) * step
            step, length = step * stride, num_positions
        return frames.TimeGrid(first / self.sample_rate_hz, step / self.sample_rate_hz)


def build_convolution(
    channels: int, filters: int, kernel_size: int, name: str, **options: Any
) -> keras.layers.Conv1D:
    """A convolution along time with its weights, which start Glorot-uniform, biases at zero.

    Args:
        channels: of its input.
        filters: of its output.
        kernel_size: samples or frames under the kernel.
        name: name of the layer.
        **options: of ``keras.layers.Conv1D``.
    """
    layer = keras.layers.Conv1D(filters, kernel_size, name=name, dtype="float32", **options)
    layer.build((None, None, channels))
    return layer
