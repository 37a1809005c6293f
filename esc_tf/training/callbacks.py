"""Standard Keras callbacks from the recipe, driven by the training loop, and their state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from esc_tf.config.recipe import RecipeConfig, ReduceOnPlateauSchedule

# What the stopping and plateau callbacks of Keras count; they reset it when training begins.
_COUNTERS = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter")


def build_callbacks(
    recipe: RecipeConfig, run_path: Path, writes: bool = True
) -> list[keras.callbacks.Callback]:
    """The callbacks that the recipe asks for; one that writes files only where ``writes``."""
    callbacks: list[keras.callbacks.Callback] = []
    if isinstance(recipe.schedule, ReduceOnPlateauSchedule):
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                monitor=recipe.schedule.monitor,
                mode=monitor_mode(recipe.schedule.monitor),
                factor=recipe.schedule.factor,
                patience=recipe.schedule.patience,
                min_lr=recipe.schedule.min_learning_rate,
            )
        )
    if recipe.early_stopping is not None:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                monitor=recipe.early_stopping.monitor,
                mode=monitor_mode(recipe.early_stopping.monitor),
                patience=recipe.early_stopping.patience,
                min_delta=recipe.early_stopping.min_delta,
            )
        )
    if recipe.tensorboard and writes:
        callbacks.append(TensorBoardScalars(run_path / "tensorboard"))
    return callbacks


def monitor_mode(monitor: str) -> str:
    """``min`` for losses, ``max`` for everything else."""
    return "min" if monitor.endswith("loss") else "max"


def collect_callback_state(callbacks: Sequence[keras.callbacks.Callback]) -> list[dict[str, Any]]:
    """Counters of the callbacks, JSON-able, in their order."""
    states = []
    for callback in callbacks:
        counters = {key: getattr(callback, key) for key in _COUNTERS if hasattr(callback, key)}
        numbers = {key: None if value is None else float(value) for key, value in counters.items()}
        states.append({"callback": type(callback).__name__, **numbers})
    return states


def restore_callback_state(
    callbacks: Sequence[keras.callbacks.Callback], states: Sequence[dict[str, Any]]
) -> None:
    """Put counters back; call it after ``on_train_begin``, which resets them.

    Callbacks are told apart by their class and their order within it, so that adding one of
    another kind between two starts does no harm.
    """
    waiting = list(states)
    for callback in callbacks:
        for state in waiting:
            if state["callback"] == type(callback).__name__:
                for key in _COUNTERS:
                    if key in state:
                        value = state[key]
                        whole = value is not None and key != "best"
                        setattr(callback, key, int(value) if whole else value)
                waiting.remove(state)
                break


class TensorBoardScalars(keras.callbacks.Callback):
    """Write each epoch's numbers for TensorBoard.

    Keras's own TensorBoard callback reads counters that only ``fit`` keeps.

    Args:
        folder: where the event files go.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._writer: tf.summary.SummaryWriter | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write ``logs`` at step ``epoch + 1``."""
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self._folder))
        with self._writer.as_default():
            for key, value in (logs or {}).items():
                tf.summary.scalar(key, value, step=epoch + 1)
        self._writer.flush()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
