"""Learning rates as numbers, and optimisers as the recipe says."""

from __future__ import annotations

import math

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

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

    def test_exponential_warmup_is_laine_and_ailas_and_the_way_down_ends_where_it_is_told(
        self,
    ) -> None:
        recipe = _recipe(
            optimizer={"name": "adam", "learning_rate": 6e-5},
            schedule={
                "name": "warmup_linear",
                "warmup": "exponential",
                "warmup_epochs": 4.0,
                "decay_epochs": 10.0,
                "final_fraction": 0.01,
            },
        )
        rates = _rates(recipe, 10) / 6e-5
        done = np.arange(1, 41) / 40
        np.testing.assert_allclose(rates[:40], np.exp(-5.0 * (1.0 - done) ** 2), rtol=1e-5)
        self.assertAllClose(rates[[40, 90, 140]], [1.0, 0.505, 0.01], rtol=1e-5)
        self.assertAllClose(rates[140:], np.full(60, 0.01), rtol=1e-5)

    def test_stepwise_counts_optimiser_steps_and_no_epochs(self) -> None:
        schedule = {"name": "stepwise", "decay": 0.9, "every_steps": 100}
        recipe = _recipe(optimizer={"name": "adam", "learning_rate": 1e-4}, schedule=schedule)
        for steps_per_epoch in (17, 40):
            rates = _rates(recipe, steps_per_epoch)
            expected = 1e-4 * 0.9 ** (np.arange(len(rates)) // 100)
            np.testing.assert_allclose(rates, expected, rtol=1e-5)

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
        self.assertFalse(adamw.amsgrad)
        amsgrad = build_optimizer(_recipe(optimizer={"name": "adam", "amsgrad": True}), 1)
        self.assertTrue(amsgrad.amsgrad)

    def test_each_variables_gradient_is_clipped_on_its_own(self) -> None:
        options = {"name": "sgd", "learning_rate": 1.0, "momentum": 0.0, "nesterov": False}
        optimizer = build_optimizer(_recipe(optimizer={**options, "clip_norm": 3.0}), 1)
        variables = [keras.Variable(np.zeros(2)) for _ in range(3)]
        optimizer.build(variables)
        gradients = [[30.0, 40.0], [0.3, 0.4], [0.0, -6.0]]
        optimizer.apply([tf.constant(values) for values in gradients], variables)
        # Clipped by the norm of all together, none would keep its length.
        moved = [-np.array(variable) for variable in variables]
        self.assertAllClose(moved, [[1.8, 2.4], [0.3, 0.4], [0.0, -3.0]])

    def test_amsgrad_by_hand(self) -> None:
        options = {"name": "adam", "learning_rate": 0.1, "amsgrad": True, "epsilon": 1e-8}
        optimizer = build_optimizer(_recipe(optimizer=options), 1)
        variable = keras.Variable([1.0])
        optimizer.build([variable])
        value, m, v, largest = 1.0, 0.0, 0.0, 0.0
        for step, gradient in enumerate((2.0, 0.1, 0.1, -0.3), start=1):
            optimizer.apply([tf.constant([gradient])], [variable])
            m = 0.9 * m + 0.1 * gradient
            v = 0.999 * v + 0.001 * gradient**2
            largest = max(largest, v)
            rate = 0.1 * math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            value -= rate * m / (math.sqrt(largest) + 1e-8)
            self.assertAllClose(variable.numpy(), [value], rtol=1e-5)


class RateFactorTest(tf.test.TestCase, parameterized.TestCase):
    FACTORS = (1.0, 0.1, 0.0625)
    START = (1.0, -2.0, 0.5)

    def train(
        self, options: dict, factors: tuple[float, ...] | None, precision: str = "float32"
    ) -> tuple[np.ndarray, keras.optimizers.Optimizer]:
        """Some steps on three scalars; returns their path ``(steps, 3)``."""
        recipe = _recipe(optimizer=options, schedule={"name": "exponential", "decay": 0.5})
        optimizer = build_optimizer(recipe, 2, precision, factors)
        variables = [keras.Variable([start]) for start in self.START]
        optimizer.build(variables)
        path = []
        for gradients in np.random.default_rng(0).normal(size=(6, 3, 1)):
            scaled = optimizer.scale_loss(tf.constant(gradients, tf.float32))
            optimizer.apply(list(scaled), variables)
            path.append([float(variable.numpy()[0]) for variable in variables])
        return np.array(path), optimizer

    @parameterized.parameters(
        {"name": "adam", "learning_rate": 0.1},
        {"name": "adam", "learning_rate": 0.1, "amsgrad": True},
        {"name": "sgd", "learning_rate": 0.1, "clip_norm": 0.5},
        {"name": "sgd", "learning_rate": 0.1, "momentum": 0.0, "nesterov": False},
    )
    def test_each_variable_moves_by_its_share(self, **options: object) -> None:
        # Without weight decay a step does not depend on where the variable is.
        plain, _ = self.train(options, None)
        path, _ = self.train(options, self.FACTORS)
        moved, expected = path - self.START, (plain - self.START) * self.FACTORS
        np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-6)
        self.assertAllEqual(path[:, 0], plain[:, 0])

    @parameterized.parameters("adam", "sgd")
    def test_decoupled_weight_decay_is_scaled_too(self, name: str) -> None:
        options = {"name": name, "learning_rate": 0.1, "weight_decay": 0.2}
        plain, _ = self.train(options, None)
        ones, _ = self.train(options, (1.0, 1.0, 1.0))
        self.assertAllClose(ones, plain, rtol=1e-6)
        # A tenth of the rate is a tenth of the rate, decay included.
        slow, _ = self.train({**options, "learning_rate": 0.01}, None)
        path, _ = self.train(options, (0.1, 0.1, 0.1))
        self.assertAllClose(path, slow, rtol=1e-5)

    def test_loss_scaling_wraps_it(self) -> None:
        options = {"name": "adam", "learning_rate": 0.1}
        plain, _ = self.train(options, self.FACTORS)
        scaled, optimizer = self.train(options, self.FACTORS, "mixed_float16")
        self.assertEqual(type(optimizer).__name__, "LossScaleOptimizer")
        self.assertAllClose(scaled, plain, rtol=1e-5)

    def test_a_factor_for_each_variable_is_needed(self) -> None:
        optimizer = build_optimizer(_recipe(), 1, rate_factors=[1.0])
        with self.assertRaisesRegex(ValueError, "1 factors were given, but there are 2 variables"):
            optimizer.build([keras.Variable([0.0]), keras.Variable([0.0])])


if __name__ == "__main__":
    tf.test.main()
