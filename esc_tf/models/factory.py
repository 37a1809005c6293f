"""The table of architectures: the name in the configuration → the function that builds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from esc_tf.config import ModelConfig
from esc_tf.models.se_cnn import build_se_cnn
from esc_tf.registry import look_up

# Each builder takes its configuration and the features' (time | None, frequency, channel), and
# returns a functional model that maps features to {"embedding": …, named activations …}.
MODELS: dict[str, Callable[[Any, tuple[int | None, int, int]], keras.Model]] = {
    "se_cnn": build_se_cnn,
}


def build_backbone(config: ModelConfig, feature_shape: tuple[int | None, int, int]) -> keras.Model:
    """Build the backbone that ``config.name`` names.

    Args:
        config: the model section of an experiment.
        feature_shape: ``(time, frequency, channel)`` of one clip's features.

    Raises:
        UnknownNameError: no such model.
        ConfigError: the model does not fit the features.
    """
    return look_up(MODELS, config.name, "model")(config, feature_shape)
