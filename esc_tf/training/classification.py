"""How good a classifier is while it trains and afterwards: its answers, and their measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from esc_tf.config import Experiment
from esc_tf.data import CachedClip, EpochPart, build_dataset
from esc_tf.evaluation.metrics import measure_balanced_accuracy
from esc_tf.evaluation.predictions import Predictions, build_predict_step, predict_data_set
from esc_tf.evaluation.voting import measure_clips
from esc_tf.evaluation.workers import Workers
from esc_tf.tasks.classifier import Classifier
from esc_tf.tasks.losses import build_loss


class Classification:
    """Runs a classifier over clips, or segments of clips, and measures what it says.

    Args:
        model: a built classifier.
        experiment: waveform format, batch size, loss.
        label_names: name of each class.
        workers: those that share the work.
    """

    def __init__(
        self,
        model: Classifier,
        experiment: Experiment,
        label_names: Sequence[str],
        workers: Workers,
    ) -> None:
        self._experiment, self._label_names, self._workers = experiment, label_names, workers
        self._step = build_predict_step(model, workers.strategy)

    def validate(self, heard: Sequence[CachedClip]) -> dict[str, float]:
        """The numbers that follow a training: of single clips, or of single segments."""
        if not heard:
            return {}
        found = self._predict(heard)
        losses = build_loss(self._experiment.recipe)(found.labels, found.logits)
        label_ids, predicted = found.labels.argmax(axis=1), found.logits.argmax(axis=1)
        return {
            "validation_loss": float(np.mean(losses)),
            "validation_accuracy": float(np.mean(label_ids == predicted)),
            "validation_balanced_accuracy": measure_balanced_accuracy(label_ids, predicted),
        }

    def measure(self, heard: Sequence[CachedClip]) -> dict[str, Any]:
        """All measures of ``esc_tf.evaluation.voting.measure_clips``."""
        return measure_clips(self._predict(heard), heard, self._label_names)

    def _predict(self, heard: Sequence[CachedClip]) -> Predictions:
        batches = build_dataset(
            heard,
            audio=self._experiment.audio,
            num_classes=len(self._label_names),
            batch_size=self._experiment.recipe.batch_size,
            training=False,
            part=EpochPart(worker=self._workers.index, num_workers=self._workers.count),
        )
        return predict_data_set(self._step, batches, self._workers)
