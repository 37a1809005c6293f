"""The supervised step: features → augmentation → logits → loss → one optimiser step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import tensorflow as tf

from esc_tf.augment.features import apply_feature_augment
from esc_tf.config import Experiment
from esc_tf.tasks.losses import build_loss

TrainStep = Callable[[Mapping[str, object]], dict[str, tf.Tensor]]


def build_train_step(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    strategy: tf.distribute.Strategy,
    experiment: Experiment,
) -> TrainStep:
    """Compile one training step under ``strategy``.

    The loss of a batch is the mean over all of its clips, on however many devices they lie.

    Args:
        model: a built ``Classifier``.
        optimizer: built on the model's trainable variables.
        strategy: what both were made under.
        experiment: batch size, loss, feature augmentation, XLA.

    Returns:
        A function of a (distributed) batch; it returns sums over the whole batch as scalars:
        ``loss``, ``correct`` (by the strongest label) and ``count``.
    """
    loss_function = build_loss(experiment.recipe)
    global_batch_size = experiment.recipe.batch_size

    def measure_gradients(
        batch: Mapping[str, tf.Tensor],
    ) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
        with tf.GradientTape() as tape:
            features = model.extract_features(batch["waveform"], batch["num_samples"])
            features, labels = apply_feature_augment(
                features, batch["label"], dict(batch), experiment.augment
            )
            logits = model.classify_features(features, training=True)["logits"]
            losses = loss_function(labels, logits)
            objective = tf.reduce_sum(losses) / global_batch_size
            objective += tf.add_n([*model.losses, tf.zeros(())]) / strategy.num_replicas_in_sync
            scaled = optimizer.scale_loss(objective)
        gradients = tape.gradient(scaled, model.trainable_variables)
        hits = tf.equal(tf.argmax(labels, axis=-1), tf.argmax(logits, axis=-1))
        return gradients, {
            "loss": tf.reduce_sum(losses),
            "correct": tf.reduce_sum(tf.cast(hits, tf.float32)),
            "count": tf.cast(tf.shape(labels)[0], tf.float32),
        }

    # The optimiser stays outside: the sum over devices cannot be compiled by XLA.
    if experiment.distribution.xla:
        measure_gradients = tf.function(measure_gradients, jit_compile=True)

    def replica_step(batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        gradients, sums = measure_gradients(batch)
        optimizer.apply(gradients, model.trainable_variables)
        return sums

    @tf.function(reduce_retracing=True)
    def train_step(batch: Mapping[str, object]) -> dict[str, tf.Tensor]:
        sums = strategy.run(replica_step, args=(batch,))
        return {
            key: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for key, value in sums.items()
        }

    return train_step
