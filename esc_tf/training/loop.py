"""The one training loop, the same under every strategy.

Epochs of ``strategy.run`` steps with the standard Keras callbacks beside them. Keras ``fit`` is
not used: it fails under several workers and cannot go on in the middle of a schedule.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from esc_tf.config.recipe import RecipeConfig
from esc_tf.errors import TrainingError
from esc_tf.evaluation.predictions import distribute
from esc_tf.training.callbacks import (
    collect_callback_state,
    monitor_mode,
    restore_callback_state,
)
from esc_tf.training.checkpoints import (
    BEST_FILE,
    delete_old_checkpoints,
    epoch_path,
    find_checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from esc_tf.training.run_directory import RunDirectory


class BuildEpoch(Protocol):
    """Makes the training batches of an epoch, counted from 0; the same for the same epoch."""

    def __call__(self, epoch: int) -> tf.data.Dataset: ...


@dataclass
class Progress:
    """How far a run has come; what a checkpoint holds beside variables."""

    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int | None = None
    stopped: bool = False
    callbacks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """Number of epochs done."""
        return len(self.history)


class TrainingLoop:
    """Trains a model epoch by epoch and can go on where an earlier process stopped.

    Args:
        model: a built classifier.
        optimizer: built on its trainable variables, under the same strategy.
        strategy: runs the steps.
        recipe: epochs, what to monitor, how many checkpoints to keep.
        run: the claimed run directory.
        train_step: a distributed batch → sums over it.
        validate: measures the model, returns ``validation_*`` numbers; may return nothing.
        clip_ids: names of the training clips, for messages.
        callbacks: standard Keras callbacks; they see the model and the epoch's numbers.
    """

    def __init__(
        self,
        *,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        strategy: tf.distribute.Strategy,
        recipe: RecipeConfig,
        run: RunDirectory,
        train_step: Callable[[Mapping[str, object]], Mapping[str, tf.Tensor]],
        validate: Callable[[], dict[str, float]],
        clip_ids: Sequence[str],
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> None:
        self.model, self.optimizer, self.strategy = model, optimizer, strategy
        self.recipe, self.run, self.clip_ids = recipe, run, clip_ids
        self.train_step, self.validate = train_step, validate
        self.callbacks = list(callbacks)
        self.progress = Progress()

    def resume(self) -> None:
        """Load the newest checkpoint, if there is one, and put the log in step with it.

        Raises:
            CheckpointError: the newest checkpoint does not fit this run.
        """
        found = find_checkpoints(self.run.checkpoint_path)
        if found:
            state = read_checkpoint(found[-1], self._variables())
            self.progress = Progress(**state)
        # The log may lag one epoch behind the checkpoint, or lead by none: rewrite it.
        self.run.write_history(self.progress.history)

    def train(self, build_epoch: BuildEpoch, steps_per_epoch: int) -> Progress:
        """Train until the last epoch or until a callback stops it.

        Raises:
            TrainingError: the loss is not finite; the step and its clips are named.
        """
        shown = keras.callbacks.CallbackList(
            self.callbacks,
            add_progbar=True,
            model=self.model,
            # A terminal gets a moving bar, a log file one line an epoch.
            verbose=1 if sys.stdout.isatty() else 2,
            epochs=self.recipe.epochs,
            steps=steps_per_epoch,
        )
        self.model.stop_training = self.progress.stopped
        # Callbacks of Keras look for the optimiser here; the saved model must not carry it.
        self.model.optimizer = self.optimizer
        try:
            shown.on_train_begin()
            restore_callback_state(self.callbacks, self.progress.callbacks)
            while self.progress.epoch < self.recipe.epochs and not self.model.stop_training:
                self._train_epoch(build_epoch, shown)
            shown.on_train_end()
        finally:
            self.model.optimizer = None
        return self.progress

    def load_selected(self) -> int:
        """Put the weights that ``recipe.select`` asks for into the model; return their epoch."""
        best = self.run.checkpoint_path / BEST_FILE
        if self.recipe.select == "best" and best.is_file():
            state = read_checkpoint(best, {"model": self.model.variables})
            return int(state["epoch"])
        return self.progress.epoch

    def _train_epoch(self, build_epoch: BuildEpoch, shown: keras.callbacks.CallbackList) -> None:
        epoch, started = self.progress.epoch, time.monotonic()
        shown.on_epoch_begin(epoch)
        sums = {"loss": 0.0, "correct": 0.0, "count": 0.0}
        batches = distribute(build_epoch(epoch), self.strategy)
        for step, batch in enumerate(batches):
            shown.on_train_batch_begin(step)
            measured = {key: float(value) for key, value in self.train_step(batch).items()}
            if not math.isfinite(measured["loss"]):
                raise TrainingError(self._describe_bad_step(epoch, step, batch, measured["loss"]))
            sums = {key: sums[key] + measured[key] for key in sums}
            shown.on_train_batch_end(
                step,
                {"loss": sums["loss"] / sums["count"], "accuracy": sums["correct"] / sums["count"]},
            )
        trained_s = time.monotonic() - started
        logs = {
            "loss": sums["loss"] / sums["count"],
            "accuracy": sums["correct"] / sums["count"],
            **self.validate(),
            "learning_rate": float(keras.ops.convert_to_numpy(self.optimizer.learning_rate)),
        }
        shown.on_epoch_end(epoch, dict(logs))
        timing = {
            "clips_per_s": round(sums["count"] / trained_s, 2),
            "seconds": round(time.monotonic() - started, 2),
        }
        self._record({"epoch": epoch + 1, **logs, **timing})

    def _record(self, line: dict[str, float]) -> None:
        """Checkpoint the epoch; only then does it stand in the log."""
        progress = self.progress
        progress.history.append(line)
        value = line.get(self.recipe.monitor)
        if value is not None and self._is_best(value):
            progress.best_epoch = int(line["epoch"])
            write_checkpoint(
                self.run.checkpoint_path / BEST_FILE,
                {"model": self.model.variables},
                {"epoch": progress.best_epoch},
            )
        progress.stopped = bool(self.model.stop_training)
        progress.callbacks = collect_callback_state(self.callbacks)
        path = epoch_path(self.run.checkpoint_path, progress.epoch)
        write_checkpoint(path, self._variables(), vars(progress))
        self.run.write_history(progress.history)
        delete_old_checkpoints(self.run.checkpoint_path, self.recipe.keep_checkpoints)

    def _is_best(self, value: float) -> bool:
        monitor = self.recipe.monitor
        earlier = [line[monitor] for line in self.progress.history[:-1] if monitor in line]
        if not earlier:
            return True
        return value < min(earlier) if monitor_mode(monitor) == "min" else value > max(earlier)

    def _variables(self) -> dict[str, list[keras.Variable]]:
        return {"model": self.model.variables, "optimizer": self.optimizer.variables}

    def _describe_bad_step(
        self, epoch: int, step: int, batch: Mapping[str, object], loss: float
    ) -> str:
        local = self.strategy.experimental_local_results(batch["index"])
        ids = [self.clip_ids[index] for index in np.concatenate([item.numpy() for item in local])]
        return (
            f"the loss became {loss} in epoch {epoch + 1}, step {step + 1} "
            f"(clips: {', '.join(ids)}); lower recipe.optimizer.learning_rate, set "
            "recipe.optimizer.clip_norm, or look at these clips. The last checkpoint is whole"
        )
