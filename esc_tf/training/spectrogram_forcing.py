"""Spectrogram forcing: the front end alone learns to compute a spectrogram [Jüttner et al.].

Published: mean squared error, Adam at 3e-4. The target is centred and divided by half of its range
over the training set; the published code scales it to [0, 1] instead, by its range over all folds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from esc_tf.config import Experiment
from esc_tf.data import EpochPart, build_dataset
from esc_tf.errors import RequestError
from esc_tf.evaluation.forced_examples import ForcedExamples
from esc_tf.evaluation.workers import Workers
from esc_tf.frontends import build_front_end
from esc_tf.tasks.classifier import Classifier
from esc_tf.training.run_data import HeardParts
from esc_tf.training.supervised import TrainStep, compile_step

_MOST_EXAMPLES = 8

Target = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class SpectrogramForcing:
    """Trains a front end against a spectrogram, and measures how near it comes.

    Args:
        model: a built classifier, of which the front end alone counts.
        experiment: its ``recipe.spectrogram_forcing`` names the target.
        workers: those that share the work.
        parts: what is trained, validated and tested on.
        known_range: smallest and largest value of the target, of a run that goes on; None: they
            are found over what is trained on.

    Raises:
        RequestError: the front end's features have another shape than the target.
    """

    def __init__(
        self,
        model: Classifier,
        experiment: Experiment,
        workers: Workers,
        parts: HeardParts,
        known_range: Sequence[float] | None = None,
    ) -> None:
        self._front_end, self._experiment, self._workers = model.front_end, experiment, workers
        self._parts = parts
        self._target = check_target(model, experiment)
        if known_range is None:
            known_range = self._find_range()
        self.target_range = (float(known_range[0]), float(known_range[1]))
        self._measure_step = self._build_measure_step()

    @property
    def facts(self) -> dict[str, Any]:
        """What ``resolved.yaml`` says of it."""
        return {"spectrogram_forcing": {"target_range": list(self.target_range)}}

    @property
    def trained_variables(self) -> list[keras.Variable]:
        """What the optimiser is built on."""
        variables: list[keras.Variable] = self._front_end.trainable_variables
        return variables

    def build_train_step(self, optimizer: keras.optimizers.Optimizer) -> TrainStep:
        """Compile one training step; it returns sums over the batch: ``loss`` and ``count``.

        Args:
            optimizer: built on ``trained_variables``.
        """
        strategy, batch_size = self._workers.strategy, self._experiment.recipe.batch_size
        trained = self.trained_variables

        def replica_step(batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            with tf.GradientTape() as tape:
                losses = self._compute_errors(batch)
                scaled = optimizer.scale_loss(tf.reduce_sum(losses) / batch_size)
            optimizer.apply(tape.gradient(scaled, trained), trained)
            count = tf.cast(tf.shape(losses)[0], tf.float32)
            return {"loss": tf.reduce_sum(losses), "count": count}

        return compile_step(strategy, replica_step)

    def validate(self) -> dict[str, float]:
        """The mean squared error as ``validation_loss``; nothing where there is nothing heard."""
        if not self._parts.list_clips("validation"):
            return {}
        return {"validation_loss": self.measure("validation")["mse"]}

    def measure(self, part: str) -> dict[str, Any]:
        """``mse``, the mean squared error in units of half the target's range."""
        sums = {"loss": 0.0, "count": 0.0}
        for batch in self._workers.distribute(self._parts.batch(part, self._workers.take_part())):
            found = self._measure_step(batch)
            sums = {key: sums[key] + float(found[key]) for key in sums}
        return {
            "mse": sums["loss"] / sums["count"],
            "num_heard": len(self._parts.list_clips(part)),
        }

    def place(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """Where the measures of the parts stand in ``metrics.json``: apart from those of clips."""
        return {"spectrogram_forcing": {**metrics, "target_range": list(self.target_range)}}

    def write_examples(self, folder: Path, part: str) -> None:
        """Write a few learnt spectrograms beside their targets, spread evenly over a part."""
        clips = self._parts.list_clips(part)
        places = np.unique(np.linspace(0, len(clips) - 1, _MOST_EXAMPLES).round().astype(int))
        chosen = [clips[place] for place in places]
        batches = build_dataset(
            chosen,
            audio=self._experiment.audio,
            num_classes=1 + max(clip.record.label_id for clip in chosen),
            batch_size=len(chosen),
            training=False,
        )
        learnt, target = (
            values.numpy()[..., 0] for values in self._compute_pair(next(iter(batches)))
        )
        ForcedExamples(learnt, target, [clip.record.clip_id for clip in chosen]).write(folder)

    def _compute_pair(self, batch: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """What the front end makes of a batch, and the scaled target."""
        smallest, largest = self.target_range
        centre, half = (largest + smallest) / 2.0, max((largest - smallest) / 2.0, 1e-12)
        target = (self._target(batch["waveform"], batch["num_samples"]) - centre) / half
        return self._front_end(batch["waveform"], batch["num_samples"]), target

    def _compute_errors(self, batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
        learnt, target = self._compute_pair(batch)
        return tf.reduce_mean(tf.square(learnt - target), axis=[1, 2, 3])

    def _build_measure_step(self) -> TrainStep:
        strategy = self._workers.strategy

        def replica_step(batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            weights = batch["weight"]
            errors = self._compute_errors(batch)
            return {"loss": tf.reduce_sum(weights * errors), "count": tf.reduce_sum(weights)}

        return compile_step(strategy, replica_step)

    def _find_range(self) -> tuple[float, float]:
        """The target's smallest and largest value; every worker looks at everything."""
        compute = tf.function(self._target, reduce_retracing=True)
        smallest, largest = np.inf, -np.inf
        for batch in self._parts.batch("train", EpochPart()):
            values = compute(batch["waveform"], batch["num_samples"]).numpy()
            smallest, largest = min(smallest, values.min()), max(largest, values.max())
        return float(smallest), float(largest)


def find_known_range(facts: Mapping[str, Any]) -> list[float] | None:
    """The target's range in the facts of a run that goes on."""
    found: list[float] | None = facts.get("spectrogram_forcing", {}).get("target_range")
    return found


def check_target(model: Classifier, experiment: Experiment) -> Target:
    """Build the target, and make sure that the front end's features have its shape.

    Returns:
        ``(waveform, num_samples)`` → the target's features; no gradient flows through it.

    Raises:
        RequestError: the shapes differ.
    """
    forcing = experiment.recipe.spectrogram_forcing
    if forcing is None:
        raise ValueError("the recipe has no spectrogram_forcing")
    layer = build_front_end(forcing.target, experiment.audio.sample_rate_hz)
    shape = (1, experiment.num_samples)
    mine = model.front_end.compute_output_shape(shape)[1:]
    wanted = layer.compute_output_shape(shape)[1:]
    if mine != wanted:
        raise RequestError(
            f"recipe.spectrogram_forcing.target: has {wanted[0]} frames of {wanted[1]} bands, and "
            f"front_end {experiment.front_end.name} makes {mine[0]} of {mine[1]}; bring hop, "
            "num_frames and bands together"
        )
    return lambda waveform, num_samples: tf.stop_gradient(layer(waveform, num_samples))
