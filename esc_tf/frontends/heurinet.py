"""HeuriNet: short learned kernels and max-pools in place of a spectrogram."""

from __future__ import annotations

from typing import Any

import keras

from esc_tf.config import HeuriNetConfig
from esc_tf.frontends.convolutional import ConvolutionalFrontEnd, build_convolution


@keras.saving.register_keras_serializable(package="esc_tf")
class HeuriNet(ConvolutionalFrontEnd[HeuriNetConfig]):
    """Waveform → features: [convolution, ReLU, max-pool] twice, nothing padded.

    With the defaults 12,480 + 72,060 = 84,540 parameters, and 41 frames of 60 bands of 20,992
    samples: 2,084, 692, 170 and 41 positions. Kernels start Glorot-uniform, biases at zero.

    Sub-layers with weights: ``conv_1``, ``conv_2``.

    Args:
        sample_rate_hz: rate of the waveforms.
        name: name of the layer.
        trainable: whether training may change its weights.
        **settings: the fields of ``HeuriNetConfig`` (which documents them) but ``name``.

    Call arguments:
        waveform: ``(batch, samples)``, full scale ±1.
        num_samples: optional int ``(batch,)``: samples beyond these count as silence.

    Returns:
        float32 features ``(batch, time, frequency, 1)``.

    Raises:
        ConfigError: a setting is unknown or wrong; all such are listed.
        ValueError: the waveform is shorter than one frame.

    Source: [Jüttner et al.].

    >>> HeuriNet(22050)(keras.ops.zeros((1, 20992))).shape
    TensorShape([1, 41, 60, 1])
    """

    settings_class = HeuriNetConfig

    def __init__(self, sample_rate_hz: int, **settings: Any) -> None:
        super().__init__(sample_rate_hz, **settings)
        filters, sizes, strides = (
            self.settings.filters,
            self.settings.kernel_sizes,
            self.settings.strides,
        )
        self.conv_1 = build_convolution(
            1, filters[0], sizes[0], "conv_1", strides=strides[0], activation="relu"
        )
        self.conv_2 = build_convolution(
            filters[0], filters[1], sizes[1], "conv_2", strides=strides[1], activation="relu"
        )
        pools = zip(self.settings.pool_sizes, self.settings.pool_strides, strict=True)
        self.pool_1, self.pool_2 = (
            keras.layers.MaxPooling1D(size, stride, name=f"pool_{index}", dtype="float32")
            for index, (size, stride) in enumerate(pools, start=1)
        )

    @property
    def stages(self) -> list[keras.layers.Layer]:
        """Convolutions and pools from input to output."""
        return [self.conv_1, self.pool_1, self.conv_2, self.pool_2]
