"""SE-CNN: five convolution blocks with channel attention, and its two smaller relatives."""

from __future__ import annotations

import keras
from keras import layers

from esc_tf.config import SECNNConfig
from esc_tf.errors import ConfigError
from esc_tf.models.blocks import (
    GridAveragePooling2D,
    conv_block,
    find_size_problems,
    squeeze_excite,
)


def build_se_cnn(config: SECNNConfig, feature_shape: tuple[int | None, int, int]) -> keras.Model:
    """Build the SE-CNN backbone: blocks, each followed by its attention, then an average.

    Block ``i`` is ``conv_block`` and halves time and frequency (rounding down); the blocks named
    in ``config.squeeze_excitation_blocks`` are followed by ``squeeze_excite``. The embedding is
    the mean over all positions, or over the cells of ``config.pool_grid``, flattened in the order
    time, frequency, channel.

    With the defaults and the head 2,048 → 50 this is the published network: 21,569,906 trainable
    parameters, exactly; blocks 37,696 / 221,696 / 885,760 / 3,540,992 / 14,159,872, attention
    522,240, head 2,201,650; 431 x 128 features leave 13 x 4 positions of 1,024 channels.

    The two smaller networks are printed only roughly. We read the plain one (``se_cnn_plain``) as
    one convolution a block with 32, 64, 128 and 256 filters, no attention, global average, dense
    256, dropout 0.5, dense 128; and the one "on 128 x 3 x 4 features" (``se_cnn_grid``) as 32, 64
    and 128 filters, then the mean over a grid of 4 time by 3 frequency cells (1,536 values),
    dense 512, dropout 0.5, dense 256.

    Batch norm has PyTorch's momentum and epsilon; weights start He-normal in convolutions and
    Glorot-uniform elsewhere, about which nothing is published.

    Args:
        config: widths, attention and pooling.
        feature_shape: ``(time, frequency, channel)`` of one clip; time may be None unless
            ``config.pool_grid`` is set.

    Returns:
        A functional model ``backbone``: features ``(batch, time, frequency, channel)`` → dict of
        ``block{i}`` (after its max-pool), ``se{i}`` (that, scaled) and ``embedding``
        ``(batch, units)``.

    Raises:
        ConfigError: the features are too small for so many halvings, or the grid needs a known
            time size.

    Source: [Dwivedi 2024].
    """
    _check_feature_shape(config, feature_shape)

    # --- layers and graph
    features = keras.Input(feature_shape, name="features")
    outputs = {}
    x = features
    for index, filters in enumerate(config.block_filters, start=1):
        x = conv_block(x, filters, config.convs_per_block, name=f"block{index}")
        outputs[f"block{index}"] = x
        if index in config.squeeze_excitation_blocks:
            x = squeeze_excite(x, config.squeeze_excitation_ratio, name=f"se{index}")
            outputs[f"se{index}"] = x
    if config.pool_grid is None:
        embedding = layers.GlobalAveragePooling2D(name="embedding")(x)
    else:
        x = GridAveragePooling2D(config.pool_grid, name="embedding_grid")(x)
        embedding = layers.Flatten(name="embedding")(x)
    outputs["embedding"] = embedding

    return keras.Model(features, outputs, name="backbone")


def _check_feature_shape(config: SECNNConfig, feature_shape: tuple[int | None, int, int]) -> None:
    problems = find_size_problems(len(config.block_filters), feature_shape)
    if feature_shape[0] is None and config.pool_grid is not None:
        problems.append("model.pool_grid: needs features of a known length; set it to null")
    if problems:
        raise ConfigError(problems)
