"""Heads: from what a backbone returns to logits. One function for each kind, in a table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import layers

from esc_tf.config import HeadConfig
from esc_tf.models.blocks import (
    BATCH_NORM_EPSILON,
    BATCH_NORM_MOMENTUM,
    AxisAverage,
    FusedBatchNormalization,
    HardSwish,
    MultiHeadAttentionPooling,
)
from esc_tf.models.precision import precision_scope
from esc_tf.registry import look_up

EMBEDDING = "embedding"
_FEATURE_MAP_RANK = 4


class Head(NamedTuple):
    """A row of ``HEADS``.

    Args:
        reads_embedding: whether it reads ``embedding`` ``(batch, units)``; if not, the last
            feature map ``(batch, time, frequency, channel)``.
        build: (symbolic input, options, number of classes, precision) → symbolic float32 logits
            ``(batch, classes)``.
    """

    reads_embedding: bool
    build: Callable[[Any, HeadConfig, int, str], Any]


def build_head(
    backbone: keras.Model, config: HeadConfig, num_classes: int, output: str, precision: str
) -> tuple[str, keras.Model]:
    """Build a head for a backbone.

    Args:
        backbone: functional model features → dict with ``embedding`` and named activations.
        config: kind and options.
        num_classes: how many logits.
        output: activation behind the logits, ``softmax`` or ``sigmoid``.
        precision: Keras policy of hidden layers. Logits and probabilities are float32 under any,
            and so is everything in the heads that read a feature map.

    Returns:
        The name of the backbone's output that the head reads, and a functional model ``head``:
        that output → dict of ``logits`` and ``probabilities``, ``(batch, classes)`` both.

    Raises:
        ValueError: the head reads a feature map and the backbone returns none.
    """
    head = look_up(HEADS, config.kind, "head")
    source = EMBEDDING if head.reads_embedding else _find_last_map(backbone)
    inputs = keras.Input(backbone.output[source].shape[1:], name="head_input")
    logits = head.build(inputs, config, num_classes, precision)
    probabilities = layers.Activation(output, dtype="float32", name="probabilities")(logits)
    outputs = {"logits": logits, "probabilities": probabilities}
    return source, keras.Model(inputs, outputs, name="head")


def _find_last_map(backbone: keras.Model) -> str:
    maps = [
        name for name, tensor in backbone.output.items() if len(tensor.shape) == _FEATURE_MAP_RANK
    ]
    if not maps:
        raise ValueError("this head reads a feature map, and the backbone returns none")
    return maps[-1]


def _build_mlp(embedding: Any, config: HeadConfig, num_classes: int, precision: str) -> Any:
    """Dense layers; dropout follows the first of them, or acts on the embedding.

    With ReLU, hidden layers start He-normal and logits Glorot-uniform; with hard-swish, all start
    normal with deviation 0.01, as in EfficientAT.
    """
    swish = config.activation == "hard_swish"
    x = embedding
    with precision_scope(precision):
        if not config.hidden_units and config.dropout:
            x = layers.Dropout(config.dropout, name="head_dropout")(x)
        for index, units in enumerate(config.hidden_units, start=1):
            x = layers.Dense(
                units,
                activation=None if swish else "relu",
                kernel_initializer=_narrow_normal() if swish else "he_normal",
                kernel_regularizer=_penalty(config),
                name=f"head_dense{index}",
            )(x)
            if swish:
                x = HardSwish(name=f"head_activation{index}")(x)
            if index == 1 and config.dropout:
                x = layers.Dropout(config.dropout, name="head_dropout")(x)
    return layers.Dense(
        num_classes,
        kernel_initializer=_narrow_normal() if swish else "glorot_uniform",
        kernel_regularizer=_penalty(config),
        dtype="float32",
        name="logits",
    )(x)


def _build_fully_convolutional(
    feature_map: Any, config: HeadConfig, num_classes: int, precision: str
) -> Any:
    """A 1 x 1 convolution to one channel a class, batch norm, the mean over all positions."""
    x = layers.Conv2D(
        num_classes,
        1,
        use_bias=False,
        kernel_initializer=keras.initializers.RandomNormal(stddev=math.sqrt(2.0 / num_classes)),
        dtype="float32",
        name="logits_conv",
    )(feature_map)
    x = FusedBatchNormalization(
        momentum=BATCH_NORM_MOMENTUM,
        epsilon=BATCH_NORM_EPSILON,
        dtype="float32",
        name="logits_bn",
    )(x)
    return layers.GlobalAveragePooling2D(dtype="float32", name="logits")(x)


def _build_attention(feature_map: Any, config: HeadConfig, num_classes: int, precision: str) -> Any:
    """The mean over frequency, a projection of each frame, attention over time."""
    x = AxisAverage("frequency", dtype="float32", name="attention_bands")(feature_map)
    x = layers.Dense(
        2 * config.num_heads * num_classes,
        kernel_initializer=_narrow_normal(),
        dtype="float32",
        name="attention_projection",
    )(x)
    x = MultiHeadAttentionPooling(config.num_heads, dtype="float32", name="attention_pooling")(x)
    return layers.Identity(dtype="float32", name="logits")(x)


def _narrow_normal() -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=0.01)


def _penalty(config: HeadConfig) -> keras.regularizers.Regularizer | None:
    return keras.regularizers.L2(config.kernel_l2) if config.kernel_l2 else None


HEADS = {
    "mlp": Head(True, _build_mlp),
    "fully_convolutional": Head(False, _build_fully_convolutional),
    "attention": Head(False, _build_attention),
}
