"""Channel attention: gates computed from the whole feature map."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops


def squeeze_excite(x: Any, ratio: int, name: str) -> Any:
    """Scale each channel by a gate computed from its mean AND maximum over the feature map.

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


def squeeze_excite_mean(x: Any, hidden_units: int, name: str) -> Any:
    """Scale each channel by a gate computed from the means of all channels.

    ``x * sigmoid(W2 relu(W1 mean(x) + b1) + b2)``: ``2 C hidden_units + hidden_units + C``
    parameters. Weights start normal with deviation 0.01, biases at 0, as EfficientAT has it.

    Args:
        x: symbolic ``(batch, time, frequency, channel)``.
        hidden_units: width of the hidden layer.
        name: prefix of the layers ``{name}_mean``, ``{name}_dense1``, ``{name}_dense2``,
            ``{name}_scale``.

    Returns:
        ``x`` scaled, of the same shape.

    Source: Hu et al. 2018; Howard et al. 2019 with the exact sigmoid of [Schmid 2023].
    """
    squeezed = layers.GlobalAveragePooling2D(name=f"{name}_mean")(x)
    for index, (units, activation) in enumerate(
        [(hidden_units, "relu"), (x.shape[-1], "sigmoid")], start=1
    ):
        squeezed = layers.Dense(
            units,
            activation=activation,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            name=f"{name}_dense{index}",
        )(squeezed)
    return ChannelScale(name=f"{name}_scale")([x, squeezed])


@keras.saving.register_keras_serializable(package="esc_tf")
class ChannelScale(keras.layers.Layer):
    """Multiply each channel of a feature map by a gate of its own.

    Call arguments:
        inputs: feature map ``(batch, time, frequency, channel)`` and gates ``(batch, channel)``.

    Returns:
        ``(batch, time, frequency, channel)``.

    >>> ChannelScale()([keras.ops.ones((1, 1, 2, 1)), keras.ops.array([[3.0]])]).numpy().tolist()
    [[[[3.0], [3.0]]]]
    """

    def call(self, inputs: Any) -> Any:
        feature_map, gates = inputs
        return feature_map * ops.reshape(gates, (-1, 1, 1, gates.shape[-1]))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return tuple(input_shape[0])
