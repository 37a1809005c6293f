"""The grid average against a slow float64 rendering of PyTorch's rule of cells; axis means."""

from __future__ import annotations

import math

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.models.blocks import AxisAverage, GridAveragePooling2D


def slow_grid_average(values: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    _, time, frequency, _ = values.shape
    result = np.zeros((values.shape[0], *grid, values.shape[3]))
    for row in range(grid[0]):
        for column in range(grid[1]):
            times = range(math.floor(row * time / grid[0]), math.ceil((row + 1) * time / grid[0]))
            bins = range(
                math.floor(column * frequency / grid[1]),
                math.ceil((column + 1) * frequency / grid[1]),
            )
            cell = values[:, times[0] : times[-1] + 1, bins[0] : bins[-1] + 1]
            result[:, row, column] = cell.astype(np.float64).mean(axis=(1, 2))
    return result


class GridAveragePooling2DTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ((8, 6), (4, 3)),  # divides
        ((53, 16), (4, 3)),  # cells overlap
        ((3, 2), (4, 3)),  # fewer values than cells: cells repeat
        ((7, 5), (1, 1)),
    )
    def test_follows_the_rule_of_cells(self, size, grid) -> None:
        values = np.random.default_rng(0).normal(size=(2, *size, 5)).astype(np.float32)
        layer = GridAveragePooling2D(grid)
        result = layer(values)
        self.assertEqual(layer.compute_output_shape(values.shape), tuple(result.shape))
        # measured: at most 7.5e-8
        self.assertAllClose(result, slow_grid_average(values, grid), rtol=0, atol=1e-6)

    def test_known_answer(self) -> None:
        values = np.arange(5, dtype=np.float32).reshape(1, 5, 1, 1)
        # Cells of a length of 5: [0, 3) and [2, 5).
        self.assertAllEqual(tf.reshape(GridAveragePooling2D((2, 1))(values), [-1]), [1.0, 3.0])

    def test_unknown_size_is_refused(self) -> None:
        with self.assertRaisesRegex(ValueError, "axis 1 .* known size"):
            GridAveragePooling2D((2, 2))(keras.Input((None, 8, 1)))

    def test_config_round_trip(self) -> None:
        layer = GridAveragePooling2D((4, 3), name="grid")
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
        self.assertEqual((copy.grid, copy.name), ((4, 3), "grid"))


class AxisAverageTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(axis=["time", "frequency"], keepdims=[True, False])
    def test_is_the_mean_over_one_axis(self, axis: str, keepdims: bool) -> None:
        values = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
        layer = AxisAverage(axis, keepdims)
        result = layer(values)
        place = {"time": 1, "frequency": 2}[axis]
        # measured: 8.3e-8
        expected = values.astype(np.float64).mean(axis=place, keepdims=keepdims)
        self.assertAllClose(result, expected, rtol=0, atol=1e-6)
        self.assertEqual(layer.compute_output_shape(values.shape), tuple(result.shape))

    def test_another_axis_is_refused(self) -> None:
        with self.assertRaisesRegex(ValueError, "time, frequency"):
            AxisAverage("channel")

    def test_config_round_trip(self) -> None:
        layer = AxisAverage("time", keepdims=True, name="mean")
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
        self.assertEqual((copy.axis, copy.keepdims, copy.name), ("time", True, "mean"))
