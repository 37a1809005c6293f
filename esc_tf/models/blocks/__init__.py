"""Pieces that several architectures share."""

from esc_tf.models.blocks.activation import HardSwish
from esc_tf.models.blocks.attention import MultiHeadAttentionPooling
from esc_tf.models.blocks.batch_norm import FusedBatchNormalization
from esc_tf.models.blocks.convolution import BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, conv_block
from esc_tf.models.blocks.deltas import DeltaChannel
from esc_tf.models.blocks.feature_size import find_size_problems
from esc_tf.models.blocks.fusion import WeightedFusion
from esc_tf.models.blocks.pooling import AxisAverage, GridAveragePooling2D
from esc_tf.models.blocks.squeeze_excitation import (
    ChannelScale,
    squeeze_excite,
    squeeze_excite_mean,
)

__all__ = [
    "BATCH_NORM_EPSILON",
    "BATCH_NORM_MOMENTUM",
    "AxisAverage",
    "ChannelScale",
    "DeltaChannel",
    "FusedBatchNormalization",
    "GridAveragePooling2D",
    "HardSwish",
    "MultiHeadAttentionPooling",
    "WeightedFusion",
    "conv_block",
    "find_size_problems",
    "squeeze_excite",
    "squeeze_excite_mean",
]
