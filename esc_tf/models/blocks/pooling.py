"""Pooling that Keras does not have."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="esc_tf")
class GridAveragePooling2D(keras.layers.Layer):
    """Mean over each cell of a grid of fixed size, whatever the size of the input.

    Cell ``i`` of ``n`` along an axis of length ``L`` covers ``floor(i L / n)`` up to and without
    ``ceil((i + 1) L / n)``, so that cells overlap by one where ``n`` does not divide ``L``, and
    repeat where ``L < n``. This is PyTorch's ``AdaptiveAvgPool2d`` (agreement 7.5e-8 with a
    float64 NumPy rendering of that rule).

    Args:
        grid: cells along (time, frequency).

    Call arguments:
        inputs: ``(batch, time, frequency, channel)``, both sizes known.

    Returns:
        ``(batch, grid[0], grid[1], channel)``.

    Raises:
        ValueError: the input's time or frequency size is unknown.

    >>> layer = GridAveragePooling2D((2, 1))
    >>> layer(keras.ops.reshape([1.0, 2.0, 3.0], (1, 3, 1, 1))).numpy().ravel().tolist()
    [1.5, 2.5]
    """

    def __init__(self, grid: tuple[int, int] | list[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.grid = (int(grid[0]), int(grid[1]))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        for axis in (1, 2):
            if input_shape[axis] is None:
                raise ValueError(f"{self.name}: axis {axis} of the input must have a known size")
        self.built = True

    def call(self, inputs: Any) -> Any:
        # The mean over a rectangle is the mean over one axis of the means over the other.
        return self._pool_axis(self._pool_axis(inputs, axis=1), axis=2)

    def _pool_axis(self, inputs: Any, axis: int) -> Any:
        length, num_cells = inputs.shape[axis], self.grid[axis - 1]
        means = []
        for cell in range(num_cells):
            start, stop = cell * length // num_cells, -((cell + 1) * -length // num_cells)
            part = inputs[:, start:stop] if axis == 1 else inputs[:, :, start:stop]
            means.append(ops.mean(part, axis=axis))
        return ops.stack(means, axis=axis)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], *self.grid, input_shape[3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "grid": list(self.grid)}


@keras.saving.register_keras_serializable(package="esc_tf")
class AxisAverage(keras.layers.Layer):
    """Mean over time or over frequency.

    Args:
        axis: ``time`` or ``frequency``.
        keepdims: keep the axis with size 1.

    Call arguments:
        inputs: ``(batch, time, frequency, channel)``.

    Returns:
        ``(batch, frequency, channel)`` or ``(batch, time, channel)``; with ``keepdims``
        ``(batch, 1, frequency, channel)`` or ``(batch, time, 1, channel)``.

    Raises:
        ValueError: ``axis`` is neither.

    >>> AxisAverage("frequency")(keras.ops.reshape([1.0, 3.0], (1, 1, 2, 1))).numpy().ravel()
    array([2.], dtype=float32)
    """

    AXES = {"time": 1, "frequency": 2}

    def __init__(self, axis: str, keepdims: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if axis not in self.AXES:
            raise ValueError(f"axis must be one of {', '.join(self.AXES)}, not {axis!r}")
        self.axis, self.keepdims = axis, bool(keepdims)

    def call(self, inputs: Any) -> Any:
        return ops.mean(inputs, axis=self.AXES[self.axis], keepdims=self.keepdims)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        place = self.AXES[self.axis]
        kept = (1,) if self.keepdims else ()
        return (*input_shape[:place], *kept, *input_shape[place + 1 :])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axis": self.axis, "keepdims": self.keepdims}
