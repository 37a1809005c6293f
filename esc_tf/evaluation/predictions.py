"""Run a classifier over a data set under any strategy and collect what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf


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


def distribute(data_set: tf.data.Dataset, strategy: tf.distribute.Strategy) -> Iterable[Any]:
    """Batches of a data set, spread over the devices of a strategy.

    A single device takes them as they are: the end of TensorFlow's distributed iterators was
    measured to wait up to a minute for a tuning thread to wake up.
    """
    if strategy.num_replicas_in_sync == 1:
        return data_set
    return strategy.experimental_distribute_dataset(data_set)


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
    strategy: tf.distribute.Strategy,
) -> Predictions:
    """Collect the scores of a whole data set.

    Args:
        step: from ``build_predict_step``.
        data_set: evaluation batches; rows of weight 0 are fillers and are left out.
        strategy: the strategy that ``step`` was built with.
    """
    parts: dict[str, list[np.ndarray]] = {}
    for batch in distribute(data_set, strategy):
        outputs = step(batch)
        for key, value in outputs.items():
            for local in strategy.experimental_local_results(value):
                parts.setdefault(key, []).append(local.numpy())
    whole = {key: np.concatenate(values) for key, values in parts.items()}
    real = whole["weight"] > 0
    return Predictions(*(whole[key][real] for key in ("index", "label", "logits", "probabilities")))
