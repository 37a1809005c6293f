"""PiczakNet: two convolutions over nearly all bands, two wide dense layers."""

from __future__ import annotations

import keras
from keras import layers

from esc_tf.config import PiczakNetConfig
from esc_tf.errors import ConfigError
from esc_tf.models.blocks import DeltaChannel

# (time, frequency) of each window; the published order is the other one.
_CONV1_KERNEL = (6, 57)
_POOL1_SIZE, _POOL1_STRIDES = (3, 4), (3, 1)
_CONV2_KERNEL = (3, 1)
_POOL2_SIZE = (3, 1)


def build_piczak_net(
    config: PiczakNetConfig, feature_shape: tuple[int | None, int, int]
) -> keras.Model:
    """Build the PiczakNet backbone.

    A convolution of 57 bands by 6 frames, ReLU, the maximum of 4 bands by 3 frames in steps of 1 by
    3, dropout; a convolution of 1 by 3, ReLU, the maximum of 1 by 3 in steps of 1 by 3; two dense
    ReLU layers with dropout between them. Nothing is padded. The second dense layer is the
    embedding; dropout behind it is the head's.

    With the defaults, 60 bands by 41 frames and 10 classes these are the 26,306,730 parameters of
    DeepFourier's network (with ``deltas`` 26,334,090): 27,440 / 19,280 / 1,205,000 / 25,005,000 /
    50,010. The dense layers hold nearly all of them; ``config.dense_units`` makes them narrower.

    Weights start Glorot-uniform, biases at zero. Unlike in the published code, dropout is off
    outside of training.

    Args:
        config: widths, dropout, penalties and the second channel.
        feature_shape: ``(time, frequency, channel)`` of one clip, the time known.

    Returns:
        A functional model ``backbone``: features ``(batch, time, frequency, channel)`` → dict of
        ``block1`` and ``block2`` (after their pools), ``dense1`` and ``embedding``
        ``(batch, units)``.

    Raises:
        ConfigError: the features are too small, have no known length, or have more than one channel
            where deltas are asked for.

    Source: [Piczak 2015], [Jüttner et al.].
    """
    _check_feature_shape(config, feature_shape)

    # --- layers and graph
    features = keras.Input(feature_shape, name="features")
    outputs = {}
    x = DeltaChannel(name="deltas")(features) if config.deltas else features
    x = layers.Conv2D(
        config.filters, _CONV1_KERNEL, kernel_regularizer=_penalty(config), name="block1_conv"
    )(x)
    x = layers.ReLU(name="block1_relu")(x)
    outputs["block1"] = x = layers.MaxPooling2D(_POOL1_SIZE, _POOL1_STRIDES, name="block1_pool")(x)
    if config.dropout:
        x = layers.Dropout(config.dropout, name="block1_dropout")(x)
    x = layers.Conv2D(
        config.filters, _CONV2_KERNEL, kernel_regularizer=_penalty(config), name="block2_conv"
    )(x)
    x = layers.ReLU(name="block2_relu")(x)
    outputs["block2"] = x = layers.MaxPooling2D(_POOL2_SIZE, name="block2_pool")(x)
    x = layers.Flatten(name="dense1_flatten")(x)
    x = layers.Dense(config.dense_units, kernel_regularizer=_penalty(config), name="dense1")(x)
    outputs["dense1"] = x = layers.ReLU(name="dense1_relu")(x)
    if config.dropout:
        x = layers.Dropout(config.dropout, name="dense1_dropout")(x)
    x = layers.Dense(config.dense_units, kernel_regularizer=_penalty(config), name="dense2")(x)
    outputs["embedding"] = layers.ReLU(name="dense2_relu")(x)

    return keras.Model(features, outputs, name="backbone")


def _penalty(config: PiczakNetConfig) -> keras.regularizers.Regularizer | None:
    return keras.regularizers.L2(config.kernel_l2) if config.kernel_l2 else None


def _check_feature_shape(
    config: PiczakNetConfig, feature_shape: tuple[int | None, int, int]
) -> None:
    time, frequency, channels = feature_shape
    fewest_frames = _CONV1_KERNEL[0] - 1 + 3 * (_CONV2_KERNEL[0] - 1 + _POOL2_SIZE[0])
    fewest_bands = _CONV1_KERNEL[1] - 1 + _POOL1_SIZE[1]
    problems = []
    if time is None:
        problems.append(
            "model.name: piczak_net needs features of a known length; set audio.duration_s"
        )
    elif time < fewest_frames:
        problems.append(
            f"model.name: piczak_net needs {fewest_frames} frames, the clip has {time}; lengthen "
            "audio.duration_s or shorten the steps of the front end"
        )
    if frequency < fewest_bands:
        problems.append(
            f"model.name: piczak_net needs {fewest_bands} frequency bands, the features have "
            f"{frequency}; give the front end more, 60 as published"
        )
    if config.deltas and channels != 1:
        problems.append(
            f"model.deltas: needs features of one channel, not of {channels}; set it to false"
        )
    if problems:
        raise ConfigError(problems)
