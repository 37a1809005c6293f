"""The sizes of all feature maps of a network that is built for features of any length."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers


def measure_output_shapes(
    model: keras.Model, input_shape: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    """The shape behind each layer of a functional model for an input of a known shape.

    Nothing is computed but shapes, and no weights are made.

    Args:
        model: functional, with one input.
        input_shape: of one clip, without the batch axis.

    Returns:
        Layer name → shape without the batch axis, in the order of the layers.
    """
    by_tensor: dict[int, tuple[int | None, ...]] = {}
    by_name: dict[str, tuple[int, ...]] = {}
    for layer in model.layers:
        if isinstance(layer, layers.InputLayer):
            shape: tuple[int | None, ...] = (None, *input_shape)
        else:
            shapes = keras.tree.map_structure(lambda tensor: by_tensor[id(tensor)], layer.input)
            shape = tuple(layer.compute_output_shape(shapes))
        by_tensor[id(layer.output)] = shape
        by_name[layer.name] = tuple(size for size in shape[1:] if size is not None)
    return by_name
