"""Sums of branches with weights that are learned."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="esc_tf")
class WeightedFusion(keras.layers.Layer):
    """``sum_i softmax(alpha)_i x_i`` with one learned ``alpha`` a branch.

    All of them start at 0.1, which is an equal share for each branch.

    Call arguments:
        inputs: list of tensors of one shape.

    Returns:
        A tensor of that shape.

    >>> WeightedFusion()([keras.ops.array([[1.0]]), keras.ops.array([[3.0]])]).numpy().tolist()
    [[2.0]]

    Source: [Wang 2020].
    """

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        self.alpha = self.add_weight(
            shape=(len(input_shape),),
            initializer=keras.initializers.Constant(0.1),
            name="alpha",
        )
        self.built = True

    def call(self, inputs: list[Any]) -> Any:
        shares = ops.softmax(self.alpha)
        return sum(shares[index] * branch for index, branch in enumerate(inputs))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return tuple(input_shape[0])
