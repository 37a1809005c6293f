"""The plain convolution block: [3 x 3 convolution, batch norm, ReLU] n times, then a pool."""

from __future__ import annotations

from typing import Any

from keras import layers

from esc_tf.models.blocks.batch_norm import FusedBatchNormalization

# PyTorch's defaults, with which the models that use this block were published; Keras counts
# momentum from the other end (1 - 0.1).
BATCH_NORM_MOMENTUM = 0.9
BATCH_NORM_EPSILON = 1e-5


_POOLS = {"max": layers.MaxPooling2D, "average": layers.AveragePooling2D}


def conv_block(
    x: Any,
    filters: int,
    num_convs: int,
    name: str,
    pool: str = "max",
    kernel_initializer: str = "he_normal",
) -> Any:
    """Apply [3 x 3 convolution without bias, batch norm, ReLU] ``num_convs`` times and pool 2 x 2.

    Parameters: ``9 filters (channels + (num_convs - 1) filters) + 2 num_convs filters``.

    Args:
        x: symbolic ``(batch, time, frequency, channel)``.
        filters: channels of every convolution.
        num_convs: convolutions in the block.
        name: prefix of the layers ``{name}_conv1``, ``{name}_bn1``, ``{name}_relu1`` …,
            ``{name}_pool``.
        pool: ``max`` or ``average``.
        kernel_initializer: how the convolutions start, in Keras's words.

    Returns:
        ``(batch, time // 2, frequency // 2, filters)``.
    """
    for index in range(1, num_convs + 1):
        x = layers.Conv2D(
            filters,
            3,
            padding="same",
            use_bias=False,
            kernel_initializer=kernel_initializer,
            name=f"{name}_conv{index}",
        )(x)
        x = FusedBatchNormalization(
            momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, name=f"{name}_bn{index}"
        )(x)
        x = layers.ReLU(name=f"{name}_relu{index}")(x)
    return _POOLS[pool](2, name=f"{name}_pool")(x)
