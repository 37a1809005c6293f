"""Operations that TensorFlow does in one kernel where Keras composes them of several.

Front ends and models stay in Keras' own terms and ask here whether there is something faster; on
another backend there is not, and TensorFlow is not imported.
"""

from __future__ import annotations

from typing import Any

import keras


def fuses_batch_norm(training: bool) -> bool:
    """Whether ``fused_batch_norm`` can stand in for the composed one.

    Args:
        training: whether the batch's own statistics are used.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    # On a GPU the kernel's gradient with given statistics (a frozen layer) does not repeat bit by
    # bit, and is an error where repeatable operations are asked for.
    return training or not tf.config.list_logical_devices("GPU")


def fused_batch_norm(
    x: Any, gamma: Any, beta: Any, mean: Any, variance: Any, epsilon: float, training: bool
) -> tuple[Any, Any, Any]:
    """Batch norm over the last axis, in the precision of ``x`` with float32 sums.

    Args:
        x: ``(batch, height, width, channel)``, float32, bfloat16 or float16.
        gamma, beta, mean, variance: float32 ``(channel,)``; the last two are not read in training.
        epsilon: added to the variance.
        training: use the batch's own mean and variance.

    Returns:
        ``gamma (x - mean) / sqrt(variance + epsilon) + beta`` like ``x``, and as float32
        ``(channel,)`` the mean and the variance (divided by the number of values) that were used.
    """
    import tensorflow as tf

    nothing = tf.zeros([0])
    y, used_mean, used_variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=gamma,
        offset=beta,
        mean=nothing if training else mean,
        variance=nothing if training else variance,
        epsilon=epsilon,
        is_training=training,
    )
    if training:
        # The kernel's variance is the sum of squares divided by one less than the number of values.
        count = tf.cast(tf.size(x) // x.shape[-1], tf.float32)
        used_variance *= (count - 1.0) / count
    return y, used_mean, used_variance
