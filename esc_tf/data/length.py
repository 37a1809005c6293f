"""Clips of any length brought to one length."""

from __future__ import annotations

import tensorflow as tf


def fit_length(
    waveform: tf.Tensor,
    num_samples_wanted: int,
    pad: str,
    crop: str,
    offset_fraction: tf.Tensor | float | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Pad or crop a waveform to ``num_samples_wanted`` samples.

    Args:
        waveform: ``(samples,)`` float32, at least one sample.
        num_samples_wanted: samples of the result.
        pad: where a shorter clip lies: ``end`` and ``silence`` (zeros behind it), ``center``
            (zeros on both sides, the odd one behind) or ``repeat`` (again and again, the last
            time cut off).
        crop: which part of a longer clip is kept: ``start``, ``center`` or ``random``.
        offset_fraction: for ``random``: where the part starts, from 0 (the first place possible)
            to 1 (the last), as a number in [0, 1); None takes the centre.

    Returns:
        The waveform ``(num_samples_wanted,)`` and the number of its valid samples, int32: less
        than ``num_samples_wanted`` only for ``pad="end"``.
    """
    wanted = num_samples_wanted
    num_samples = tf.shape(waveform)[0]
    surplus = tf.maximum(num_samples - wanted, 0)
    if crop == "start":
        start = tf.zeros_like(surplus)
    elif crop == "center" or offset_fraction is None:
        start = surplus // 2
    else:
        places = tf.cast(surplus + 1, tf.float32)
        start = tf.minimum(tf.cast(offset_fraction * places, tf.int32), surplus)
    waveform = waveform[start : start + wanted]
    valid = tf.minimum(num_samples, wanted)
    if pad == "repeat":
        times = -(-wanted // valid)
        waveform = tf.tile(waveform, [times])[:wanted]
        valid = tf.constant(wanted, tf.int32)
    elif pad == "center":
        before = (wanted - valid) // 2
        waveform = tf.pad(waveform, [[before, wanted - valid - before]])
        valid = tf.constant(wanted, tf.int32)
    else:
        waveform = tf.pad(waveform, [[0, wanted - valid]])
        valid = tf.constant(wanted, tf.int32) if pad == "silence" else valid
    return tf.ensure_shape(waveform, (wanted,)), valid
