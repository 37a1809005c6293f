"""What every front end is: a layer made from a section of the configuration, and stored as one."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import keras

from esc_tf.config.section import Section
from esc_tf.frontends.settings import check_settings

SettingsType = TypeVar("SettingsType", bound=Section)


class ConfiguredFrontEnd(keras.layers.Layer, Generic[SettingsType]):
    """A front end that is called with the fields of its section of the configuration.

    It computes in float32 whatever the dtype policy. A subclass names the class of its settings.

    Args:
        sample_rate_hz: rate of the waveforms.
        name: name of the layer.
        trainable: whether training may change its weights, if it has any.
        **settings: the fields of the class of settings (which documents them) but ``name``.

    Raises:
        ConfigError: a setting is unknown or wrong; all such are listed.
    """

    settings_class: type[SettingsType]

    def __init__(
        self,
        sample_rate_hz: int,
        *,
        name: str | None = None,
        trainable: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(name=name, trainable=trainable, dtype="float32")
        self.sample_rate_hz = int(sample_rate_hz)
        self._settings = check_settings(self.settings_class, settings)
        self.built = True  # a subclass makes its weights at once, if it has any

    @property
    def settings(self) -> SettingsType:
        """The settings, defaults included."""
        return self._settings

    def get_config(self) -> dict[str, Any]:
        """Plain values that build the same layer."""
        return {
            "name": self.name,
            "trainable": self.trainable,
            "sample_rate_hz": self.sample_rate_hz,
            **self._settings.model_dump(exclude={"name"}),
        }
