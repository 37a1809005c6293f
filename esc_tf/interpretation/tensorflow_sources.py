"""Activations of models that TensorFlow computes: classifiers and SavedModels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from esc_tf.audio.length import fit_waveform
from esc_tf.config import LogMelConfig
from esc_tf.errors import CheckpointError, RequestError
from esc_tf.evaluation.time_grids import measure_time_grids
from esc_tf.frames import count_samples
from esc_tf.frontends.log_mel import LogMelSpectrogram
from esc_tf.interpretation.model_facts import SIGNATURE, ModelFacts
from esc_tf.tasks.classifier import Classifier, load_classifier


class ClassifierSource:
    """A run directory or a ``.keras`` file: every layer can be asked for.

    A model that was trained in a mixed precision computes in it here; its exports compute in
    float32.

    Args:
        path: of the model.

    Raises:
        RequestError: there is no such model.
        CheckpointError: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._model = load_classifier(path)
        audio, rate_hz = self._model.audio, int(self._model.audio["sample_rate_hz"])
        self.facts = ModelFacts(
            sample_rate_hz=rate_hz,
            num_samples=count_samples(audio["duration_s"], rate_hz),
            pad=audio["pad"],
            crop=audio["crop"],
            label_names=self._model.label_names,
            time_grids=measure_time_grids(self._model),
            front_end=_read_front_end(self._model),
        )
        parts = (self._model.backbone, self._model.head)
        layers = [layer.name for part in parts for layer in part.layers]
        self.activation_names = tuple(dict.fromkeys((*self._model.activation_names, *layers)))
        self._functions: dict[tuple[str, ...], Any] = {}

    def compute(
        self, waveforms: Sequence[np.ndarray], names: Sequence[str]
    ) -> dict[str, np.ndarray]:
        facts = self.facts
        fitted = [
            fit_waveform(waveform, facts.num_samples, facts.pad, facts.crop)
            for waveform in waveforms
        ]
        clips = tf.constant(np.stack([clip for clip, _ in fitted]), tf.float32)
        values = self._find_function(tuple(names))(clips, [valid for _, valid in fitted])
        return {name: value.numpy() for name, value in values.items()}

    def _find_function(self, names: tuple[str, ...]) -> Any:
        """One graph for each choice of names, for batches of any size."""
        if names not in self._functions:

            def compute(waveform: Any, num_samples: Any) -> dict[str, Any]:
                inputs = {"waveform": waveform, "num_samples": num_samples}
                values = self._model.compute_activations(inputs, names)
                return {name: tf.cast(value, tf.float32) for name, value in values.items()}

            signature = [
                tf.TensorSpec([None, self.facts.num_samples], tf.float32),
                tf.TensorSpec([None], tf.int32),
            ]
            self._functions[names] = tf.function(compute, signature, autograph=False)
        return self._functions[names]


def _read_front_end(model: Classifier) -> LogMelConfig | None:
    front_end = model.front_end
    return front_end.settings if isinstance(front_end, LogMelSpectrogram) else None


class SavedModelSource:
    """A SavedModel with a signature ``activations``, as ``python -m export`` writes it.

    Args:
        folder: holds ``saved_model.pb``.
        facts: from its model card; None: what its signature ``audio_format`` says, without times
            of the frames.

    Raises:
        RequestError: it has no such signature, or does not say what it hears.
        CheckpointError: it cannot be loaded.
    """

    def __init__(self, folder: Path, facts: ModelFacts | None = None) -> None:
        self.name = str(folder)
        try:
            # Kept, since its signatures do not keep it.
            self._loaded = tf.saved_model.load(str(folder))
        except Exception as error:  # TensorFlow raises almost any type on a damaged file
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f"{folder}: cannot be loaded ({reason})") from error
        signatures = self._loaded.signatures
        if SIGNATURE not in signatures:
            raise RequestError(
                f"{folder}: has no signature {SIGNATURE}; export the model again with --activations"
            )
        self._compute = signatures[SIGNATURE]
        self.activation_names = tuple(self._compute.structured_outputs)
        self.facts = facts or self._ask_for_facts()

    def compute(
        self, waveforms: Sequence[np.ndarray], names: Sequence[str]
    ) -> dict[str, np.ndarray]:
        # Its graph brings clips to their length; rows of one tensor have one length.
        if len({len(waveform) for waveform in waveforms}) == 1:
            batches = [np.stack(waveforms)]
        else:
            batches = [waveform[np.newaxis] for waveform in waveforms]
        outputs = [self._compute(waveform=tf.constant(batch, tf.float32)) for batch in batches]
        return {
            name: np.concatenate([output[name].numpy() for output in outputs]) for name in names
        }

    def _ask_for_facts(self) -> ModelFacts:
        signatures = self._loaded.signatures
        if "audio_format" not in signatures:
            raise RequestError(
                f"{self.name}: does not say at which rate it hears; name the model_card.json of "
                "its export"
            )
        audio = {name: int(value) for name, value in signatures["audio_format"]().items()}
        labels = signatures["labels"]()["labels"].numpy() if "labels" in signatures else ()
        return ModelFacts(
            sample_rate_hz=audio["sample_rate_hz"],
            num_samples=audio["num_samples"],
            label_names=tuple(label.decode() for label in labels),
        )
