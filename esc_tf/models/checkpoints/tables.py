"""Tables of tensor names by their origin, and what can be told from the tensors alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import numpy as np

from esc_tf.models.checkpoints.efficientat import efficientat_rules
from esc_tf.models.checkpoints.panns import panns_rules
from esc_tf.models.checkpoints.rules import Rules
from esc_tf.models.checkpoints.tfnet import tfnet_cnn10_rules, tfnet_rules

# Origin → function that makes its table for one model.
TABLES: dict[str, Callable[[keras.Model], Rules]] = {
    "efficientat": efficientat_rules,
    "panns": panns_rules,
    "tfnet": tfnet_rules,
    "tfnet_cnn10": tfnet_cnn10_rules,
}

# Biases of the last layer, one for each class, in any of the heads.
_LAST_BIASES = ("classifier.5.bias", "classifier.1.bias", "fc_audioset.bias", "fc.bias")
_ATTENTION_BIAS = "classifier.subspace_proj.bias"
_ATTENTION_HEADS = "classifier.head_weight"


def count_classes(tensors: Mapping[str, np.ndarray]) -> int | None:
    """How many classes a checkpoint tells apart; None if it has no head that we know."""
    for name in _LAST_BIASES:
        if name in tensors:
            return int(tensors[name].size)
    if _ATTENTION_BIAS in tensors and _ATTENTION_HEADS in tensors:
        # Attention and value of each class in each head.
        return int(tensors[_ATTENTION_BIAS].size) // (2 * int(tensors[_ATTENTION_HEADS].size))
    return None
