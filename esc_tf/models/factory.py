"""The table of architectures: the name in the configuration → the function that builds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from esc_tf.config import AnyModelConfig
from esc_tf.models.cnn10 import build_cnn10
from esc_tf.models.mobilenet_student import build_mobilenet_student
from esc_tf.models.mobilenet_v3 import build_mobilenet_v3
from esc_tf.models.piczak_net import build_piczak_net
from esc_tf.models.se_cnn import build_se_cnn
from esc_tf.models.tfnet import build_tfnet
from esc_tf.registry import look_up

# Each builder takes its configuration and the features' (time | None, frequency, channel), and
# returns a functional model that maps features to {named activations …, "embedding": …}. A backbone
# that pools over all times is built for features of any length, its input's time being None.
MODELS: dict[str, Callable[[Any, tuple[int | None, int, int]], keras.Model]] = {
    "se_cnn": build_se_cnn,
    "mobilenet_v3": build_mobilenet_v3,
    "mobilenet_student": build_mobilenet_student,
    "cnn10": build_cnn10,
    "tfnet": build_tfnet,
    "piczak_net": build_piczak_net,
}


def build_backbone(
    config: AnyModelConfig, feature_shape: tuple[int | None, int, int]
) -> keras.Model:
    """Build the backbone that ``config.name`` names.

    Args:
        config: the model section of an experiment.
        feature_shape: ``(time, frequency, channel)`` of one clip's features.

    Raises:
        UnknownNameError: no such model.
        ConfigError: the model does not fit the features.
    """
    return look_up(MODELS, config.name, "model")(config, feature_shape)
