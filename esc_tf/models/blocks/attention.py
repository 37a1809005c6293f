"""Attention over positions, one map for each class."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

# Attention stays off 0 and 1 by this, so that a map that is zero everywhere is an even one.
_EPSILON = 1e-7


@keras.saving.register_keras_serializable(package="esc_tf")
class MultiHeadAttentionPooling(keras.layers.Layer):
    """Weighted mean over positions with several heads of attention for each class.

    With the inputs' last axis read as ``(2, num_heads, classes)``, attention ``a`` first and
    values ``v`` second: ``a = clip(sigmoid(a), 1e-7, 1 - 1e-7)``, divided by its sum over
    positions; ``output_c = sum_h head_weight_h sum_n a_nhc v_nhc``. ``head_weight`` starts at
    ``1 / num_heads``.

    Args:
        num_heads: heads.

    Call arguments:
        inputs: ``(batch, positions, 2 * num_heads * classes)``.

    Returns:
        ``(batch, classes)``.

    Raises:
        ValueError: the last axis is not a multiple of ``2 * num_heads``.

    >>> layer = MultiHeadAttentionPooling(1)
    >>> layer(keras.ops.array([[[0.0, 1.0], [0.0, 3.0]]])).numpy().tolist()
    [[2.0]]

    Source: Gong et al. 2021 (PSLA).
    """

    def __init__(self, num_heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_heads = int(num_heads)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if input_shape[-1] is None or input_shape[-1] % (2 * self.num_heads):
            raise ValueError(
                f"{self.name}: the last axis must be a multiple of {2 * self.num_heads}, twice "
                f"num_heads, not {input_shape[-1]}"
            )
        self.head_weight = self.add_weight(
            shape=(self.num_heads,),
            initializer=keras.initializers.Constant(1.0 / self.num_heads),
            name="head_weight",
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        half = inputs.shape[-1] // 2
        attention = ops.clip(ops.sigmoid(inputs[..., :half]), _EPSILON, 1.0 - _EPSILON)
        attention = attention / ops.sum(attention, axis=1, keepdims=True)
        pooled = ops.sum(attention * inputs[..., half:], axis=1)
        pooled = ops.reshape(pooled, (-1, self.num_heads, half // self.num_heads))
        return ops.sum(pooled * ops.reshape(self.head_weight, (1, -1, 1)), axis=1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        last = input_shape[-1]
        return input_shape[0], None if last is None else last // (2 * self.num_heads)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_heads": self.num_heads}
