"""EfficientAT's MobileNetV3: which tensor of the original fills which weight."""

from __future__ import annotations

import keras

from esc_tf.models.checkpoints.assignment import find_weights
from esc_tf.models.checkpoints.rules import (
    BATCH_COUNTERS,
    CONV_OF_MEL_TIME,
    DEPTHWISE_OF_MEL_TIME,
    Fill,
    Rules,
    fill_batch_norm,
    fill_dense,
)

NUM_BLOCKS = 15


def efficientat_rules(model: keras.Model) -> Rules:
    """The table for a MobileNetV3 of any width and head.

    In the original, ``features.0`` is the stem, ``features.1`` to ``features.15`` are the blocks
    and ``features.16`` is the last convolution. Inside a block the parts are counted, and those it
    lacks are left out: expansion, depthwise convolution, squeeze-excitation, projection. The head
    is ``classifier``.

    Args:
        model: a classifier whose backbone is ``mobilenet_v3``, or the backbone alone.

    Source: the names of the tensors of EfficientAT's release v0.0.1.
    """
    layers = {path.split("/")[0] for path in find_weights(model)}
    fills = [
        Fill("features.0.0.weight", "stem_conv/kernel", CONV_OF_MEL_TIME),
        *fill_batch_norm("features.0.1", "stem_bn"),
    ]
    for block in range(1, NUM_BLOCKS + 1):
        fills += _fill_block(block, layers)
    last = f"features.{NUM_BLOCKS + 1}"
    fills += [
        Fill(f"{last}.0.weight", "final_conv/kernel", CONV_OF_MEL_TIME),
        *fill_batch_norm(f"{last}.1", "final_bn"),
        *_fill_head(layers),
    ]
    return Rules(tuple(fills), ignores=(BATCH_COUNTERS,))


def _fill_block(block: int, layers: set[str]) -> list[Fill]:
    fills: list[Fill] = []
    parts = 0
    for part, layout in (
        ("expand", CONV_OF_MEL_TIME),
        ("depthwise", DEPTHWISE_OF_MEL_TIME),
        ("squeeze_excitation", ""),
        ("project", CONV_OF_MEL_TIME),
    ):
        source = f"features.{block}.block.{parts}"
        if part == "squeeze_excitation":
            if f"se{block}_dense1" not in layers:
                continue
            fills += fill_dense(f"{source}.conc_se_layers.0.fc1", f"se{block}_dense1")
            fills += fill_dense(f"{source}.conc_se_layers.0.fc2", f"se{block}_dense2")
        else:
            layer = f"block{block}_{part}"
            if part == "expand" and f"{layer}_conv" not in layers:
                continue
            fills.append(Fill(f"{source}.0.weight", f"{layer}_conv/kernel", layout))
            fills += fill_batch_norm(f"{source}.1", f"{layer}_bn")
        parts += 1
    return fills


def _fill_head(layers: set[str]) -> list[Fill]:
    if "logits_conv" in layers:  # fully convolutional
        return [
            Fill("classifier.0.weight", "logits_conv/kernel", CONV_OF_MEL_TIME),
            *fill_batch_norm("classifier.1", "logits_bn"),
        ]
    if "attention_projection" in layers:
        return [
            *fill_dense("classifier.subspace_proj", "attention_projection"),
            Fill("classifier.head_weight", "attention_pooling/head_weight", "1 head 1 -> head"),
        ]
    if "head_dense1" in layers:
        return [
            *fill_dense("classifier.2", "head_dense1"),
            *fill_dense("classifier.5", "logits"),
        ]
    return []  # the backbone alone
