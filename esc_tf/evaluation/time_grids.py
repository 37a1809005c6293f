"""Where the frames and bands of each feature map lie, from the network's kernels and strides."""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import layers

from esc_tf.evaluation.layer_kinds import MERGING, POINTWISE, WINDOWED
from esc_tf.evaluation.layer_shapes import measure_output_shapes
from esc_tf.frames import BandGrid, TimeGrid, count_samples
from esc_tf.models.blocks import AxisAverage, GridAveragePooling2D
from esc_tf.tasks.classifier import Classifier

_KEEPS_PLACES = (*POINTWISE, layers.Dense, layers.Identity)
# Axes of a feature map of one clip: time, frequency, channel. Where time is wanted, frequency may
# be gone.
_TIME, _FREQUENCY = 0, 1
_SHORTEST_RANK = {_TIME: 2, _FREQUENCY: 3}


@dataclass(frozen=True)
class _Grid:
    """Place ``first + i * step`` of each place along one axis, in places of the features."""

    first: float
    step: float


def measure_time_grids(model: Classifier) -> dict[str, TimeGrid]:
    """The centre times of the frames of each activation that has time, for the model's clips.

    A frame of a map lies at the centre of the input frames that it is computed from, those of the
    padding included: ``position = first + (window - 1) / 2 * dilation - padding before``, in
    frames of the layer's input. Where branches meet, the one as long as the result counts.

    Args:
        model: a classifier.

    Returns:
        Name of each activation or layer → grid. What has no time axis is not in it, nor what lies
        behind a layer of an unknown kind. Behind pooling to a grid whose cells do not divide the
        frames, the times are right to half a frame.
    """
    features = model.front_end.measure_time_grid(_count_samples(model))
    return {
        name: TimeGrid(features.first_s + grid.first * features.step_s, grid.step * features.step_s)
        for name, grid in _follow_features(model, _TIME).items()
    }


def measure_band_grids(model: Classifier) -> dict[str, BandGrid]:
    """The centre of the bands of each activation that has frequency, in bands of the features.

    As ``measure_time_grids``, along the other axis; what has no frequency axis is not in it.
    """
    return {
        name: BandGrid(grid.first, grid.step)
        for name, grid in _follow_features(model, _FREQUENCY).items()
    }


def _follow_features(model: Classifier, axis: int) -> dict[str, _Grid]:
    feature_shape = model.front_end.compute_output_shape((1, _count_samples(model)))
    shape = tuple(size for size in feature_shape[1:] if size)
    features = _Grid(0.0, 1.0)
    in_backbone = _follow(model.backbone, shape, features, axis)
    source = in_backbone.get(model.head_source)
    in_head = {}
    if source is not None:
        head_shape = _find_shape(model.backbone, model.head_source, shape)
        in_head = _follow(model.head, head_shape, source, axis)
    return {"features": features, **in_backbone, **in_head}


def _count_samples(model: Classifier) -> int:
    return count_samples(model.audio["duration_s"], model.front_end.sample_rate_hz)


def _follow(
    network: keras.Model, shape: tuple[int, ...], grid: _Grid, axis: int
) -> dict[str, _Grid]:
    shapes = measure_output_shapes(network, shape)
    by_tensor: dict[int, tuple[_Grid | None, tuple[int, ...]]] = {}
    by_name: dict[str, _Grid | None] = {}
    for layer in network.layers:
        if isinstance(layer, layers.InputLayer):
            found: _Grid | None = grid
        else:
            inputs = [by_tensor[id(tensor)] for tensor in keras.tree.flatten(layer.input)]
            found = _find_grid(layer, inputs, shapes[layer.name], axis)
        if len(shapes[layer.name]) < _SHORTEST_RANK[axis]:
            found = None
        by_name[layer.name] = found
        by_tensor[id(layer.output)] = (found, shapes[layer.name])
    for name, tensor in network.output.items():
        by_name[name] = by_tensor[id(tensor)][0]
    return {name: found for name, found in by_name.items() if found is not None}


def _find_shape(network: keras.Model, output: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    (name,) = (layer.name for layer in network.layers if layer.output is network.output[output])
    return measure_output_shapes(network, shape)[name]


def _find_grid(
    layer: keras.layers.Layer,
    inputs: list[tuple[_Grid | None, tuple[int, ...]]],
    shape: tuple[int, ...],
    axis: int,
) -> _Grid | None:
    if isinstance(layer, MERGING):
        fitting = [grid for grid, size in inputs if grid is not None and size[axis] == shape[axis]]
        return fitting[0] if fitting else None
    grid, size = inputs[0]
    if grid is None or isinstance(layer, _KEEPS_PLACES):
        return grid
    if isinstance(layer, WINDOWED):
        window = (getattr(layer, "pool_size", None) or layer.kernel_size)[axis]
        dilation = getattr(layer, "dilation_rate", (1, 1))[axis]
        stride, reach = layer.strides[axis], (window - 1) * dilation
        before = 0
        if layer.padding == "same":
            # As TensorFlow divides it: the odd one behind.
            before = max((shape[axis] - 1) * stride + reach + 1 - size[axis], 0) // 2
        return _Grid(grid.first + (reach / 2 - before) * grid.step, grid.step * stride)
    if isinstance(layer, layers.ZeroPadding2D):
        return _Grid(grid.first - layer.padding[axis][0] * grid.step, grid.step)
    if isinstance(layer, GridAveragePooling2D):
        share = size[axis] / shape[axis]
        return _Grid(grid.first + (share - 1) / 2 * grid.step, grid.step * share)
    averaged = ("time", "frequency")[axis]
    return grid if isinstance(layer, AxisAverage) and layer.axis != averaged else None
