"""A small MobileNet meant to be distilled and quantised."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from esc_tf.config import MobileNetStudentConfig
from esc_tf.config.model import round_channels
from esc_tf.models.blocks import FusedBatchNormalization, HardSwish, squeeze_excite_mean
from esc_tf.registry import look_up

# A run on a small set has few steps, so the statistics must settle sooner than MobileNetV3's.
BATCH_NORM_MOMENTUM = 0.95
BATCH_NORM_EPSILON = 1e-3

_STEM_KERNEL = 3
_SQUEEZE_RATIO = 4

_ACTIVATIONS: dict[str, Callable[[str], Any]] = {
    "relu": lambda name: layers.ReLU(name=name),
    "relu6": lambda name: layers.ReLU(6.0, name=name),
    "hard_swish": lambda name: HardSwish(name=name),
}


@dataclass(frozen=True)
class StudentBlock:
    """One block: a plain convolution, or expansion, depthwise convolution and projection.

    Args:
        kernel: size of its spatial convolution along both axes.
        channels: of the input.
        plain: whether it is one plain convolution.
        expanded: channels that the depthwise convolution filters; a plain block has ``channels``.
        filters: channels of the output.
        squeeze_units: hidden units of the squeeze-excitation; None: there is none.
        stride: along both axes.
    """

    kernel: int
    channels: int
    plain: bool
    expanded: int
    filters: int
    squeeze_units: int | None
    stride: int

    @property
    def residual(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.channels == self.filters


def list_student_blocks(config: MobileNetStudentConfig) -> list[StudentBlock]:
    """The blocks of a configuration, in their order.

    Args:
        config: stages, width and options.
    """
    blocks = []
    channels = round_channels(config.stem_filters * config.width)
    stages = zip(config.block_filters, config.depths, config.strides, config.kernels, strict=True)
    for stage, (filters, depth, stride, kernel) in enumerate(stages):
        filters = round_channels(filters * config.width)
        is_plain = stage < config.plain_stages
        for index in range(depth):
            expanded = channels if is_plain else config.expansion * channels
            squeezes = config.squeeze_excitation and stage > 0 and not is_plain
            block = StudentBlock(
                kernel=kernel,
                channels=channels,
                plain=is_plain,
                expanded=expanded,
                filters=filters,
                squeeze_units=round_channels(expanded // _SQUEEZE_RATIO) if squeezes else None,
                stride=stride if index == 0 else 1,
            )
            blocks.append(block)
            channels = filters
    return blocks


def build_mobilenet_student(
    config: MobileNetStudentConfig, feature_shape: tuple[int | None, int, int]
) -> keras.Model:
    """Build the backbone: a stem, blocks, a last 1 x 1 convolution, the mean over all positions.

    A plain block is one ``k x k`` convolution, ``k^2 C F`` weights; a depthwise one expands ``C``
    to ``E = expansion C`` channels by a 1 x 1 convolution (not with ``expansion`` 1), filters each
    of them, ``E (C + k^2 + F)`` weights, and projects to ``F`` without an activation. The input is
    added where it has the output's shape. No convolution has a bias, all are followed by batch norm
    (momentum 0.95, epsilon 1e-3), and all are padded as TensorFlow's "same" does it, so that int8
    files need no layers for padding. With a stride of ``s`` in all and ``n`` frames or bins,
    ``ceil(n / s)`` are left.

    Convolutions start He-normal; depthwise ones normal with variance ``2 / k^2``.

    Args:
        config: stages, width and options.
        feature_shape: ``(time, frequency, channel)`` of one clip. The model is built for any time,
            whatever is given.

    Returns:
        A functional model ``backbone``: features ``(batch, time, frequency, channel)`` → dict of
        ``stem``, ``block1``…, before each block with squeeze-excitation ``se{i}`` (its expanded
        map, scaled), ``final``, and ``embedding`` ``(batch, units)``.

    Source: the blocks are those of Sandler et al. 2018 and Howard et al. 2019, plain convolutions
    where there are few channels as in Tan and Le 2021 (EfficientNetV2); sizes of our own.
    """
    # --- layers and graph
    features = keras.Input((None, *feature_shape[1:]), name="features")
    blocks = list_student_blocks(config)
    outputs = {}
    x = _convolve(features, blocks[0].channels, _STEM_KERNEL, name="stem_conv", stride=2)
    outputs["stem"] = x = _finish(x, config, name="stem")
    for index, block in enumerate(blocks, start=1):
        if block.plain:
            x = _plain_block(x, block, config, name=f"block{index}")
        else:
            x, scaled = _inverted_residual(x, block, config, index)
            if scaled is not None:
                outputs[f"se{index}"] = scaled
        outputs[f"block{index}"] = x
    x = _convolve(x, round_channels(config.embedding_units * config.width), 1, name="final_conv")
    outputs["final"] = x = _finish(x, config, name="final")
    outputs["embedding"] = layers.GlobalAveragePooling2D(name="embedding")(x)

    return keras.Model(features, outputs, name="backbone")


def _plain_block(
    inputs: Any, block: StudentBlock, config: MobileNetStudentConfig, name: str
) -> Any:
    x = _convolve(inputs, block.filters, block.kernel, f"{name}_conv", block.stride)
    x = _finish(x, config, name=name)
    return layers.Add(name=f"{name}_add")([x, inputs]) if block.residual else x


def _inverted_residual(
    inputs: Any, block: StudentBlock, config: MobileNetStudentConfig, index: int
) -> tuple[Any, Any]:
    """The block's output, and its scaled map or None."""
    x, scaled, name = inputs, None, f"block{index}"
    if block.expanded != block.channels:
        x = _convolve(x, block.expanded, 1, name=f"{name}_expand_conv")
        x = _finish(x, config, name=f"{name}_expand")
    x = layers.DepthwiseConv2D(
        block.kernel,
        strides=block.stride,
        padding="same",
        use_bias=False,
        depthwise_initializer=keras.initializers.RandomNormal(
            stddev=math.sqrt(2.0 / block.kernel**2)
        ),
        name=f"{name}_depthwise_conv",
    )(x)
    x = _finish(x, config, name=f"{name}_depthwise")
    if block.squeeze_units is not None:
        x = scaled = squeeze_excite_mean(x, block.squeeze_units, name=f"se{index}")
    x = _convolve(x, block.filters, 1, name=f"{name}_project_conv")
    x = _normalize(x, name=f"{name}_project_bn")
    if block.residual:
        x = layers.Add(name=f"{name}_add")([x, inputs])
    return x, scaled


def _convolve(x: Any, filters: int, kernel: int, name: str, stride: int = 1) -> Any:
    return layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)


def _finish(x: Any, config: MobileNetStudentConfig, name: str) -> Any:
    build_activation = look_up(_ACTIVATIONS, config.activation, "activation")
    return build_activation(f"{name}_activation")(_normalize(x, name=f"{name}_bn"))


def _normalize(x: Any, name: str) -> Any:
    return FusedBatchNormalization(
        momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, name=name
    )(x)
