"""TFNet and its plain network: which tensor of the original fills which weight."""

from __future__ import annotations

import keras

from esc_tf.models.checkpoints.assignment import find_weights
from esc_tf.models.checkpoints.panns import fill_conv_blocks
from esc_tf.models.checkpoints.rules import (
    BATCH_COUNTERS,
    CONV_OF_TIME_MEL,
    Fill,
    Ignore,
    Rules,
    fill_batch_norm,
    fill_dense,
)

_UNUSED = "not used by the original's forward pass"
# Batch counters come first: also those of unused norms are better called what they are.
_UNUSED_IN_BLOCKS = tuple(
    Ignore(f"tfblock*.{part}.*", _UNUSED) for part in ("fc1", "fc2", "downsample", "bn", "bnz")
)
# Branch → what the original calls its convolution, its norm and the norm behind it.
_BRANCHES = {
    "frequency_attention": ("conv3", "bnx", "bna"),
    "time_attention": ("conv4", "bny", "bnb"),
}


def tfnet_rules(model: keras.Model) -> Rules:
    """The table for TFNet.

    Args:
        model: a classifier whose backbone is ``tfnet``, or the backbone alone.

    Source: the names of the tensors of github.com/Hadryan/TFNet-for-Environmental-Sound-
    Classification.
    """
    layers = {path.split("/")[0] for path in find_weights(model)}
    fills: list[Fill] = []
    block = 1
    while f"block{block}_conv1" in layers:
        source, layer = f"tfblock{block}", f"block{block}"
        for conv in (1, 2):
            fills.append(
                Fill(f"{source}.conv{conv}.weight", f"{layer}_conv{conv}/kernel", CONV_OF_TIME_MEL)
            )
            fills += fill_batch_norm(f"{source}.bn{conv}", f"{layer}_bn{conv}")
        for branch, (conv_name, norm, out_norm) in _BRANCHES.items():
            fills.append(
                Fill(
                    f"{source}.{conv_name}.weight",
                    f"{branch}{block}_conv/kernel",
                    CONV_OF_TIME_MEL,
                )
            )
            fills += fill_batch_norm(f"{source}.{norm}", f"{branch}{block}_bn")
            fills += fill_batch_norm(f"{source}.{out_norm}", f"{branch}{block}_out_bn")
        fills.append(Fill(f"{source}.alpha", f"{layer}_fusion/alpha"))
        block += 1
    return Rules((*fills, *_fill_head(layers)), (BATCH_COUNTERS, *_UNUSED_IN_BLOCKS))


def tfnet_cnn10_rules(model: keras.Model) -> Rules:
    """The table for the plain network that TFNet is compared with.

    Args:
        model: a classifier whose backbone is ``cnn10`` without input norm and embedding layer, or
            that backbone alone.
    """
    layers = {path.split("/")[0] for path in find_weights(model)}
    fills = (*fill_conv_blocks(layers), *_fill_head(layers))
    return Rules(fills, (BATCH_COUNTERS, Ignore("fc2.*", _UNUSED)))


def _fill_head(layers: set[str]) -> list[Fill]:
    return fill_dense("fc", "logits") if "logits" in layers else []
