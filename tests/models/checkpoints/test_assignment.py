"""Tensors into weights: all of them fit, or the model stays as it was and both sides are named."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from esc_tf.errors import CheckpointError
from esc_tf.models.checkpoints.assignment import assign_weights, find_weights
from esc_tf.models.checkpoints.rules import (
    BATCH_COUNTERS,
    CONV_OF_MEL_TIME,
    Fill,
    Ignore,
    Keep,
    Rules,
    fill_batch_norm,
    fill_dense,
)


def small_model() -> keras.Model:
    """A convolution, a norm, dropout and a dense layer, in a model inside a model."""
    image = keras.Input((None, None, 2))
    x = layers.Conv2D(3, (5, 4), use_bias=False, name="conv")(image)
    x = layers.Dropout(0.5)(layers.BatchNormalization(name="norm")(x))
    inner = keras.Model(image, layers.GlobalAveragePooling2D()(x), name="inner")
    image = keras.Input((None, None, 2))
    return keras.Model(image, layers.Dense(6, name="dense")(inner(image)), name="outer")


FILLS = (
    Fill("0.weight", "conv/kernel", CONV_OF_MEL_TIME),
    *fill_batch_norm("1", "norm"),
    *fill_dense("fc", "dense"),
)
RULES = Rules(FILLS, ignores=(BATCH_COUNTERS, Ignore("spare.*", "never used")))


def tensors(**changes: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {
        "0.weight": (3, 2, 4, 5),
        "1.weight": (3,),
        "1.bias": (3,),
        "1.running_mean": (3,),
        "1.running_var": (3,),
        "fc.weight": (6, 3),
        "fc.bias": (6,),
    }
    made: dict[str, Any] = {
        name: rng.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in shapes.items()
    }
    made["1.num_batches_tracked"] = np.array(7)
    made.update(changes)
    return {name: value for name, value in made.items() if value is not None}


class AssignmentTest(tf.test.TestCase):
    def assert_refused(self, found: dict[str, np.ndarray], *messages: str, rules: Rules = RULES):
        model = small_model()
        before = [weight.numpy() for weight in model.weights]
        with self.assertRaises(CheckpointError) as caught:
            assign_weights(model, found, rules)
        for message in messages:
            self.assertIn(message, str(caught.exception))
        for weight, old in zip(model.weights, before, strict=True):
            np.testing.assert_array_equal(weight.numpy(), old)

    def test_every_tensor_gets_to_its_place(self):
        model, found = small_model(), tensors()
        report = assign_weights(model, found, RULES)
        weights = find_weights(model)
        for time, mel, channel, filters in ((0, 0, 0, 0), (4, 3, 1, 2), (2, 1, 0, 1)):
            self.assertEqual(
                weights["conv/kernel"].numpy()[time, mel, channel, filters],
                found["0.weight"][filters, channel, mel, time],
            )
        np.testing.assert_array_equal(weights["dense/kernel"].numpy(), found["fc.weight"].T)
        np.testing.assert_array_equal(
            weights["norm/moving_variance"].numpy(), found["1.running_var"]
        )
        self.assertEqual(set(report.used.values()), set(weights))
        self.assertEqual(set(report.used) | set(report.ignored), set(found))
        self.assertEqual(report.count_reasons(), {BATCH_COUNTERS.reason: 1})
        self.assertEqual(report.num_parameters, model.count_params())
        self.assertEmpty(report.kept)

    def test_missing_and_unexpected_tensors_are_both_named(self):
        self.assert_refused(
            tensors(**{"fc.bias": None, "fc.offset": np.ones(6, np.float32)}),
            "the checkpoint does not fit outer, and nothing was changed",
            "missing in the checkpoint (1): fc.bias (dense/bias (6,))",
            "in the checkpoint without a place in the model (1): fc.offset (6,)",
        )

    def test_a_weight_that_no_rule_fills(self):
        self.assert_refused(
            tensors(**{"fc.bias": None}),
            "weights of the model without a tensor (1): dense/bias (6,)",
            rules=Rules(FILLS[:-1], RULES.ignores),
        )

    def test_a_rule_for_a_layer_that_is_not_there(self):
        self.assert_refused(
            tensors(**{"2.bias": np.ones(3, np.float32)}),
            "without a place in the model (1): 2.bias (3,)",
            rules=Rules((*FILLS, Fill("2.bias", "other/bias")), RULES.ignores),
        )

    def test_shapes_are_told_in_the_original_s_order(self):
        self.assert_refused(
            tensors(**{"0.weight": np.ones((3, 2, 5, 4), np.float32)}),
            "shapes that differ (1): 0.weight is (3, 2, 5, 4), conv/kernel takes (3, 2, 4, 5)",
        )
        self.assert_refused(
            tensors(**{"0.weight": np.ones((3, 40), np.float32)}),
            "0.weight is (3, 40), conv/kernel takes (3, 2, 4, 5)",
        )

    def test_numbers_that_cannot_be_weights(self):
        for values, message in (
            (np.full(6, np.nan, np.float32), "fc.bias holds values that are not finite"),
            (np.full(6, 1e300), "fc.bias holds values that are not finite"),
            (np.ones(6, np.int64), "fc.bias holds int64, not floating-point numbers"),
            (np.ones(6, np.complex64), "fc.bias holds complex64"),
        ):
            self.assert_refused(tensors(**{"fc.bias": values}), message)

    def test_other_precisions_are_taken(self):
        for dtype in (np.float64, np.float16):
            model = small_model()
            found = {
                name: value.astype(dtype) if value.ndim else value
                for name, value in tensors().items()
            }
            assign_weights(model, found, RULES)
            np.testing.assert_array_equal(
                find_weights(model)["dense/bias"].numpy(), found["fc.bias"].astype(np.float32)
            )

    def test_tensors_without_use_may_be_there_and_may_be_checked(self):
        spare = {"spare.weight": np.zeros((2, 2), np.float32)}
        report = assign_weights(small_model(), tensors(**spare), RULES)
        self.assertEqual(report.ignored["spare.weight"], "never used")

        def check(name: str, tensor: np.ndarray) -> str | None:
            return None if tensor.any() else f"{name} is all zeros"

        rules = Rules(FILLS, (BATCH_COUNTERS, Ignore("spare.*", "a constant", check)))
        self.assert_refused(tensors(**spare), "spare.weight is all zeros", rules=rules)
        assign_weights(small_model(), tensors(**{"spare.weight": np.ones(2)}), rules)

    def test_a_weight_may_keep_its_value_for_a_reason(self):
        model = small_model()
        find_weights(model)["dense/bias"].assign(np.arange(6.0))
        rules = Rules(FILLS[:-1], RULES.ignores, keeps=(Keep("dense/b*", "made anew"),))
        report = assign_weights(model, tensors(**{"fc.bias": None}), rules)
        self.assertEqual(report.kept, {"dense/bias": "made anew"})
        self.assertNotIn("dense/bias", report.used.values())
        np.testing.assert_array_equal(find_weights(model)["dense/bias"].numpy(), np.arange(6.0))

    def test_long_lists_are_cut(self):
        extra = {f"more.{index}": np.zeros(2) for index in range(40)}
        self.assert_refused(tensors(**extra), "(40): more.0 (2,); more.1 (2,)", " and 28 more")

    def test_a_table_that_says_a_thing_twice_is_a_mistake_of_ours(self):
        for extra in (Fill("fc.bias", "norm/beta"), Fill("other", "dense/bias")):
            with self.assertRaisesRegex(ValueError, "more than one row"):
                assign_weights(small_model(), tensors(), Rules((*FILLS, extra), RULES.ignores))

    def test_two_weights_of_one_name(self):
        image = keras.Input((4,))
        first = keras.Model(image, layers.Dense(4, name="dense")(image), name="first")
        image = keras.Input((4,))
        twice = keras.Model(image, layers.Dense(4, name="dense")(first(image)), name="twice")
        with self.assertRaisesRegex(ValueError, "two weights of twice are called dense/kernel"):
            find_weights(twice)


class FillTest(tf.test.TestCase):
    def test_axes_by_name(self):
        tensor = np.arange(6).reshape(1, 3, 2, 1)
        fill = Fill("a", "b", "1 head unit 1 -> unit head")
        np.testing.assert_array_equal(fill.arrange(tensor), tensor[0, :, :, 0].T)
        self.assertEqual(fill.expect_shape((2, 3)), (1, 3, 2, 1))
        self.assertIsNone(fill.arrange(tensor.reshape(3, 1, 2, 1)))
        self.assertIsNone(fill.arrange(tensor.reshape(3, 2)))


if __name__ == "__main__":
    tf.test.main()
