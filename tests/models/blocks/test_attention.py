"""Attention pooling against a float64 rendering of its formula."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.models.blocks import MultiHeadAttentionPooling


def slow_attention(values: np.ndarray, head_weight: np.ndarray) -> np.ndarray:
    """The sums written out, class by class and head by head."""
    batch, _, last = values.shape
    num_heads = len(head_weight)
    num_classes = last // (2 * num_heads)
    split = values.astype(np.float64).reshape(batch, -1, 2, num_heads, num_classes)
    result = np.zeros((batch, num_classes))
    for clip in range(batch):
        for index in range(num_classes):
            for head, weight in enumerate(head_weight):
                attention = 1.0 / (1.0 + np.exp(-split[clip, :, 0, head, index]))
                attention = np.clip(attention, 1e-7, 1.0 - 1e-7)
                attention /= attention.sum()
                result[clip, index] += weight * (attention * split[clip, :, 1, head, index]).sum()
    return result


class MultiHeadAttentionPoolingTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(1, 4)
    def test_equals_its_formula(self, num_heads: int) -> None:
        rng = np.random.default_rng(0)
        values = rng.normal(0.0, 2.0, size=(3, 7, 2 * num_heads * 5)).astype(np.float32)
        layer = MultiHeadAttentionPooling(num_heads)
        result = layer(values)
        self.assertEqual(result.shape, layer.compute_output_shape(values.shape))
        # measured: 1.5e-7
        expected = slow_attention(values, np.full(num_heads, 1.0 / num_heads))
        self.assertAllClose(result, expected, rtol=0, atol=2e-6)
        weights = rng.normal(size=num_heads).astype(np.float32)
        layer.head_weight.assign(weights)
        # measured: 1.0e-7
        self.assertAllClose(layer(values), slow_attention(values, weights), rtol=0, atol=2e-6)

    def test_attention_that_is_zero_everywhere_is_even(self) -> None:
        values = np.array([[[-200.0, 1.0], [-200.0, 3.0]]], np.float32)
        self.assertAllClose(MultiHeadAttentionPooling(1)(values), [[2.0]], rtol=0, atol=1e-6)

    def test_a_last_axis_that_does_not_divide_is_refused(self) -> None:
        with self.assertRaisesRegex(ValueError, "multiple of 8"):
            MultiHeadAttentionPooling(4)(np.zeros((1, 3, 12), np.float32))

    def test_config_round_trip(self) -> None:
        layer = MultiHeadAttentionPooling(3, name="attention_pooling")
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
        self.assertEqual((copy.num_heads, copy.name), (3, "attention_pooling"))
