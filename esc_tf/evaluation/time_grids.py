"""Where in a clip the frames of each feature map lie, from the network's kernels and strides."""

from __future__ import annotations

import keras
from keras import layers

from esc_tf.evaluation.layer_shapes import measure_output_shapes
from esc_tf.frames import TimeGrid, count_samples
from esc_tf.frontends.log_mel import LogMelSpectrogram
from esc_tf.models.blocks import (
    AxisAverage,
    ChannelScale,
    GridAveragePooling2D,
    HardSwish,
    WeightedFusion,
)
from esc_tf.tasks.classifier import Classifier

_WINDOWED = (layers.Conv2D, layers.DepthwiseConv2D, layers.MaxPooling2D, layers.AveragePooling2D)
_POINTWISE = (
    layers.Activation,
    layers.BatchNormalization,
    layers.Dense,
    layers.Dropout,
    layers.Identity,
    layers.LeakyReLU,
    layers.ReLU,
    HardSwish,
)
_MERGING = (layers.Add, layers.Concatenate, layers.Multiply, ChannelScale, WeightedFusion)
# A feature map has the axes batch, time, frequency and channel; frequency may be gone.
_SHORTEST_RANK = 3


def measure_time_grids(model: Classifier) -> dict[str, TimeGrid]:
    """The centre times of the frames of each activation that has time, for the model's clips.

    A frame of a map lies at the centre of the input frames that it is computed from, those of the
    padding included: ``position = first + (window - 1) / 2 * dilation - padding before``, in
    frames of the layer's input. Where branches meet, the one as long as the result counts.

    Args:
        model: a classifier with a log-mel front end.

    Returns:
        Name of each activation or layer → grid. What has no time axis is not in it, nor what lies
        behind a layer of an unknown kind; for another front end there is none. Behind pooling to a
        grid whose cells do not divide the frames, the times are right to half a frame.
    """
    front_end = model.front_end
    if not isinstance(front_end, LogMelSpectrogram):
        return {}
    settings, rate_hz = front_end.settings, front_end.sample_rate_hz
    num_samples = count_samples(model.audio["duration_s"], rate_hz)
    shape = tuple(size for size in front_end.compute_output_shape((1, num_samples))[1:] if size)
    # A frame of a centred transform lies around its first sample, see ``esc_tf.frames``.
    first_s = 0.0 if settings.center else settings.n_fft / 2 / rate_hz
    features = TimeGrid(first_s, settings.hop_length / rate_hz)
    in_backbone = _follow(model.backbone, shape, features)
    source = in_backbone.get(model.head_source)
    in_head = {}
    if source is not None:
        head_shape = _find_shape(model.backbone, model.head_source, shape)
        in_head = _follow(model.head, head_shape, source)
    return {"features": features, **in_backbone, **in_head}


def _follow(network: keras.Model, shape: tuple[int, ...], grid: TimeGrid) -> dict[str, TimeGrid]:
    shapes = measure_output_shapes(network, shape)
    by_tensor: dict[int, tuple[TimeGrid | None, tuple[int, ...]]] = {}
    by_name: dict[str, TimeGrid | None] = {}
    for layer in network.layers:
        if isinstance(layer, layers.InputLayer):
            found: TimeGrid | None = grid
        else:
            inputs = [by_tensor[id(tensor)] for tensor in keras.tree.flatten(layer.input)]
            found = _find_grid(layer, inputs, shapes[layer.name])
        if len(shapes[layer.name]) + 1 < _SHORTEST_RANK:
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
    inputs: list[tuple[TimeGrid | None, tuple[int, ...]]],
    shape: tuple[int, ...],
) -> TimeGrid | None:
    if isinstance(layer, _MERGING):
        fitting = [grid for grid, size in inputs if grid is not None and size[0] == shape[0]]
        return fitting[0] if fitting else None
    grid, size = inputs[0]
    if grid is None or isinstance(layer, _POINTWISE):
        return grid
    if isinstance(layer, _WINDOWED):
        window = (getattr(layer, "pool_size", None) or layer.kernel_size)[0]
        dilation = getattr(layer, "dilation_rate", (1, 1))[0]
        stride, reach = layer.strides[0], (window - 1) * dilation
        before = 0
        if layer.padding == "same":
            # As TensorFlow divides it: the odd one behind.
            before = max((shape[0] - 1) * stride + reach + 1 - size[0], 0) // 2
        return TimeGrid(grid.first_s + (reach / 2 - before) * grid.step_s, grid.step_s * stride)
    if isinstance(layer, layers.ZeroPadding2D):
        return TimeGrid(grid.first_s - layer.padding[0][0] * grid.step_s, grid.step_s)
    if isinstance(layer, GridAveragePooling2D):
        share = size[0] / shape[0]
        return TimeGrid(grid.first_s + (share - 1) / 2 * grid.step_s, grid.step_s * share)
    return grid if isinstance(layer, AxisAverage) and layer.axis == "frequency" else None
