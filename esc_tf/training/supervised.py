"""The supervised step: features → augmentation → logits → loss → one optimiser step.

With a teacher its probabilities go along with the labels, mixed alike, into a loss of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import tensorflow as tf

from esc_tf.augment.features import apply_feature_augment
from esc_tf.augment.outliers import IS_OUTLIER
from esc_tf.config import Experiment
from esc_tf.tasks.losses import build_loss, build_teacher_loss
from esc_tf.training.embedding_match import EmbeddingMatch

TrainStep = Callable[[Mapping[str, object]], dict[str, tf.Tensor]]
# A batch → the teacher's probabilities (batch, classes) of the clips as the batch holds them; where
# embeddings are compared, these stand behind them in the same row.
AskTeacher = Callable[[Mapping[str, tf.Tensor]], tf.Tensor]


def build_train_step(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    strategy: tf.distribute.Strategy,
    experiment: Experiment,
    ask_teacher: AskTeacher | None = None,
    match: EmbeddingMatch | None = None,
) -> TrainStep:
    """Compile one training step under ``strategy``.

    The loss of a batch is the mean over all of its clips, on however many devices they lie.

    Args:
        model: a built ``Classifier``.
        optimizer: built on the model's trainable variables, and on those of ``match``.
        strategy: what both were made under.
        experiment: batch size, loss, feature augmentation, XLA.
        ask_teacher: the teacher of ``recipe.distillation``; None: there is none.
        match: compares embeddings, where the teacher answers with its own, too.

    Returns:
        A function of a (distributed) batch; it returns sums over the whole batch as scalars:
        ``loss``, ``correct`` (by the strongest label) and ``count``.
    """
    loss_function = build_loss(experiment.recipe)
    distillation = experiment.recipe.distillation
    if (ask_teacher is None) != (distillation is None):
        raise ValueError("a teacher and recipe.distillation go together")
    label_weight = 1.0 if distillation is None else distillation.label_weight
    teacher_loss = None if distillation is None else build_teacher_loss(experiment.recipe)
    match_weight = 0.0 if match is None or distillation is None else distillation.embedding_weight
    num_taught = [] if match is None else [match.num_taught]
    trained = [*model.trainable_variables, *([] if match is None else match.variables)]
    global_batch_size = experiment.recipe.batch_size

    def measure_gradients(
        batch: Mapping[str, tf.Tensor],
    ) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
        targets = [batch["label"]]
        sizes = [batch["label"].shape[1], *num_taught]
        if ask_teacher is not None:
            taught = tf.stop_gradient(ask_teacher(batch))
            probabilities, *units = tf.split(taught, sizes, axis=1)
            if IS_OUTLIER in batch:  # the teacher spoke of the clip, or knows no better
                probabilities = tf.where(
                    batch[IS_OUTLIER][:, tf.newaxis], batch["label"], probabilities
                )
            targets += [probabilities, *units]
        with tf.GradientTape() as tape:
            features = model.extract_features(batch["waveform"], batch["num_samples"])
            features, mixed = apply_feature_augment(
                features, tf.concat(targets, axis=1), dict(batch), experiment.augment
            )
            labels, *taught = tf.split(mixed, [part.shape[1] for part in targets], axis=1)
            outputs = model.classify_features(features, training=True)
            logits = outputs["logits"]
            losses = loss_function(labels, logits)
            if teacher_loss is not None:
                losses *= label_weight
                losses += (1.0 - label_weight) * teacher_loss(taught[0], logits)
            if match is not None:
                differences = match(outputs["embedding"], taught[1])
                if IS_OUTLIER in batch:
                    differences = tf.where(batch[IS_OUTLIER], 0.0, differences)
                losses += match_weight * differences
            objective = tf.reduce_sum(losses) / global_batch_size
            objective += tf.add_n([*model.losses, tf.zeros(())]) / strategy.num_replicas_in_sync
            scaled = optimizer.scale_loss(objective)
        gradients = tape.gradient(scaled, trained)
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
        optimizer.apply(gradients, trained)
        return sums

    return compile_step(strategy, replica_step)


def compile_step(
    strategy: tf.distribute.Strategy,
    replica_step: Callable[[Mapping[str, tf.Tensor]], dict[str, tf.Tensor]],
) -> TrainStep:
    """Run a step on every device and add up what they measured.

    Args:
        strategy: its devices.
        replica_step: one device's share of a batch → sums over it.
    """

    @tf.function(reduce_retracing=True)
    def step(batch: Mapping[str, object]) -> dict[str, tf.Tensor]:
        sums = strategy.run(replica_step, args=(batch,))
        return {
            key: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for key, value in sums.items()
        }

    return step
