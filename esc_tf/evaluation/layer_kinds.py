"""Kinds of layer by what they do to the place of a value in a map."""

from __future__ import annotations

from keras import layers

from esc_tf.models.blocks import ChannelScale, DeltaChannel, HardSwish, WeightedFusion

WINDOWED = (
    layers.Conv2D,
    layers.DepthwiseConv2D,
    layers.MaxPooling2D,
    layers.AveragePooling2D,
    DeltaChannel,
)
"""A position of the output sees a window of the input."""

POINTWISE = (
    layers.Activation,
    layers.BatchNormalization,
    layers.Dropout,
    layers.LeakyReLU,
    layers.ReLU,
    HardSwish,
)
"""A position of the output sees the same one of the input."""

MERGING = (layers.Add, layers.Concatenate, layers.Multiply, ChannelScale, WeightedFusion)
"""Branches of one size become one, or a branch is scaled by another."""
