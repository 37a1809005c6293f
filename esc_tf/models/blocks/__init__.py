"""Pieces that several architectures share."""

from esc_tf.models.blocks.batch_norm import FusedBatchNormalization
from esc_tf.models.blocks.convolution import conv_block
from esc_tf.models.blocks.pooling import GridAveragePooling2D
from esc_tf.models.blocks.squeeze_excitation import squeeze_excite

__all__ = ["FusedBatchNormalization", "GridAveragePooling2D", "conv_block", "squeeze_excite"]
