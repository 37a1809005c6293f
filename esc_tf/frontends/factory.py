"""From the ``front_end`` section of a configuration to a layer."""

from __future__ import annotations

import keras

from esc_tf.config import AnyFrontEndConfig
from esc_tf.frontends.heurinet import HeuriNet
from esc_tf.frontends.log_mel import LogMelSpectrogram
from esc_tf.frontends.mel_init import MelInit
from esc_tf.frontends.mstnet import MSTNet
from esc_tf.registry import look_up

FRONT_ENDS: dict[str, type[keras.layers.Layer]] = {
    "log_mel": LogMelSpectrogram,
    "mel_init": MelInit,
    "heurinet": HeuriNet,
    "mstnet": MSTNet,
}


def build_front_end(config: AnyFrontEndConfig, sample_rate_hz: int) -> keras.layers.Layer:
    """Build the layer that a configuration describes.

    Args:
        config: the ``front_end`` section.
        sample_rate_hz: ``audio.sample_rate_hz``.

    Raises:
        UnknownNameError: no front end has that name.
        ConfigError: the settings do not fit the rate.
    """
    layer = look_up(FRONT_ENDS, config.name, "front end")
    return layer(sample_rate_hz=sample_rate_hz, **config.model_dump(exclude={"name"}))
