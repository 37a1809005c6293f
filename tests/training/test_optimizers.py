"""Learning rates as numbers, and optimisers as the recipe says."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from esc_tf.config.recipe import RecipeConfig
from esc_tf.training.optimizers import EpochSchedule, build_learning_rate, build_optimizer


def _recipe(**options: object) -> RecipeConfig:
    return RecipeConfig.model_validate({"epochs": 20, **options})


def _rates(recipe: RecipeConfig, steps_per_epoch: int) -> np.ndarray:
    schedule = build_learning_rate(recipe, steps_per_epoch)
    assert isinstance(schedule, EpochSchedule)
    return np.array([float(schedule(step)) for step in range(20 * steps_per_epoch)])


class LearningRateTest(tf.test.TestCase):
    def test_warmup_rises_in_a_line_and_the_cosine_falls_to_zero(self) -> None:
        recipe = _recipe(
            optimizer={"name": "adam", "learning_rate": 0.01},
            schedule={"name": "warmup_cosine", "warmup_epochs": 4.0},
        )
        rates = _rates(recipe, 10)
        np.testing.assert_allclose(rates[:40], 0.01 * np.arange(1, 41) / 40, rtol=1e-5)
        self.assertAllClose(rates[40], 0.01)
        # Half way down after half of the 16 epochs that are left.
        self.assertAllClose(rates[40 + 80], 0.005, atol=1e-6)
        self.assertAllClose(rates[-1], 0.01 * 0.5 * (1 + math.cos(math.pi * 159 / 160)), atol=1e-7)

    def test_warmup_linear_holds_then_falls_to_the_final_fraction(self) -> None:
        recipe = _recipe(
            optimizer={"name": "sgd", "learning_rate": 1.0},
            schedule={
                "name": "warmup_linear",
                "warmup_epochs": 2.0,
                "constant_epochs": 8.0,
                "final_fraction": 0.1,
            },
        )
        rates = _rates(recipe, 5)
        self.assertAllClose(rates[10:50], np.ones(40))
        self.assertAllClose(rates[50 + 25], 0.55, atol=1e-6)
        self.assertLess(rates[-1], 0.12)
        self.assertGreater(rates[-1], 0.1)

    def test_exponential_drops_once_an_epoch_from_its_start(self) -> None:
        recipe = _recipe(
            optimizer={"name": "adam", "learning_rate": 1.0},
            schedule={"name": "exponential", "decay": 0.85, "start_epoch": 5},
        )
        rates = _rates(recipe, 4).reshape(20, 4)
        # The drop comes AFTER epoch 5, so its effect begins with epoch 6.
        self.assertAllClose(rates[:5], np.ones((5, 4)))
        for epoch in range(5, 20):
            self.assertAllClose(rates[epoch], np.full(4, 0.85 ** (epoch - 4)), rtol=1e-5)

    def test_constant_and_plateau_are_plain_numbers(self) -> None:
        for name in ("constant", "reduce_on_plateau"):
            self.assertEqual(build_learning_rate(_recipe(schedule={"name": name}), 3), 1e-3)

    def test_schedule_survives_its_config(self) -> None:
        schedule = build_learning_rate(_recipe(schedule={"name": "warmup_cosine"}), 7)
        again = EpochSchedule.from_config(schedule.get_config())
        for step in (0, 3, 77, 139):
            self.assertEqual(float(schedule(step)), float(again(step)))


class OptimizerTest(tf.test.TestCase):
    def test_settings_reach_keras(self) -> None:
        sgd = build_optimizer(
            _recipe(optimizer={"name": "sgd", "learning_rate": 0.02, "clip_norm": 3.0}), 1
        )
        self.assertEqual((sgd.momentum, sgd.nesterov, sgd.clipnorm), (0.9, True, 3.0))
        adamw = build_optimizer(_recipe(optimizer={"name": "adam", "weight_decay": 0.01}), 1)
        self.assertEqual(type(adamw).__name__, "AdamW")
        scaled = build_optimizer(_recipe(), 1, "mixed_float16")
        self.assertEqual(type(scaled).__name__, "LossScaleOptimizer")


if __name__ == "__main__":
    tf.test.main()
