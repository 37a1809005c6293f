"""CNN10 of PANNs, and the plain baseline published beside TFNet."""

from __future__ import annotations

import keras
from keras import layers

from esc_tf.config import CNN10Config
from esc_tf.errors import ConfigError
from esc_tf.models.blocks import (
    BATCH_NORM_EPSILON,
    BATCH_NORM_MOMENTUM,
    AxisAverage,
    conv_block,
    find_size_problems,
)

_CONVS_PER_BLOCK = 2
_FREQUENCY_AXIS = 2


def build_cnn10(config: CNN10Config, feature_shape: tuple[int | None, int, int]) -> keras.Model:
    """Build the CNN10 backbone: blocks of two convolutions, each averaged down by two.

    ``input_bn`` normalises each mel band. Block ``i`` is ``conv_block`` with average pooling, and
    halves time and frequency (rounding down). Behind the last block: the mean over frequency; over
    time the maximum plus the mean, or the maximum; then dropout and a dense ReLU layer.

    With the defaults this is PANNs' network: 5,219,279 trainable parameters at 527 classes. With
    no input norm, the maximum alone, no dense layer and no dropout it is TFNet's baseline:
    4,711,794 at 50 classes (its files hold 262,656 more that it never uses).

    Batch norm has PyTorch's momentum and epsilon; weights start Glorot-uniform.

    Args:
        config: widths, input norm, pooling and dropout.
        feature_shape: ``(time, frequency, channel)`` of one clip. The model is built for any time;
            a known one is checked to be long enough.

    Returns:
        A functional model ``backbone``: features ``(batch, time, frequency, channel)`` → dict of
        ``block{i}`` (after its pool) and ``embedding`` ``(batch, units)``.

    Raises:
        ConfigError: the features are too small for so many halvings.

    Source: [Kong 2020], [Wang 2020] for the baseline; agrees with their implementations to 5.2e-7
    and 5.0e-7 (logits, relative L2, same weights and features).
    """
    problems = find_size_problems(len(config.block_filters), feature_shape)
    if problems:
        raise ConfigError(problems)

    # --- layers and graph
    features = keras.Input((None, *feature_shape[1:]), name="features")
    outputs = {}
    x = features
    if config.input_norm:
        x = layers.BatchNormalization(
            axis=_FREQUENCY_AXIS,
            momentum=BATCH_NORM_MOMENTUM,
            epsilon=BATCH_NORM_EPSILON,
            name="input_bn",
        )(x)
    for index, filters in enumerate(config.block_filters, start=1):
        x = conv_block(
            x,
            filters,
            _CONVS_PER_BLOCK,
            name=f"block{index}",
            pool="average",
            kernel_initializer="glorot_uniform",
        )
        outputs[f"block{index}"] = x
        if config.block_dropout:
            x = layers.Dropout(config.block_dropout, name=f"block{index}_dropout")(x)
    x = AxisAverage("frequency", name="embedding_bands")(x)
    loudest = layers.GlobalMaxPooling1D(name="embedding_max")(x)
    if config.time_pooling == "max_plus_mean":
        mean = layers.GlobalAveragePooling1D(name="embedding_mean")(x)
        x = layers.Add(name="embedding_sum")([loudest, mean])
    else:
        x = loudest
    if config.embedding_units is not None:
        if config.embedding_dropout:
            x = layers.Dropout(config.embedding_dropout, name="embedding_dropout")(x)
        x = layers.Dense(config.embedding_units, activation="relu", name="embedding_dense")(x)
    outputs["embedding"] = x

    return keras.Model(features, outputs, name="backbone")
