"""The one training loop, the same under every strategy.

Epochs of ``strategy.run`` steps with the standard Keras callbacks beside them. Keras ``fit`` is
not used: it fails under several workers and cannot go on in the middle of a schedule.

Several workers run this loop in step. Whatever one of them decides by what it alone knows, such as
a signal, goes through ``Workers``, so that all decide the same; the chief alone writes.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import keras
import numpy as np
import tensorflow as tf

from esc_tf.config.recipe import RecipeConfig
from esc_tf.data import EpochPart
from esc_tf.errors import (
    CheckpointError,
    EscTfError,
    Terminated,
    TrainingError,
    UnreadableDataError,
)
from esc_tf.evaluation.workers import Workers
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
from esc_tf.training.devices import find_batch_norms
from esc_tf.training.run_directory import RunDirectory
from esc_tf.training.termination import StopSignal

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_Read = TypeVar("_Read")


class BuildEpoch(Protocol):
    """Makes part of the training batches of an epoch, counted from 0.

    The same epoch must always have the same batches, and a part the same rows as the whole.
    """

    def __call__(self, epoch: int, part: EpochPart) -> tf.data.Dataset: ...


@dataclass
class Progress:
    """How far a run has come; what a checkpoint holds beside variables."""

    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int | None = None
    stopped: bool = False
    callbacks: list[dict[str, Any]] = field(default_factory=list)
    # Of the epoch under way: steps done, and what they add up to.
    steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """Number of epochs done."""
        return len(self.history)


class TrainingLoop:
    """Trains a model epoch by epoch and can go on where an earlier process stopped.

    Args:
        model: a built classifier.
        optimizer: built on its trainable variables, under the same strategy.
        workers: those that share the run, with the strategy that runs the steps.
        recipe: epochs, what to monitor, how many checkpoints to keep.
        run: the claimed run directory.
        train_step: a distributed batch → sums over it.
        validate: measures the model, returns ``validation_*`` numbers; may return nothing.
        clip_ids: names of the training clips, for messages.
        read_patience_s: how long to try again to read data that cannot be read.
        stop: asked after each step whether to stop.
        callbacks: standard Keras callbacks; they see the model and the epoch's numbers.
        left_behind: variables that are trained along and are no part of the model.
    """

    def __init__(
        self,
        *,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        workers: Workers,
        recipe: RecipeConfig,
        run: RunDirectory,
        train_step: Callable[[Mapping[str, object]], Mapping[str, tf.Tensor]],
        validate: Callable[[], dict[str, float]],
        clip_ids: Sequence[str],
        read_patience_s: float = 0.0,
        stop: StopSignal | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        left_behind: Sequence[keras.Variable] = (),
    ) -> None:
        self.model, self.optimizer, self.workers = model, optimizer, workers
        self.recipe, self.run, self.clip_ids = recipe, run, clip_ids
        self.train_step, self.validate = train_step, validate
        self.callbacks, self.left_behind = list(callbacks), list(left_behind)
        self.read_patience_s, self.stop = read_patience_s, stop or StopSignal()
        self.progress = Progress()
        self._average = tf.function(self._average_batch_statistics, autograph=False)

    def resume(self) -> None:
        """Load the newest checkpoint, if there is one, and put the log in step with it.

        Raises:
            CheckpointError: the newest checkpoint does not fit this run.
            TrainingError: the workers do not see the same checkpoints.
        """
        folder = self.run.checkpoint_path
        found = find_checkpoints(folder) if folder.is_dir() else []
        if found:
            state = read_checkpoint(found[-1], self._variables())
            self.progress = Progress(**state)
        came = self.workers.gather(np.array([self.progress.epoch, self.progress.steps], np.int32))
        if (came != came[0]).any():
            self.workers.part()
            raise TrainingError(
                "the workers found different checkpoints (epochs and steps: "
                f"{came.tolist()}); give all of them the same shared --run-dir"
            )
        # The log may lag one epoch behind the checkpoint, or lead by none: rewrite it.
        self.run.write_history(self.progress.history)

    def train(self, build_epoch: BuildEpoch, steps_per_epoch: int) -> Progress:
        """Train until the last epoch or until a callback stops it.

        Raises:
            TrainingError: the loss is not finite; the step and its clips are named.
            UnreadableDataError: data cannot be read for longer than ``read_patience_s``.
            Terminated: SIGTERM came; the step under way is done and checkpointed.
        """
        # A terminal gets a moving bar, a log file one line an epoch; one worker speaks for all.
        verbose = (1 if sys.stdout.isatty() else 2) if self.workers.is_chief else 0
        shown = keras.callbacks.CallbackList(
            self.callbacks,
            add_progbar=True,
            model=self.model,
            verbose=verbose,
            epochs=self.recipe.epochs,
            steps=steps_per_epoch,
        )
        self.model.stop_training = self.progress.stopped
        # Callbacks of Keras look for the optimiser here; the saved model must not carry it.
        self.model.optimizer = self.optimizer
        try:
            with self.stop.held():
                shown.on_train_begin()
                restore_callback_state(self.callbacks, self.progress.callbacks)
                while self.progress.epoch < self.recipe.epochs and not self.model.stop_training:
                    try:
                        self._train_epoch(build_epoch, steps_per_epoch, shown)
                    except Exception as error:
                        # A library through which Terminated passes may make its own kind of it.
                        foreign = self.stop.requested and not isinstance(error, EscTfError)
                        if not foreign and not isinstance(error, Terminated):
                            raise
                        self._checkpoint_middle()
                        raise Terminated(self._describe_stop(steps_per_epoch)) from None
                shown.on_train_end()
        finally:
            self.model.optimizer = None
        return self.progress

    def load_selected(self) -> int:
        """Put the weights that ``recipe.select`` asks for into the model; return their epoch."""
        if self.recipe.select == "best" and self.progress.best_epoch is not None:
            best = self.run.checkpoint_path / BEST_FILE
            state = read_checkpoint(best, {"model": self.model.variables})
            return int(state["epoch"])
        return self.progress.epoch

    def _train_epoch(
        self, build_epoch: BuildEpoch, total: int, shown: keras.callbacks.CallbackList
    ) -> None:
        progress, started = self.progress, time.monotonic()
        epoch = progress.epoch
        shown.on_epoch_begin(epoch)
        sums = {"loss": 0.0, "count": 0.0, **progress.sums}
        counted_before = sums["count"]
        for step, batch in self._read_batches(build_epoch, epoch, total):
            shown.on_train_batch_begin(step)
            measured = {key: float(value) for key, value in self.train_step(batch).items()}
            if not math.isfinite(measured["loss"]):
                self.workers.part()
                raise TrainingError(self._describe_bad_step(epoch, step, batch, measured["loss"]))
            sums = {key: sums.get(key, 0.0) + value for key, value in measured.items()}
            progress.steps, progress.sums = step + 1, sums
            shown.on_train_batch_end(step, _average_sums(sums))
            self._stop_if_asked()
        trained_s = time.monotonic() - started
        self._average()
        logs = {
            **_average_sums(sums),
            **self._read_patiently(self._validate),
            "learning_rate": float(keras.ops.convert_to_numpy(self.optimizer.learning_rate)),
        }
        shown.on_epoch_end(epoch, dict(logs))
        self.model.stop_training = self.workers.any(bool(self.model.stop_training))
        timing = {
            "clips_per_s": round((sums["count"] - counted_before) / max(trained_s, 1e-9), 2),
            "seconds": round(time.monotonic() - started, 2),
        }
        self._record({"epoch": epoch + 1, **logs, **timing})
        self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        """Raise ``Terminated`` on all workers if one of them was asked to stop."""
        if self.workers.any(self.stop.requested):
            raise Terminated("stopped by SIGTERM")

    def _validate(self) -> dict[str, float]:
        if self.workers.count > 1:  # a worker that leaves alone would leave the others waiting
            return self.validate()
        with self.stop.released():
            return self.validate()

    def _read_batches(
        self, build_epoch: BuildEpoch, epoch: int, total: int
    ) -> Iterator[tuple[int, Any]]:
        """Yield the steps of an epoch that are not done yet, each with its batch."""
        workers = self.workers
        batches: Iterator[Any] | None = None

        def read() -> Any:
            nonlocal batches
            # After a failure a new data set starts at the batch that could not be read.
            source, batches = batches, None
            if source is None:
                source = workers.distribute(build_epoch(epoch, workers.take_part(step)))
            batch = next(source)
            batches = source
            return batch

        for step in range(self.progress.steps, total):  # noqa: B007
            yield step, self._read_patiently(read)

    def _read_patiently(self, read: Callable[[], _Read]) -> _Read:
        """Call ``read`` again, at growing intervals, while data cannot be read.

        Raises:
            UnreadableDataError: for too long; what is done of the epoch is checkpointed.
        """
        started, wait_s = time.monotonic(), _FIRST_WAIT_S
        while True:
            try:
                return read()
            except UnreadableDataError as error:
                reason = str(error)
                left_s = self.read_patience_s - (time.monotonic() - started)
                if left_s <= 0.0:
                    problems = [self._describe_unreadable(reason)]
                    if self.workers.count == 1:
                        try:
                            self._checkpoint_middle()
                        except CheckpointError as second:  # the same share, perhaps
                            problems += second.problems
                    raise UnreadableDataError(problems) from error
            wait_s = min(wait_s, left_s)
            print(f"{reason}; trying again in {wait_s:.1f} s", file=sys.stderr, flush=True)
            if self.workers.count > 1:
                time.sleep(wait_s)
            else:
                with self.stop.released():
                    time.sleep(wait_s)
            wait_s = min(2.0 * wait_s, _LONGEST_WAIT_S)

    def _average_batch_statistics(self) -> None:
        """Give all devices the mean of what each has seen; a checkpoint has room for one."""
        strategy = self.workers.strategy
        if strategy.num_replicas_in_sync == 1:
            return
        variables = [
            variable
            for layer in find_batch_norms(self.model)
            for variable in (layer.moving_mean, layer.moving_variance)
        ]
        seen = strategy.run(lambda: [tf.identity(variable.value) for variable in variables])
        for variable, values in zip(variables, seen, strict=True):
            mean = strategy.reduce(tf.distribute.ReduceOp.MEAN, values, axis=None)
            variable.assign(mean)

    def _record(self, line: dict[str, float]) -> None:
        """Checkpoint the epoch; only then does it stand in the log."""
        progress = self.progress
        progress.history.append(line)
        progress.steps, progress.sums = 0, {}
        value = line.get(self.recipe.monitor)
        if value is not None and self._is_best(value):
            progress.best_epoch = int(line["epoch"])
            self._write_checkpoint(
                self.run.checkpoint_path / BEST_FILE,
                {"model": self.model.variables},
                {"epoch": progress.best_epoch},
            )
        progress.stopped = bool(self.model.stop_training)
        progress.callbacks = collect_callback_state(self.callbacks)
        path = epoch_path(self.run.checkpoint_path, progress.epoch)
        self._write_checkpoint(path, self._variables(), vars(progress))
        self.run.write_history(progress.history)
        if self.workers.is_chief:
            delete_old_checkpoints(self.run.checkpoint_path, self.recipe.keep_checkpoints)
        self.workers.wait()  # nobody reads, or leaves, before it is written

    def _checkpoint_middle(self) -> None:
        """Keep what is done of the epoch under way; after a whole epoch it is kept already."""
        progress = self.progress
        if progress.steps:
            self._average()
            progress.callbacks = collect_callback_state(self.callbacks)
            path = epoch_path(self.run.checkpoint_path, progress.epoch, progress.steps)
            self._write_checkpoint(path, self._variables(), vars(progress))
        self.workers.part()

    def _write_checkpoint(
        self, path: Path, variables: Mapping[str, Sequence[keras.Variable]], state: dict[str, Any]
    ) -> None:
        if self.workers.is_chief:
            write_checkpoint(path, variables, state)

    def _is_best(self, value: float) -> bool:
        monitor = self.recipe.monitor
        earlier = [line[monitor] for line in self.progress.history[:-1] if monitor in line]
        if not earlier:
            return True
        return value < min(earlier) if monitor_mode(monitor) == "min" else value > max(earlier)

    def _variables(self) -> dict[str, list[keras.Variable]]:
        return {
            "model": self.model.variables,
            "optimizer": self.optimizer.variables,
            "left_behind": self.left_behind,
        }

    def _describe_bad_step(
        self, epoch: int, step: int, batch: Mapping[str, object], loss: float
    ) -> str:
        local = self.workers.strategy.experimental_local_results(batch["index"])
        ids = [self.clip_ids[index] for index in np.concatenate([item.numpy() for item in local])]
        return (
            f"the loss became {loss} in epoch {epoch + 1}, step {step + 1} "
            f"(clips: {', '.join(ids)}); lower recipe.optimizer.learning_rate, set "
            "recipe.optimizer.clip_norm, or look at these clips. The last checkpoint is whole"
        )

    def _describe_unreadable(self, reason: str) -> str:
        return (
            f"epoch {self.progress.epoch + 1}, after step {self.progress.steps}: {reason}. It was "
            f"tried for {self.read_patience_s:g} s; bring the data back and go on with --resume "
            "(what is lost of the cache is decoded again). The last checkpoint is whole"
        )

    def _describe_stop(self, total: int) -> str:
        progress = self.progress
        where = f"after epoch {progress.epoch} of {self.recipe.epochs}"
        if progress.steps:
            where = f"in epoch {progress.epoch + 1}, after step {progress.steps} of {total}"
        return f"stopped by SIGTERM {where}; all that is done is kept, go on with --resume"


def _average_sums(sums: Mapping[str, float]) -> dict[str, float]:
    """Loss and, where there are classes, accuracy of the clips so far."""
    found = {"loss": sums["loss"] / sums["count"]}
    if "correct" in sums:
        found["accuracy"] = sums["correct"] / sums["count"]
    return found
