"""What the trained model itself says of the sounds of a verification."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from esc_tf.data import fit_length
from esc_tf.tasks.classifier import Classifier
from export.graphs import compute_in_float32
from export.probes import Probes
from export.source import ClipSet

_BATCH_SIZE = 8
# Other lengths than the model's, which a SavedModel takes too.
OTHER_LENGTHS = {"fitted/shorter": 0.6, "fitted/longer": 1.3}
SCORES = ("logits", "probabilities")


@dataclass(frozen=True)
class Reference:
    """The answers of a Keras model that nothing was done to.

    Attributes:
        sounds: what was heard: ``probes`` and ``evaluation``, ``(sounds, samples)``, and arrays of
            ``OTHER_LENGTHS``, ``(1, samples)``.
        features: of ``probes`` and ``evaluation``, for what starts behind the front end.
        scores: ``logits/probes``, ``probabilities/evaluation`` and so on.
        activations: name → value for the probes.
        embedding: of the probes.
    """

    sounds: Mapping[str, np.ndarray]
    features: Mapping[str, np.ndarray]
    scores: Mapping[str, np.ndarray]
    activations: Mapping[str, np.ndarray]
    embedding: np.ndarray


def compute_reference(
    model: Classifier, probes: Probes, clips: ClipSet, activations: Sequence[str]
) -> Reference:
    """Ask the model, layer by layer as it was trained, in float32 and on the CPU.

    Operator by operator and not as a graph: TensorFlow fuses a graph's dense layer with its ReLU,
    and the two together make zeros of NaN, which would then be called finite.

    A model of mixed precision is asked in float32, with the same weights: no export rounds as its
    training did.

    Args:
        model: a classifier; nothing is folded.
        probes: the sounds of every verification.
        clips: the evaluation slice.
        activations: names to be asked of the probes.
    """
    with tf.device("/CPU:0"):
        exact = compute_in_float32(model)
        sounds = {"probes": probes.waveforms, "evaluation": clips.waveforms}
        scores: dict[str, np.ndarray] = {}
        features = {}

        def ask(batch: tf.Tensor) -> dict[str, tf.Tensor]:
            features = exact.extract_features(batch)
            return {**exact.classify_features(features), "features": features}

        embedding = np.zeros(0)
        for part, waveforms in sounds.items():
            outputs = _in_batches(ask, waveforms)
            scores.update({f"{name}/{part}": outputs[name] for name in SCORES})
            features[part] = outputs["features"]
            if part == "probes":
                embedding = outputs["embedding"]
        for part, (waveform, outputs) in _ask_other_lengths(exact, probes).items():
            sounds[part] = waveform
            scores.update({f"{name}/{part}": outputs[name] for name in SCORES})
        inside: dict[str, np.ndarray] = {}
        if activations:
            names = list(activations)
            inside = _in_batches(
                lambda batch: exact.compute_activations(batch, names), probes.waveforms
            )
    return Reference(sounds, features, scores, inside, embedding)


def _ask_other_lengths(
    model: Classifier, probes: Probes
) -> dict[str, tuple[np.ndarray, dict[str, np.ndarray]]]:
    """One sound of each other length, brought to the model's as ``predict`` does."""
    audio = model.audio
    num_samples = probes.waveforms.shape[1]
    noise = probes.waveforms[probes.names.index("noise")]
    found = {}
    for part, share in OTHER_LENGTHS.items():
        waveform = np.resize(noise, max(1, int(share * num_samples)))
        fitted, valid = fit_length(waveform, num_samples, audio["pad"], audio["crop"])
        outputs = model({"waveform": fitted[tf.newaxis], "num_samples": valid[tf.newaxis]})
        found[part] = (
            waveform[np.newaxis],
            {name: np.asarray(value) for name, value in outputs.items()},
        )
    return found


def _in_batches(ask: Callable, waveforms: np.ndarray) -> dict[str, np.ndarray]:
    parts = [
        {name: value.numpy() for name, value in ask(tf.constant(batch)).items()}
        for batch in np.array_split(waveforms, -(-len(waveforms) // _BATCH_SIZE))
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
