"""Batch normalisation in one kernel."""

from __future__ import annotations

from typing import Any

import keras

from esc_tf import kernels


@keras.saving.register_keras_serializable(package="esc_tf")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch norm of feature maps, computed by TensorFlow's fused kernel.

    Keras composes batch norm of a dozen passes over the whole map, in float32 under any policy; on
    a CPU they take half of a training step in bfloat16. The fused kernel gives the same numbers
    (statistics agree to float32 rounding, moving variances included) and reads and writes the map
    in the policy's own precision.

    What the kernel cannot do, and other backends, go the way of Keras: another axis than the last,
    masks, renormalisation, statistics over several devices.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        own_statistics = bool(training) and self.trainable
        if not self._can_fuse(inputs, mask, own_statistics):
            return super().call(inputs, training=training, mask=mask)
        y, mean, variance = kernels.fused_batch_norm(
            inputs,
            self.gamma,
            self.beta,
            self.moving_mean,
            self.moving_variance,
            self.epsilon,
            training=own_statistics,
        )
        if own_statistics:
            keep, take = self.momentum, 1.0 - self.momentum
            self.moving_mean.assign(self.moving_mean * keep + mean * take)
            self.moving_variance.assign(self.moving_variance * keep + variance * take)
        return y

    def _can_fuse(self, inputs: Any, mask: Any, own_statistics: bool) -> bool:
        rank = len(inputs.shape)
        return (
            rank == 4
            and self.compute_dtype != "float64"
            and self.axis in (-1, rank - 1)
            and mask is None
            and self.scale
            and self.center
            and not self.renorm
            and not self.synchronized
            and kernels.fuses_batch_norm(own_statistics)
        )
