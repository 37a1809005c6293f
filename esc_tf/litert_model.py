"""A .tflite file in the place of a classifier, for commands that would not load TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from esc_tf.cards import find_card
from esc_tf.config import AudioConfig
from esc_tf.errors import CheckpointError, EscTfError, RequestError
from serving.tflite_classifier import TFLiteClassifier
from serving.tflite_facts import ModelFileError
from serving.waveforms import MissingLibraryError

# The logarithm of 0 would be infinite.
_SMALLEST_PROBABILITY = 1e-7


class LiteRTModel:
    """What ``hear_clips`` and ``score_recording`` ask of a classifier, by LiteRT alone.

    Labels, rate, length and threshold are the file's own; how clips are brought to its length is
    in the ``model_card.json`` of its export, without which shorter ones are filled up with silence
    and the start of longer ones is heard.

    Args:
        path: a ``.tflite`` file that hears waveforms.

    Attributes:
        label_names: name of each class, in the order of the probabilities.
        audio: the waveform format, an ``AudioConfig`` as a dict.
        output_kind: ``softmax`` or ``sigmoid``.
        other_threshold: what no class of a sound that is `other` reaches; None: unknown.
        any_length: False, since a file takes one length.

    Raises:
        RequestError: there is no such file.
        CheckpointError: it is damaged, or no model of this kind.
        EscTfError: there is no LiteRT.
    """

    any_length = False

    def __init__(self, path: str | Path) -> None:
        path = Path(path).expanduser()
        if not path.is_file():
            raise RequestError(f"{path}: no such model; name a run directory or a model's file")
        try:
            self._classifier = TFLiteClassifier(path)
            # What LiteRT prepares at the first clip, and says on stderr, belongs to the loading.
            self._classifier.classify(np.zeros(self._classifier.num_samples, np.float32))
        except ModelFileError as error:
            raise CheckpointError(str(error)) from error
        except MissingLibraryError as error:
            raise EscTfError(str(error)) from error
        self.label_names = self._classifier.label_names
        self.other_threshold = self._classifier.facts.other_threshold
        self.output_kind, fitting = _read_card(path)
        self.audio = AudioConfig(
            sample_rate_hz=self._classifier.sample_rate_hz,
            duration_s=self._classifier.duration_s,
            **fitting,
        ).model_dump(mode="json")

    def predict_on_batch(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Scores of waveforms ``(batch, samples)`` of its length.

        Returns:
            ``probabilities`` ``(batch, classes)``, and ``logits`` which these may have been made
            of: the file's own ones are coarser.
        """
        rows = [self._classifier.classify(waveform) for waveform in inputs["waveform"]]
        probabilities = np.stack(rows)
        p = np.clip(probabilities, _SMALLEST_PROBABILITY, 1.0 - _SMALLEST_PROBABILITY)
        logits = np.log(p) - (np.log(1.0 - p) if self.output_kind == "sigmoid" else 0.0)
        return {"probabilities": probabilities, "logits": logits}


def _read_card(path: Path) -> tuple[str, dict[str, Any]]:
    """What the scores are, and how clips are padded and cut."""
    card_path = find_card(path)
    if card_path is None:
        return "softmax", {"pad": "silence", "crop": "start"}
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        heard = card["input"]
        return card["scores"], {"pad": heard["shorter_clips"], "crop": heard["longer_clips"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(
            f"{card_path}: cannot be read as the card of {path.name} ({error}); "
            "remove it or export the model again"
        ) from None
