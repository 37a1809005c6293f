"""Optimisers and learning-rate schedules from the recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from esc_tf.config.recipe import (
    AdamConfig,
    ConstantSchedule,
    RecipeConfig,
    ReduceOnPlateauSchedule,
)


def build_optimizer(
    recipe: RecipeConfig,
    steps_per_epoch: int,
    precision: str = "float32",
    rate_factors: Sequence[float] | None = None,
) -> keras.optimizers.Optimizer:
    """Build the optimiser with its schedule; call it under the strategy's scope.

    ``clip_norm`` clips each variable's gradient on its own, before the sum over devices.

    Args:
        recipe: optimiser, schedule and number of epochs.
        steps_per_epoch: optimiser steps in one epoch.
        precision: with ``mixed_float16`` the loss is scaled dynamically.
        rate_factors: what the learning rate is multiplied by, for each of the variables that the
            optimiser will be built on; None: 1 for all.
    """
    config = recipe.optimizer
    learning_rate = build_learning_rate(recipe, steps_per_epoch)
    common: dict[str, Any] = {"learning_rate": learning_rate, "clipnorm": config.clip_norm}
    if config.weight_decay is not None:
        common["weight_decay"] = config.weight_decay
    if isinstance(config, AdamConfig):
        common.update(beta_1=config.beta_1, beta_2=config.beta_2, epsilon=config.epsilon)
        common.update(amsgrad=config.amsgrad)
        decays = config.weight_decay is not None
        kind = keras.optimizers.AdamW if decays else keras.optimizers.Adam
    else:
        common.update(momentum=config.momentum, nesterov=config.nesterov)
        kind = keras.optimizers.SGD
    if rate_factors is not None:
        kind = _with_rate_factors(kind, rate_factors)
    optimizer = kind(**common)
    if precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def _with_rate_factors(
    kind: type[keras.optimizers.Optimizer], factors: Sequence[float]
) -> type[keras.optimizers.Optimizer]:
    """A Keras optimiser with a factor on the learning rate of each of its variables.

    The rate is scaled and not the gradient, to whose scale Adam is indifferent. Decoupled weight
    decay, which is proportional to the rate, is scaled with it.
    """

    class Factored(kind):
        def build(self, variables: Sequence[keras.Variable]) -> None:
            if len(variables) != len(factors):
                raise ValueError(
                    f"{len(factors)} factors were given, but there are {len(variables)} variables"
                )
            super().build(variables)

        def _apply_weight_decay(self, variables: Sequence[keras.Variable]) -> None:
            """Nothing here: ``update_step`` decays, since it knows which variable it updates."""

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            rate = learning_rate * factors[self._get_variable_index(variable)]
            if self.weight_decay is not None:
                decay = keras.ops.cast(rate * self.weight_decay, variable.dtype)
                self.assign_sub(variable, variable * decay)
            super().update_step(gradient, variable, rate)

    return Factored


def build_learning_rate(
    recipe: RecipeConfig, steps_per_epoch: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate as a number (constant, or changed by a callback) or a function of steps."""
    base, schedule = recipe.optimizer.learning_rate, recipe.schedule
    if isinstance(schedule, (ConstantSchedule, ReduceOnPlateauSchedule)):
        return base
    return EpochSchedule(base, steps_per_epoch, recipe.epochs, schedule.model_dump(mode="json"))


@keras.saving.register_keras_serializable("esc_tf")
class EpochSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that follows the epochs, counted in fractions of an epoch.

    Being a function of the optimiser's step count, it goes on unchanged after a resume.

    Args:
        base: the full learning rate.
        steps_per_epoch: optimiser steps in one epoch.
        epochs: length of the whole training.
        options: a dumped ``warmup_cosine``, ``warmup_linear``, ``exponential`` or ``stepwise``
            schedule.
    """

    def __init__(
        self, base: float, steps_per_epoch: int, epochs: int, options: dict[str, Any]
    ) -> None:
        super().__init__()
        self.base, self.steps_per_epoch, self.epochs = base, steps_per_epoch, epochs
        self.options = dict(options)

    def __call__(self, step: Any) -> Any:
        """Learning rate for optimiser step ``step`` (counted from 0)."""
        ops, options = keras.ops, self.options
        epoch = ops.cast(step, "float32") / self.steps_per_epoch
        if options["name"] == "exponential":
            drops = ops.maximum(ops.floor(epoch) + 1.0 - options["start_epoch"], 0.0)
            return self.base * ops.power(options["decay"], drops)
        if options["name"] == "stepwise":
            drops = ops.floor(ops.cast(step, "float32") / options["every_steps"])
            return self.base * ops.power(options["decay"], drops)
        warmup = options["warmup_epochs"]
        # The first step must move: count the step under way as done.
        rising = ops.minimum((epoch + 1.0 / self.steps_per_epoch) / max(warmup, 1e-9), 1.0)
        if options.get("warmup") == "exponential":
            rising = ops.exp(-5.0 * ops.square(1.0 - rising))
        flat_until = warmup + options.get("constant_epochs", 0.0)
        falling_epochs = options.get("decay_epochs") or self.epochs - flat_until
        progress = ops.clip((epoch - flat_until) / max(falling_epochs, 1e-9), 0.0, 1.0)
        if options["name"] == "warmup_cosine":
            shape = 0.5 * (1.0 + ops.cos(math.pi * progress))
        else:
            shape = 1.0 - progress
        falling = options["final_fraction"] + (1.0 - options["final_fraction"]) * shape
        return self.base * ops.where(epoch < warmup, rising, falling)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            "base": self.base,
            "steps_per_epoch": self.steps_per_epoch,
            "epochs": self.epochs,
            "options": self.options,
        }
