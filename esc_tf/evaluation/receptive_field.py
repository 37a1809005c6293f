"""How much of its input one position of a feature map sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from esc_tf.evaluation.layer_kinds import MERGING, POINTWISE, WINDOWED

_IN_PLACE = (*POINTWISE, layers.ZeroPadding2D)


@dataclass(frozen=True)
class ReceptiveField:
    """Size of the input region behind one position, and the step between neighbours' regions.

    Args:
        size: (time, frequency), in frames and bins.
        stride: (time, frequency), in frames and bins.
    """

    size: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)

    def widen(
        self, window: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
    ) -> ReceptiveField:
        """The field behind a convolution or pooling: ``size + (window - 1) dilation stride``.

        >>> ReceptiveField().widen((3, 3), (1, 1), (1, 1)).widen((2, 2), (2, 2), (1, 1))
        ReceptiveField(size=(4, 4), stride=(2, 2))
        """
        return ReceptiveField(
            size=(
                self.size[0] + (window[0] - 1) * dilation[0] * self.stride[0],
                self.size[1] + (window[1] - 1) * dilation[1] * self.stride[1],
            ),
            stride=(self.stride[0] * stride[0], self.stride[1] * stride[1]),
        )


def measure_receptive_fields(backbone: keras.Model) -> dict[str, ReceptiveField | None]:
    """The receptive field behind each layer of a functional model, from its graph.

    Where branches meet, the widest local one counts: an attention gate sees everything, and would
    otherwise hide what the convolutions see. Layers that are neither windowed, pointwise nor
    merging (global pooling, flattening, anything unknown) see everything.

    Args:
        backbone: features ``(batch, time, frequency, channel)`` → anything.

    Returns:
        Layer name → field, None for everything; in the order of the layers.
    """
    by_tensor: dict[int, ReceptiveField | None] = {}
    by_name: dict[str, ReceptiveField | None] = {}
    for layer in backbone.layers:
        if isinstance(layer, layers.InputLayer):
            field: ReceptiveField | None = ReceptiveField()
        else:
            inputs = [by_tensor[id(tensor)] for tensor in keras.tree.flatten(layer.input)]
            field = _field_behind(layer, inputs)
        by_name[layer.name] = by_tensor[id(layer.output)] = field
    return by_name


def _field_behind(
    layer: keras.layers.Layer, inputs: list[ReceptiveField | None]
) -> ReceptiveField | None:
    local = [field for field in inputs if field is not None]
    if not local:
        return None
    if isinstance(layer, WINDOWED):
        window = getattr(layer, "pool_size", None) or layer.kernel_size
        return local[0].widen(window, layer.strides, getattr(layer, "dilation_rate", (1, 1)))
    if isinstance(layer, MERGING):
        return ReceptiveField(
            size=_largest(field.size for field in local),
            stride=_largest(field.stride for field in local),
        )
    return local[0] if isinstance(layer, _IN_PLACE) else None


def _largest(pairs: Any) -> tuple[int, int]:
    times, frequencies = zip(*pairs, strict=True)
    return max(times), max(frequencies)
