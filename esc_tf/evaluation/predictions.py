"""Run a classifier over a data set under any strategy and collect what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from esc_tf.evaluation.workers import Workers


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of each clip, in the order of the data set.

    Attributes:
        index: position of each clip in its list, int (clips,).
        labels: true labels, float32 (clips, classes).
        logits: float32 (clips, classes).
        probabilities: float32 (clips, classes).
    """

    index: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    probabilities: np.ndarray


def build_predict_step(
    model: keras.Model, strategy: tf.distribute.Strategy
) -> Callable[[Mapping[str, object]], dict[str, object]]:
    """Compile one step: a (distributed) batch → its scores, still on the devices."""

    def replica_step(batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        outputs = model(
            {"waveform": batch["waveform"], "num_samples": batch["num_samples"]}, training=False
        )
        kept = {key: batch[key] for key in ("index", "label", "weight")}
        return {**kept, "logits": outputs["logits"], "probabilities": outputs["probabilities"]}

    @tf.function(reduce_retracing=True)
    def predict_step(batch: Mapping[str, object]) -> dict[str, object]:
        return strategy.run(replica_step, args=(batch,))

    return predict_step


def predict_data_set(
    step: Callable[[Mapping[str, object]], dict[str, object]],
    data_set: tf.data.Dataset,
    workers: Workers,
) -> Predictions:
    """Collect the scores of a whole data set, the same on all workers.

    Args:
        step: from ``build_predict_step``.
        data_set: evaluation batches, or this worker's rows of them; rows of weight 0 are fillers
            and are left out.
        workers: those that share the work.
    """
    parts: dict[str, list[np.ndarray]] = {}
    for batch in workers.distribute(data_set):
        outputs = step(batch)
        for key, value in outputs.items():
            for local in workers.strategy.experimental_local_results(value):
                parts.setdefault(key, []).append(local.numpy())
    whole = {key: np.concatenate(parts[key]) for key in sorted(parts)}
    if workers.count > 1:
        whole = {key: np.concatenate(workers.gather(value)) for key, value in whole.items()}
    real = np.flatnonzero(whole["weight"] > 0)
    real = real[np.argsort(whole["index"][real], kind="stable")]
    return Predictions(*(whole[key][real] for key in ("index", "label", "logits", "probabilities")))
