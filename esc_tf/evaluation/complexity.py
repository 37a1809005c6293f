"""What a network costs: parameters, multiply-adds, memory, receptive field, part by part."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from esc_tf.config import Experiment
from esc_tf.evaluation.layer_shapes import measure_output_shapes
from esc_tf.evaluation.receptive_field import ReceptiveField, measure_receptive_fields
from esc_tf.frontends import BandSum, FilterPower, list_sublayers
from esc_tf.models.blocks import MultiHeadAttentionPooling, WeightedFusion
from esc_tf.tasks import Classifier, build_classifier
from esc_tf.tasks.heads import EMBEDDING

FLOAT32_BYTES = 4
HEAD_PART = "head"
FRONT_END_PART = "front_end"

_SUMMED = ("trainable_parameters", "multiply_adds", "activation_bytes")
_MATRIX_PRODUCTS = (
    layers.Conv1D,
    layers.Conv2D,
    layers.DepthwiseConv2D,
    layers.Dense,
    FilterPower,
    BandSum,
)
# Layers that have weights and are no convolution or dense layer: batch norm folds into one, the
# others scale and sum, which is not counted in layers without weights either.
_UNCOUNTED = (layers.BatchNormalization, MultiHeadAttentionPooling, WeightedFusion)


def measure_complexity(
    experiment: Experiment, label_names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Build an experiment's classifier and measure it; neither data nor training is needed.

    Args:
        experiment: the configuration.
        label_names: names of the classes; None: as many as ``data.classes`` selects.

    Returns:
        The dict of ``measure_classifier`` for a clip of ``audio.duration_s``.

    Raises:
        ConfigError: the model does not fit the features.
    """
    if label_names is None:
        label_names = [f"class_{index}" for index in range(experiment.data.num_classes)]
    return {
        "experiment": experiment.name,
        "model": experiment.model.name,
        **measure_classifier(build_classifier(experiment, label_names), experiment.num_samples),
    }


def measure_classifier(model: Classifier, num_samples: int) -> dict[str, Any]:
    """Measure the network of a classifier, for one clip in float32.

    It is made of backbone and head, and of a front end that has weights.

    What is counted:

    - ``multiply_adds``: one for each product in convolutions and dense layers. Batch norm folds
      into the convolution before it; activations, pooling, gates' products and a fixed front end
      are left out, as in the published figure. SE-CNN on 431 x 128 features: 14,086,465,536
      (published: 14.09 G).
    - ``activation_bytes``: the outputs of all layers that have parameters, forward only; ReLU,
      pooling and scaling can be computed in place or again.
    - ``forward_backward_bytes``: twice that, a gradient beside each activation. SE-CNN:
      218,137,872 bytes, the published 218.14 MB.
    - ``parameter_bytes``: the trainable parameters. SE-CNN: 86,279,624, the published 86.28 MB.
    - ``receptive_field``: frames and bins of the features that one position of the last feature
      map sees through convolutions and pooling; attention gates and global pooling see everything
      and are left out. SE-CNN: 156 x 156, and 140 x 140 before the last max-pool. The published
      127 x 127 is neither, and we know no counting that gives it.

    Args:
        model: the classifier.
        num_samples: length of the clip in samples.

    Returns:
        A dict that JSON can hold: the quantities above, ``non_trainable_parameters``,
        ``input_shape``, ``feature_shape`` and ``output_shape`` without the batch axis, and
        ``parts``: in order, a dict of ``name``, ``trainable_parameters``, ``multiply_adds``,
        ``activation_bytes``, ``output_shape`` and ``receptive_field`` ([time, frequency], or None
        where everything is seen) for each group of layers whose names agree up to the first
        number, or up to the first underscore, ``head`` for the final pooling and the head, and
        ``front_end`` first for one with weights.

    Raises:
        NotImplementedError: a layer holds weights and no rule says how to count its products.
    """
    fields = measure_receptive_fields(model.backbone)
    feature_shape = model.front_end.compute_output_shape((1, num_samples))[1:]
    shapes = measure_output_shapes(model.backbone, feature_shape)
    source = model.backbone.output[model.head_source]
    (read_by_head,) = (layer.name for layer in model.backbone.layers if layer.output is source)
    shapes.update(measure_output_shapes(model.head, shapes[read_by_head]))
    parts: dict[str, dict[str, Any]] = {}
    stages = list_sublayers(model.front_end)
    if stages:
        shapes.update(model.front_end.measure_stage_shapes(num_samples))
        fields = {**{stage.name: ReceptiveField() for stage in stages}, **fields}
    for layer in (*stages, *model.backbone.layers, *model.head.layers):
        if isinstance(layer, layers.InputLayer):
            continue
        part = parts.setdefault(_part_name(layer, model), dict.fromkeys(_SUMMED, 0))
        shape = shapes[layer.name]
        for key, value in zip(_SUMMED, _measure_layer(layer, shape), strict=True):
            part[key] += value
        part["output_shape"] = list(shape)
        field = fields.get(layer.name)
        part["receptive_field"] = None if field is None else list(field.size)

    totals = {key: sum(part[key] for part in parts.values()) for key in _SUMMED}
    last_field = [field for field in fields.values() if field is not None][-1]
    return {
        **totals,
        "non_trainable_parameters": _count_parameters(model.non_trainable_weights),
        "parameter_bytes": totals["trainable_parameters"] * FLOAT32_BYTES,
        "forward_backward_bytes": 2 * totals["activation_bytes"],
        "receptive_field": {
            "time": last_field.size[0],
            "frequency": last_field.size[1],
            "time_stride": last_field.stride[0],
            "frequency_stride": last_field.stride[1],
        },
        "input_shape": [num_samples],
        "feature_shape": list(feature_shape),
        "output_shape": [len(model.label_names)],
        "parts": [{"name": name, **part} for name, part in parts.items()],
    }


def _measure_layer(layer: keras.layers.Layer, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The ``_SUMMED`` quantities of one layer with an output of some shape."""
    output_bytes = math.prod(shape) * FLOAT32_BYTES if layer.weights else 0
    multiply_adds = _count_multiply_adds(layer, shape)
    return _count_parameters(layer.trainable_variables), multiply_adds, output_bytes


def _part_name(layer: keras.layers.Layer, model: Classifier) -> str:
    """``block1`` of ``block1_conv2``, ``stem`` of ``stem_conv``."""
    if layer in list_sublayers(model.front_end):
        return FRONT_END_PART
    numbered = re.match(r"[a-z_]+?\d+(?=_)", layer.name)
    prefix = numbered[0] if numbered else layer.name.split("_")[0]
    return HEAD_PART if prefix == EMBEDDING or layer in model.head.layers else prefix


def _count_parameters(variables: Sequence[Any]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


def _count_multiply_adds(layer: keras.layers.Layer, shape: tuple[int, ...]) -> int:
    if not layer.weights or isinstance(layer, _UNCOUNTED):
        return 0
    if isinstance(layer, _MATRIX_PRODUCTS):
        # Every weight of the kernel is used once at every position of the output.
        return math.prod(layer.kernel.shape) * math.prod(shape[:-1])
    raise NotImplementedError(
        f"complexity has no rule for the multiply-adds of layer '{layer.name}' "
        f"({type(layer).__name__}); add one to {__name__}"
    )
