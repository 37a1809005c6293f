"""Rows of a batch mixed with each other, labels by the same weight: mixup and wave mixing.

Sources: Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018. Wave mixing as in the
training of PaSST and EfficientAT (Koutini et al. 2022, Schmid et al. 2023).
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from esc_tf.config import AugmentConfig

MIXUP_WEIGHT = "draw/mixup_weight"
WAVE_MIX_WEIGHT = "draw/wave_mix_weight"

Batch = dict[str, tf.Tensor]

# What is mixed where a batch has it: what a clip is to be called, and waveforms with the number of
# their valid samples; a teacher may hear the same clips at another rate.
_TARGETS = ("label", "taught")
_WAVEFORMS = (("waveform", "num_samples"), ("teacher_waveform", "teacher_num_samples"))


def mix_rows(values: tf.Tensor, weight: tf.Tensor, shift: int | tf.Tensor = 1) -> tf.Tensor:
    """Return ``w[i] * x[i] + (1 - w[i]) * x[i - shift]``; rows are counted in a circle.

    Args:
        values: ``(batch, ...)``.
        weight: ``(batch,)`` in [0, 1]; 1 leaves a row as it is.
        shift: how far away a row's partner is.
    """
    shape = [-1] + [1] * (values.shape.rank - 1)
    weight = tf.reshape(tf.cast(weight, values.dtype), shape)
    return weight * values + (1.0 - weight) * tf.roll(values, shift=shift, axis=0)


def remove_mean(waveform: tf.Tensor, num_samples: tf.Tensor) -> tf.Tensor:
    """Take each row's mean over its valid samples from them; the padding stays zero.

    Args:
        waveform: ``(batch, samples)``, zero from ``num_samples`` on.
        num_samples: valid samples ``(batch,)``, int32.
    """
    count = tf.cast(num_samples, waveform.dtype)[:, tf.newaxis]
    mean = tf.reduce_sum(waveform, axis=1, keepdims=True) / count
    valid = tf.range(tf.shape(waveform)[1])[tf.newaxis] < num_samples[:, tf.newaxis]
    return tf.where(valid, waveform - mean, waveform)


def build_batch_mix(augment: AugmentConfig) -> Callable[[Batch], Batch] | None:
    """Build what mixes the waveforms of a batch: wave mixing, then mixup; None where both are off.

    Returns:
        ``batch -> batch``, as `build_wave_mix` and `build_waveform_mixup` say.
    """
    built = (build_wave_mix(augment), build_waveform_mixup(augment))
    steps = [step for step in built if step is not None]
    if not steps:
        return None

    def mix_batch(batch: Batch) -> Batch:
        for step in steps:
            batch = step(batch)
        return batch

    return mix_batch


def build_wave_mix(augment: AugmentConfig) -> Callable[[Batch], Batch] | None:
    """Build wave mixing, or None where it is off.

    ``w * (x - mean(x)) + (1 - w) * (y - mean(y))`` with the row half a batch away, so that mixup
    afterwards, which takes the row before, has another partner; the labels alike. A row of weight 1
    stays as it is, mean included.

    Returns:
        ``batch -> batch``: mixed with the weight that the batch carries, which is taken out. A
        mixture's ``num_samples`` is the larger one of its two sounds.
    """
    if augment.wave_mix is None:
        return None

    def mix_batch(batch: Batch) -> Batch:
        mixed = dict(batch)
        weight = mixed.pop(WAVE_MIX_WEIGHT)
        is_mixed = (weight < 1.0)[:, tf.newaxis]
        shift = tf.shape(weight)[0] // 2
        for key, length_key in _find_waveforms(batch):
            waveform, num_samples = batch[key], batch[length_key]
            centred = remove_mean(waveform, num_samples)
            mixed[key] = tf.where(is_mixed, mix_rows(centred, weight, shift), waveform)
            mixed[length_key] = _longer(num_samples, weight, shift)
        return _mix_targets(mixed, weight, shift)

    return mix_batch


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
        for key, length_key in _find_waveforms(batch):
            mixed[key] = mix_rows(batch[key], weight)
            mixed[length_key] = _longer(batch[length_key], weight, 1)
        return _mix_targets(mixed, weight, 1)

    return mix_batch


def _find_waveforms(batch: Batch) -> list[tuple[str, str]]:
    return [keys for keys in _WAVEFORMS if keys[0] in batch]


def _mix_targets(batch: Batch, weight: tf.Tensor, shift: int | tf.Tensor) -> Batch:
    mixed = {key: mix_rows(batch[key], weight, shift) for key in _TARGETS if key in batch}
    return {**batch, **mixed}


def _longer(num_samples: tf.Tensor, weight: tf.Tensor, shift: int | tf.Tensor) -> tf.Tensor:
    both = tf.maximum(num_samples, tf.roll(num_samples, shift=shift, axis=0))
    return tf.where(weight < 1.0, both, num_samples)
