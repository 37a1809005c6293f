"""Random draws that are functions of a seed alone: no generator, no state."""

from __future__ import annotations

import sys

import tensorflow as tf

_SMALLEST = sys.float_info.min


def split_seed(seed: tf.Tensor, stream: int) -> tf.Tensor:
    """Return a seed ``(2,)`` of its own for one purpose.

    Args:
        seed: ``(2,)`` int32.
        stream: the number of the purpose.
    """
    return tf.random.experimental.stateless_fold_in(seed, stream)


def draw_uniform(seed: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """Draw a scalar from [low, high); ``low`` where both are equal."""
    return low + (high - low) * tf.random.stateless_uniform([], seed)


def draw_chance(seed: tf.Tensor, probability: float) -> tf.Tensor:
    """Draw a boolean that is true with ``probability``; never for 0, always for 1."""
    return tf.random.stateless_uniform([], seed) < probability


def draw_beta(seed: tf.Tensor, alpha: float) -> tf.Tensor:
    """Draw a scalar float32 from Beta(alpha, alpha), as X / (X + Y) of two Gamma(alpha) draws."""
    # Gamma draws of a small alpha underflow in float32. In float64 both do only for an alpha below
    # about 0.02; TensorFlow then gives its smallest number, and Beta is a coin between 0 and 1.
    gammas = tf.random.stateless_gamma([2], split_seed(seed, 0), alpha, dtype=tf.float64)
    coin = tf.cast(draw_chance(split_seed(seed, 1), 0.5), tf.float64)
    has_underflowed = tf.reduce_max(gammas) <= _SMALLEST
    weight = tf.where(has_underflowed, coin, gammas[0] / tf.reduce_sum(gammas))
    return tf.cast(weight, tf.float32)
