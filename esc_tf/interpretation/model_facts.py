"""What a model says of the clips that it hears, whether it can be loaded here or not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from esc_tf.config import LogMelConfig
from esc_tf.errors import RequestError
from esc_tf.frames import TimeGrid

SIGNATURE = "activations"
"""The signature of exported models that gives scores and activations."""


@dataclass(frozen=True)
class ModelFacts:
    """How clips reach a model, and where the frames of its activations lie.

    Attributes:
        sample_rate_hz: rate of the waveforms.
        num_samples: length of the model's clips.
        pad: where a shorter clip lies, as in ``AudioConfig``.
        crop: which part of a longer one is heard, as in ``AudioConfig``.
        label_names: name of each class, in the order of the scores; empty: unknown.
        time_grids: name of an activation → its frames, where they are known.
        front_end: settings of its log-mel front end; None: it has another one, or does not say.
    """

    sample_rate_hz: int
    num_samples: int
    pad: str = "silence"
    crop: str = "start"
    label_names: tuple[str, ...] = ()
    time_grids: Mapping[str, TimeGrid] = field(default_factory=dict)
    front_end: LogMelConfig | None = None

    @property
    def duration_s(self) -> float:
        """Length of the model's clips in seconds."""
        return self.num_samples / self.sample_rate_hz


def read_model_card(path: Path) -> ModelFacts:
    """Read the ``model_card.json`` of an export.

    Raises:
        RequestError: there is no such file, or it is no model card.
    """
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        heard = card["input"]
        return ModelFacts(
            sample_rate_hz=int(heard["sample_rate_hz"]),
            num_samples=int(heard["samples"]),
            pad=str(heard["shorter_clips"]),
            crop=str(heard["longer_clips"]),
            label_names=tuple(card["labels"]),
            # Cards of earlier exports do not have them.
            time_grids={
                name: TimeGrid(**grid) for name, grid in card.get("activation_times", {}).items()
            },
            front_end=_read_front_end(card.get("training", {}).get("front_end")),
        )
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(
            f"{path}: is no model card ({type(error).__name__}: {error}); export the model again"
        ) from None


def _read_front_end(settings: Any) -> LogMelConfig | None:
    """The front end that a run's card tells; pydantic's error for damaged ones is a ValueError."""
    is_log_mel = settings is not None and settings["name"] == "log_mel"
    return LogMelConfig.model_validate(settings) if is_log_mel else None
