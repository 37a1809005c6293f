"""Models: the options of each architecture. No TensorFlow here, so that errors come at once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from esc_tf.config.section import Section

Width = Annotated[int, Field(ge=1, le=65536)]


class HeadConfig(Section):
    """Dense ReLU layers from embedding to logits; dropout follows the first of them."""

    hidden_units: list[Width] = []
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0


class SECNNConfig(Section):
    """SE-CNN [Dwivedi 2024] and the two smaller variants printed beside it.

    ``squeeze_excitation_blocks`` counts blocks from 1. ``pool_grid`` [time, frequency]: the mean
    over a grid of that size, flattened; null: the mean over everything.
    """

    name: Literal["se_cnn"]
    block_filters: Annotated[list[Width], Field(min_length=1, max_length=8)] = [
        64,
        128,
        256,
        512,
        1024,
    ]
    convs_per_block: Annotated[int, Field(ge=1, le=4)] = 2
    squeeze_excitation_blocks: list[Annotated[int, Field(ge=1)]] = [2, 3, 4, 5]
    squeeze_excitation_ratio: Annotated[int, Field(ge=1)] = 8
    pool_grid: tuple[Width, Width] | None = None
    head: HeadConfig = HeadConfig(hidden_units=[2048], dropout=0.5)


ModelConfig = SECNNConfig
