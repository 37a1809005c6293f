"""MSTNet: learned kernels as long as an analysis window, and two small layers on its frames."""

from __future__ import annotations

from typing import Any

import keras

from esc_tf.config import MSTNetConfig
from esc_tf.frontends.convolutional import ConvolutionalFrontEnd, build_convolution


@keras.saving.register_keras_serializable(package="esc_tf")
class MSTNet(ConvolutionalFrontEnd[MSTNetConfig]):
    """Waveform → features in (-1, 1): convolutions with ReLU, ReLU and tanh, all padded.

    With the defaults 524,800 + 393,472 + 46,140 = 964,412 parameters, and
    ``ceil(samples / hop_length)`` frames of 60 bands, 41 of 20,992 samples, where 256 zeros stand
    on both sides. Kernels start Glorot-uniform, biases at zero.

    Sub-layers: ``conv_1``, ``conv_2``, ``conv_3``.

    Args:
        sample_rate_hz: rate of the waveforms.
        name: name of the layer.
        trainable: whether training may change its weights.
        **settings: the fields of ``MSTNetConfig`` (which documents them) but ``name``.

    Call arguments:
        waveform: ``(batch, samples)``, full scale ±1.
        num_samples: optional int ``(batch,)``: samples beyond these count as silence.

    Returns:
        float32 features ``(batch, time, frequency, 1)``.

    Raises:
        ConfigError: a setting is unknown or wrong; all such are listed.

    Source: [Jüttner et al.].

    >>> MSTNet(22050)(keras.ops.zeros((1, 20992))).shape
    TensorShape([1, 41, 60, 1])
    """

    settings_class = MSTNetConfig

    def __init__(self, sample_rate_hz: int, **settings: Any) -> None:
        super().__init__(sample_rate_hz, **settings)
        channels = (1, *self.settings.filters[:-1])
        strides = (self.settings.hop_length, 1, 1)
        self.conv_1, self.conv_2, self.conv_3 = (
            build_convolution(
                channels[index],
                self.settings.filters[index],
                self.settings.kernel_sizes[index],
                f"conv_{index + 1}",
                strides=strides[index],
                padding="same",
                activation=activation,
            )
            for index, activation in enumerate(("relu", "relu", "tanh"))
        )

    @property
    def stages(self) -> list[keras.layers.Layer]:
        """Convolutions and pools from input to output."""
        return [self.conv_1, self.conv_2, self.conv_3]
