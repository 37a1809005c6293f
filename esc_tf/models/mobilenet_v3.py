"""MobileNetV3-Large of any width, as EfficientAT trains it on AudioSet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from esc_tf.config import MobileNetV3Config
from esc_tf.config.model import round_channels
from esc_tf.models.blocks import FusedBatchNormalization, HardSwish, squeeze_excite_mean

BATCH_NORM_MOMENTUM = 0.99
BATCH_NORM_EPSILON = 1e-3

_STEM_CHANNELS = 16
_SQUEEZE_RATIO = 4
# kernel, expanded channels, output channels, squeeze-excitation, hard-swish instead of ReLU, and
# where the stride can be chosen its place in ``MobileNetV3Config.strides``; at width 1.
_BLOCKS = (
    (3, 16, 16, False, False, None),
    (3, 64, 24, False, False, 0),
    (3, 72, 24, False, False, None),
    (5, 72, 40, True, False, 1),
    (5, 120, 40, True, False, None),
    (5, 120, 40, True, False, None),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, None),
    (3, 184, 80, False, True, None),
    (3, 184, 80, False, True, None),
    (3, 480, 112, True, True, None),
    (3, 672, 112, True, True, None),
    (5, 672, 160, True, True, 3),
    (5, 960, 160, True, True, None),
    (5, 960, 160, True, True, None),
)
# The reduced tail halves the channels from C4 on, where these blocks (from 0) make them.
_TAIL_OUTPUTS, _TAIL_EXPANSIONS = (12, 13, 14), (13, 14)


@dataclass(frozen=True)
class InvertedResidual:
    """One block: expand by a 1 x 1 convolution, filter each channel, scale, project.

    Args:
        kernel: size of the depthwise convolution along both axes.
        channels: of the input.
        expanded: channels that are filtered; if they are as many as ``channels``, nothing expands.
        filters: channels of the output.
        squeeze_units: hidden units of the squeeze-excitation; None: there is none.
        hard_swish: activation; False: ReLU.
        stride: along both axes.
    """

    kernel: int
    channels: int
    expanded: int
    filters: int
    squeeze_units: int | None
    hard_swish: bool
    stride: int

    @property
    def residual(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.channels == self.filters


def list_inverted_residuals(config: MobileNetV3Config) -> list[InvertedResidual]:
    """The blocks of a configuration, in their order.

    Args:
        config: width, strides, tail and how many of the fifteen blocks.
    """
    blocks = []
    channels = round_channels(_STEM_CHANNELS * config.width)
    for index, (kernel, expanded, filters, squeezes, hard_swish, place) in enumerate(
        _BLOCKS[: config.num_blocks]
    ):
        if config.reduced_tail:
            expanded = expanded // 2 if index in _TAIL_EXPANSIONS else expanded
            filters = filters // 2 if index in _TAIL_OUTPUTS else filters
        expanded, filters = (
            round_channels(expanded * config.width),
            round_channels(filters * config.width),
        )
        block = InvertedResidual(
            kernel=kernel,
            channels=channels,
            expanded=expanded,
            filters=filters,
            squeeze_units=round_channels(expanded // _SQUEEZE_RATIO) if squeezes else None,
            hard_swish=hard_swish,
            stride=1 if place is None else config.strides[place],
        )
        blocks.append(block)
        channels = filters
    return blocks


def build_mobilenet_v3(
    config: MobileNetV3Config, feature_shape: tuple[int | None, int, int]
) -> keras.Model:
    """Build the MobileNetV3 backbone: a stem, fifteen inverted residuals, a last expansion.

    The stem is a 3 x 3 convolution of stride 2, the end a 1 x 1 convolution to six
    (``final_expansion``) times the last block's channels; both with hard-swish. The embedding is
    the mean over all positions. No convolution has a bias; each is zero-padded alike on both sides,
    also at stride 2, and followed by batch norm (momentum 0.99, epsilon 1e-3). With the strides as
    they are and ``n`` frames or bins, ``ceil(n / 32)`` are left.

    Trainable parameters with the published head at 527 and at 50 classes: width 0.4 983,599 and
    738,898; 0.5 1,431,239 and 1,125,482; 1.0 4,876,831 and 4,265,794; 2.0 17,909,287 and
    16,687,690; 4.0 68,427,303 and 65,984,586.

    Convolutions start normal with variance 2 / (kernel size x output channels), where a depthwise
    convolution counts all its channels as EfficientAT does; dense layers as
    ``squeeze_excite_mean`` says.

    Args:
        config: width, strides, tail, blocks and last expansion.
        feature_shape: ``(time, frequency, channel)`` of one clip. The model is built for any time,
            whatever is given.

    Returns:
        A functional model ``backbone``: features ``(batch, time, frequency, channel)`` → dict of
        ``stem``, ``block1`` to ``block15``, before each block with squeeze-excitation ``se{i}``
        (its expanded map, scaled), ``final``, and ``embedding`` ``(batch, units)``.

    Source: Howard et al. 2019; [Schmid 2023], with whose implementation it agrees to 1.9e-6
    (logits, relative L2, same weights and features).
    """
    # --- layers and graph
    features = keras.Input((None, *feature_shape[1:]), name="features")
    blocks = list_inverted_residuals(config)
    outputs = {}
    x = _pad(features, 3, name="stem_pad")
    x = _convolve(x, blocks[0].channels, 3, stride=2, name="stem_conv")
    outputs["stem"] = x = _finish(x, True, name="stem")
    for index, block in enumerate(blocks, start=1):
        x, scaled = _inverted_residual(x, block, index)
        if scaled is not None:
            outputs[f"se{index}"] = scaled
        outputs[f"block{index}"] = x
    x = _convolve(x, config.final_expansion * blocks[-1].filters, 1, name="final_conv")
    outputs["final"] = x = _finish(x, True, name="final")
    outputs["embedding"] = layers.GlobalAveragePooling2D(name="embedding")(x)

    return keras.Model(features, outputs, name="backbone")


def _inverted_residual(inputs: Any, block: InvertedResidual, index: int) -> tuple[Any, Any]:
    """The block's output, and its scaled map or None."""
    x, scaled, name = inputs, None, f"block{index}"
    if block.expanded != block.channels:
        x = _convolve(x, block.expanded, 1, name=f"{name}_expand_conv")
        x = _finish(x, block.hard_swish, name=f"{name}_expand")
    if block.stride > 1:
        x = _pad(x, block.kernel, name=f"{name}_depthwise_pad")
    x = layers.DepthwiseConv2D(
        block.kernel,
        strides=block.stride,
        padding="same" if block.stride == 1 else "valid",
        use_bias=False,
        depthwise_initializer=_fan_out_normal(block.kernel, block.expanded),
        name=f"{name}_depthwise_conv",
    )(x)
    x = _finish(x, block.hard_swish, name=f"{name}_depthwise")
    if block.squeeze_units is not None:
        x = scaled = squeeze_excite_mean(x, block.squeeze_units, name=f"se{index}")
    x = _convolve(x, block.filters, 1, name=f"{name}_project_conv")
    x = _normalize(x, name=f"{name}_project_bn")
    if block.residual:
        x = layers.Add(name=f"{name}_add")([x, inputs])
    return x, scaled


def _pad(x: Any, kernel: int, name: str) -> Any:
    """Zeros alike on both sides; "same" puts them at the end only where a stride leaves it so."""
    return layers.ZeroPadding2D((kernel - 1) // 2, name=name)(x)


def _convolve(x: Any, filters: int, kernel: int, name: str, stride: int = 1) -> Any:
    return layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        use_bias=False,
        kernel_initializer=_fan_out_normal(kernel, filters),
        name=name,
    )(x)


def _finish(x: Any, hard_swish: bool, name: str) -> Any:
    activation = HardSwish if hard_swish else layers.ReLU
    return activation(name=f"{name}_activation")(_normalize(x, name=f"{name}_bn"))


def _normalize(x: Any, name: str) -> Any:
    return FusedBatchNormalization(
        momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, name=name
    )(x)


def _fan_out_normal(kernel: int, filters: int) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=math.sqrt(2.0 / (kernel**2 * filters)))
