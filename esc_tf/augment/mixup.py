"""Mixup: every row of a batch mixed with its neighbour, labels by the same weight.

Source: Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from esc_tf.config import AugmentConfig

MIXUP_WEIGHT = "draw/mixup_weight"

Batch = dict[str, tf.Tensor]


def mix_rows(values: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Return ``w[i] * x[i] + (1 - w[i]) * x[i - 1]``; row 0 is mixed with the last row.

    Args:
        values: ``(batch, ...)``.
        weight: ``(batch,)`` in [0, 1]; 1 leaves a row as it is.
    """
    shape = [-1] + [1] * (values.shape.rank - 1)
    weight = tf.reshape(tf.cast(weight, values.dtype), shape)
    return weight * values + (1.0 - weight) * tf.roll(values, shift=1, axis=0)


def build_waveform_mixup(augment: AugmentConfig) -> Callable[[Batch], Batch] | None:
    """Build mixup on the waveforms of a batch, or None where it is off or on features.

    Returns:
        ``batch -> batch``: waveforms and labels mixed with the weight that the batch carries,
        which is taken out. A mixture's ``num_samples`` is the larger one of its two sounds.
    """
    if augment.mixup is None or augment.mixup.on != "waveform":
        return None

    def mix_batch(batch: Batch) -> Batch:
        mixed = dict(batch)
        weight = mixed.pop(MIXUP_WEIGHT)
        mixed["waveform"] = mix_rows(batch["waveform"], weight)
        mixed["label"] = mix_rows(batch["label"], weight)
        num_samples = batch["num_samples"]
        both = tf.maximum(num_samples, tf.roll(num_samples, shift=1, axis=0))
        mixed["num_samples"] = tf.where(weight < 1.0, both, num_samples)
        return mixed

    return mix_batch
