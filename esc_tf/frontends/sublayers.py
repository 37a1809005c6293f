"""The layers inside a front end, for whatever addresses them by name."""

from __future__ import annotations

import keras


def list_sublayers(front_end: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers with weights directly inside a front end, from input to output.

    A fixed front end has none; ``mel_init`` has ``dft`` and ``mel``, the others ``conv_1`` and so
    on.
    """
    inside = front_end._flatten_layers(recursive=False, include_self=False)
    return [layer for layer in inside if layer.weights]
