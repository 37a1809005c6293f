"""TFNet: convolution blocks with attention over frequency and over time."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from esc_tf.config import TFNetConfig
from esc_tf.errors import ConfigError
from esc_tf.models.blocks import (
    BATCH_NORM_EPSILON,
    BATCH_NORM_MOMENTUM,
    AxisAverage,
    FusedBatchNormalization,
    WeightedFusion,
    find_size_problems,
)

_NEGATIVE_SLOPE = 0.2
_CONVS_PER_BLOCK = 2


def build_tfnet(config: TFNetConfig, feature_shape: tuple[int | None, int, int]) -> keras.Model:
    """Build the TFNet backbone: blocks that weigh frequencies and times, each averaged down by two.

    In block ``i`` two 3 x 3 convolutions, each followed by leaky ReLU (0.2) and then batch norm,
    give ``x``. One branch scales ``x`` by a gate for each band, the other by a gate for each
    frame: ``gate = sigmoid(mean over the other axis of norm(leaky(1 x 1 convolution to one
    channel)))``, and batch norm follows. The block's output is
    ``pool(leaky(a_0 x + a_1 frequency branch + a_2 time branch))`` with ``a = softmax(alpha)``;
    the pool halves time and frequency (rounding down). The embedding is the mean over frequency,
    then the maximum over time.

    With the defaults: 4,717,582 trainable parameters at 50 classes. The published files hold
    261,534 more that take no part in the result; among them are the only ones that tie the
    original to 250 frames of 40 bands, so that this one takes any.

    Batch norm has PyTorch's momentum and epsilon; weights start Glorot-uniform, about which
    nothing is published.

    Args:
        config: widths.
        feature_shape: ``(time, frequency, channel)`` of one clip. The model is built for any time;
            a known one is checked to be long enough.

    Returns:
        A functional model ``backbone``: features ``(batch, time, frequency, channel)`` → dict of
        ``frequency_attention{i}`` and ``time_attention{i}`` (the branches, as they go into the
        sum), ``block{i}`` (after its pool) and ``embedding`` ``(batch, units)``.

    Raises:
        ConfigError: the features are too small for so many halvings.

    Source: [Wang 2020], with whose implementation it agrees to 5.9e-7 (logits, relative L2, same
    weights and features).
    """
    problems = find_size_problems(len(config.block_filters), feature_shape)
    if problems:
        raise ConfigError(problems)

    # --- layers and graph
    features = keras.Input((None, *feature_shape[1:]), name="features")
    outputs = {}
    x = features
    for index, filters in enumerate(config.block_filters, start=1):
        name = f"block{index}"
        for conv in range(1, _CONVS_PER_BLOCK + 1):
            x = layers.Conv2D(
                filters, 3, padding="same", use_bias=False, name=f"{name}_conv{conv}"
            )(x)
            x = _leaky_relu(x, name=f"{name}_activation{conv}")
            x = _normalize(x, name=f"{name}_bn{conv}")
        branches = [x]
        for axis, other in (("frequency", "time"), ("time", "frequency")):
            branch = _attend(x, other, name=f"{axis}_attention{index}")
            outputs[f"{axis}_attention{index}"] = branch
            branches.append(branch)
        x = WeightedFusion(name=f"{name}_fusion")(branches)
        x = _leaky_relu(x, name=f"{name}_fusion_activation")
        outputs[name] = x = layers.AveragePooling2D(2, name=f"{name}_pool")(x)
    x = AxisAverage("frequency", name="embedding_bands")(x)
    outputs["embedding"] = layers.GlobalMaxPooling1D(name="embedding_max")(x)

    return keras.Model(features, outputs, name="backbone")


def _attend(x: Any, averaged_axis: str, name: str) -> Any:
    """Scale ``x`` along the axis that is not averaged, by one gate for all channels."""
    gate = layers.Conv2D(1, 1, use_bias=False, name=f"{name}_conv")(x)
    gate = _leaky_relu(gate, name=f"{name}_activation")
    gate = _normalize(gate, name=f"{name}_bn")
    gate = AxisAverage(averaged_axis, keepdims=True, name=f"{name}_mean")(gate)
    gate = layers.Activation("sigmoid", name=f"{name}_gate")(gate)
    return _normalize(layers.Multiply(name=f"{name}_scale")([x, gate]), name=f"{name}_out_bn")


def _leaky_relu(x: Any, name: str) -> Any:
    return layers.LeakyReLU(negative_slope=_NEGATIVE_SLOPE, name=name)(x)


def _normalize(x: Any, name: str) -> Any:
    return FusedBatchNormalization(
        momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, name=name
    )(x)
