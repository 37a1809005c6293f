"""Training for classes: the step, how good the classifier is meanwhile, and its measures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from esc_tf.config import Experiment
from esc_tf.evaluation.metrics import measure_balanced_accuracy
from esc_tf.evaluation.predictions import Predictions, build_predict_step, predict_data_set
from esc_tf.evaluation.voting import measure_clips
from esc_tf.evaluation.workers import Workers
from esc_tf.tasks.classifier import Classifier
from esc_tf.tasks.losses import build_loss
from esc_tf.training.embedding_match import EmbeddingMatch
from esc_tf.training.run_data import HeardParts
from esc_tf.training.supervised import AskTeacher, TrainStep, build_train_step


class Classification:
    """Trains a classifier on clips, or segments of clips, and measures what it says of others.

    Args:
        model: a built classifier.
        experiment: waveform format, batch size, loss.
        label_names: name of each class.
        workers: those that share the work.
        parts: what is validated and tested on.
        ask_teacher: the teacher of ``recipe.distillation``; None: there is none.
        match: compares embeddings, where the teacher answers with its own, too.
    """

    def __init__(
        self,
        model: Classifier,
        experiment: Experiment,
        label_names: Sequence[str],
        workers: Workers,
        parts: HeardParts,
        ask_teacher: AskTeacher | None = None,
        match: EmbeddingMatch | None = None,
    ) -> None:
        self._model, self._ask_teacher, self._match = model, ask_teacher, match
        self._experiment, self._label_names, self._workers = experiment, label_names, workers
        self._step = build_predict_step(model, workers.strategy)
        self._parts = parts

    @property
    def trained_variables(self) -> list[keras.Variable]:
        """What the optimiser is built on."""
        left_behind = [] if self._match is None else self._match.variables
        return [*self._model.trainable_variables, *left_behind]

    @property
    def facts(self) -> dict[str, Any]:
        """Nothing beside what ``resolved.yaml`` says anyway."""
        return {}

    def build_train_step(self, optimizer: keras.optimizers.Optimizer) -> TrainStep:
        """Compile one training step; see ``esc_tf.training.supervised``."""
        strategy = self._workers.strategy
        return build_train_step(
            self._model, optimizer, strategy, self._experiment, self._ask_teacher, self._match
        )

    def place(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """Where the measures of the parts stand in ``metrics.json``: right there."""
        return metrics

    def write_examples(self, folder: Path, part: str) -> None:
        """Nothing: what a classifier says can be asked of the stored model."""

    def validate(self) -> dict[str, float]:
        """The numbers that follow a training: of single clips, or of single segments."""
        if not self._parts.list_clips("validation"):
            return {}
        found = self._predict("validation")
        losses = build_loss(self._experiment.recipe)(found.labels, found.logits)
        label_ids, predicted = found.labels.argmax(axis=1), found.logits.argmax(axis=1)
        return {
            "validation_loss": float(np.mean(losses)),
            "validation_accuracy": float(np.mean(label_ids == predicted)),
            "validation_balanced_accuracy": measure_balanced_accuracy(label_ids, predicted),
        }

    def measure(self, part: str) -> dict[str, Any]:
        """All measures of ``esc_tf.evaluation.voting.measure_clips``."""
        return measure_clips(self._predict(part), self._parts.list_clips(part), self._label_names)

    def _predict(self, part: str) -> Predictions:
        batches = self._parts.batch(part, self._workers.take_part())
        return predict_data_set(self._step, batches, self._workers)
