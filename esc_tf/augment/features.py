"""Augmentation of features: time and frequency masks, then mixup; and the draws of all mixing.

All random numbers are drawn for each clip in the input pipeline and travel in the batch, so that
the training step has no random numbers of its own for them and can be compiled by XLA.

Source: Park et al., SpecAugment, Interspeech 2019 (masks, without time warping).
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from esc_tf.augment.chance import draw_beta, draw_chance, split_seed
from esc_tf.augment.mixup import MIXUP_WEIGHT, WAVE_MIX_WEIGHT, mix_rows
from esc_tf.augment.outliers import IS_OUTLIER, OUTLIER_SEED
from esc_tf.config import AugmentConfig

FREQUENCY_MASK = "draw/frequency_mask"
TIME_MASK = "draw/time_mask"

Batch = dict[str, tf.Tensor]

# Fixed numbers: a kind that is switched on or off, or added, changes no other kind's draws.
_FREQUENCY, _TIME, _MIXUP, _WAVE_MIX, _OUTLIER = range(5)
_CHANCE, _VALUE = range(2)


def build_feature_draw(augment: AugmentConfig) -> Callable[[tf.Tensor], Batch] | None:
    """Build the draw for one clip, or None where nothing is configured that needs one.

    Returns:
        ``seed (2,) -> dict`` with those of the following that are configured, float32 unless said:
        ``draw/mixup_weight`` and ``draw/wave_mix_weight`` scalar, 1 where the kind is not drawn;
        ``draw/frequency_mask`` and ``draw/time_mask`` ``(masks, 2)``: the width in bins or frames,
        0 where the kind is not drawn, and the place as a fraction in [0, 1) of all places;
        ``is_outlier``, a boolean scalar, and ``draw/outlier_seed`` ``(2,)`` int32.
    """
    masks = {}
    bands, stretches = augment.frequency_mask, augment.time_mask
    if bands is not None:
        masks[FREQUENCY_MASK] = (_FREQUENCY, bands.probability, bands.num_masks, bands.max_bands)
    if stretches is not None:
        kind = (_TIME, stretches.probability, stretches.num_masks, stretches.max_frames)
        masks[TIME_MASK] = kind
    mixes = {}
    mixup, wave_mix = augment.mixup, augment.wave_mix
    if mixup is not None:
        mixes[MIXUP_WEIGHT] = (_MIXUP, mixup.probability, mixup.alpha, mixup.at_least_half)
    if wave_mix is not None:
        mixes[WAVE_MIX_WEIGHT] = (_WAVE_MIX, wave_mix.probability, wave_mix.alpha, True)
    outlier = augment.outlier
    if not masks and not mixes and outlier is None:
        return None

    def draw(seed: tf.Tensor) -> Batch:
        drawn = {
            key: _draw_masks(split_seed(seed, stream), probability, num_masks, widest)
            for key, (stream, probability, num_masks, widest) in masks.items()
        }
        for key, (stream, probability, alpha, at_least_half) in mixes.items():
            own = split_seed(seed, stream)
            drawn[key] = _draw_weight(own, probability, alpha, at_least_half)
        if outlier is not None:
            own = split_seed(seed, _OUTLIER)
            drawn[IS_OUTLIER] = draw_chance(split_seed(own, _CHANCE), outlier.probability)
            drawn[OUTLIER_SEED] = split_seed(own, _VALUE)
        return drawn

    return draw


def _draw_weight(
    seed: tf.Tensor, probability: float, alpha: float, at_least_half: bool
) -> tf.Tensor:
    weight = draw_beta(split_seed(seed, _VALUE), alpha)
    if at_least_half:
        weight = tf.maximum(weight, 1.0 - weight)
    applied = draw_chance(split_seed(seed, _CHANCE), probability)
    return tf.where(applied, weight, tf.ones_like(weight))


def _draw_masks(seed: tf.Tensor, probability: float, num_masks: int, widest: int) -> tf.Tensor:
    applied = draw_chance(split_seed(seed, _CHANCE), probability)
    numbers = tf.random.stateless_uniform([num_masks, 2], split_seed(seed, _VALUE))
    # From 0 to `widest`, each width equally likely.
    width = tf.minimum(tf.floor(numbers[:, 0] * (widest + 1)), float(widest))
    return tf.stack([tf.where(applied, width, tf.zeros_like(width)), numbers[:, 1]], axis=1)


def find_masked(draws: tf.Tensor, length: int | tf.Tensor) -> tf.Tensor:
    """Return which positions of an axis are masked, ``(batch, length)`` boolean.

    Args:
        draws: ``(batch, masks, 2)``: width and place, as `build_feature_draw` says.
        length: positions of the axis; a wider mask is cut to it.
    """
    total = tf.cast(length, tf.float32)
    width = tf.minimum(draws[..., 0], total)
    start = tf.minimum(tf.floor(draws[..., 1] * (total - width + 1.0)), total - width)
    positions = tf.range(length, dtype=tf.int32)
    positions = tf.cast(positions, tf.float32)[tf.newaxis, tf.newaxis, :]
    start, end = start[..., tf.newaxis], (start + width)[..., tf.newaxis]
    return tf.reduce_any((positions >= start) & (positions < end), axis=1)


def apply_feature_augment(
    features: tf.Tensor, labels: tf.Tensor, batch: Batch, augment: AugmentConfig
) -> tuple[tf.Tensor, tf.Tensor]:
    """Apply the draws that the batch carries: masks to each clip's mean, then mixup.

    Args:
        features: ``(batch, time, frequency, channel)``.
        labels: ``(batch, classes)`` float32.
        batch: holds the draws.
        augment: which kinds are configured.

    Returns:
        Features and labels of the same shapes; mixed labels still sum to one.
    """
    if augment.frequency_mask is not None or augment.time_mask is not None:
        masked = tf.zeros([1, 1, 1, 1], tf.bool)
        if augment.frequency_mask is not None:
            rows = find_masked(batch[FREQUENCY_MASK], tf.shape(features)[2])
            masked = masked | rows[:, tf.newaxis, :, tf.newaxis]
        if augment.time_mask is not None:
            columns = find_masked(batch[TIME_MASK], tf.shape(features)[1])
            masked = masked | columns[:, :, tf.newaxis, tf.newaxis]
        # float32 for the mean: a float16 sum of a whole clip would overflow.
        mean = tf.reduce_mean(tf.cast(features, tf.float32), axis=[1, 2, 3], keepdims=True)
        features = tf.where(masked, tf.cast(mean, features.dtype), features)
    if augment.mixup is not None and augment.mixup.on == "features":
        features = mix_rows(features, batch[MIXUP_WEIGHT])
        labels = mix_rows(labels, batch[MIXUP_WEIGHT])
    return features, labels
