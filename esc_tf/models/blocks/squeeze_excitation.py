"""Channel attention from the mean AND the maximum of each channel."""

from __future__ import annotations

from typing import Any

from keras import layers


def squeeze_excite(x: Any, ratio: int, name: str) -> Any:
    """Scale each channel by a gate computed from the whole feature map.

    ``x * sigmoid(W2 relu(W1 [mean(x); max(x)]))`` with ``W1`` of ``2C x C/ratio`` and ``W2`` of
    ``C/ratio x C``, no biases: ``3 C^2 / ratio`` parameters.

    Args:
        x: symbolic ``(batch, time, frequency, channel)``.
        ratio: how many times narrower the hidden layer is than ``x`` (at least one unit is left).
        name: prefix of the layers ``{name}_mean``, ``{name}_max``, ``{name}_concat``,
            ``{name}_dense1``, ``{name}_dense2``, ``{name}_gate``, ``{name}_scale``.

    Returns:
        ``x`` scaled, of the same shape.

    Source: Hu et al. 2018, with the concatenated maximum of [Dwivedi 2024].
    """
    channels = x.shape[-1]
    squeezed = layers.Concatenate(name=f"{name}_concat")(
        [
            layers.GlobalAveragePooling2D(name=f"{name}_mean")(x),
            layers.GlobalMaxPooling2D(name=f"{name}_max")(x),
        ]
    )
    hidden = layers.Dense(
        max(channels // ratio, 1), activation="relu", use_bias=False, name=f"{name}_dense1"
    )(squeezed)
    gate = layers.Dense(channels, activation="sigmoid", use_bias=False, name=f"{name}_dense2")(
        hidden
    )
    gate = layers.Reshape((1, 1, channels), name=f"{name}_gate")(gate)
    return layers.Multiply(name=f"{name}_scale")([x, gate])
