"""What the trained model itself says of the sounds of a verification."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from esc_tf.data import fit_length
from esc_tf.frames import count_samples
from esc_tf.tasks.classifier import Classifier
from export.graphs import compute_in_float32
from export.probes import Probes
from export.source import ClipSet

_BATCH_SIZE = 8
# Other lengths than the model's, which a SavedModel takes too.
OTHER_LENGTHS = {"fitted/shorter": 0.6, "fitted/longer": 1.3}
SCORES = ("logits", "probabilities")
_SENSITIVITY_DRAWS = 3


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
        measure_sensitivity: how far the model's own answers move, relative to their norm, when a
            waveform ``(samples,)`` and all weights move by a step of float32: ``logits`` and each
            activation.
    """

    sounds: Mapping[str, np.ndarray]
    features: Mapping[str, np.ndarray]
    scores: Mapping[str, np.ndarray]
    activations: Mapping[str, np.ndarray]
    embedding: np.ndarray
    measure_sensitivity: Callable[[np.ndarray], Mapping[str, float]]


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
            inside = _in_batches(
                lambda batch: exact.compute_activations(batch, activations), probes.waveforms
            )
    names = ("logits", *activations)
    return Reference(
        sounds,
        features,
        scores,
        inside,
        embedding,
        measure_sensitivity=lambda waveform: _measure_sensitivity(exact, waveform, names),
    )


def _measure_sensitivity(
    model: Classifier, waveform: np.ndarray, names: Sequence[str]
) -> dict[str, float]:
    """The largest change of some draws of noise, one step of float32 of waveform and weights.

    This is what rounding makes of the answer, and no fault of a file: a sum in float32, in whatever
    order, is the exact one of numbers that are a step or so off. In most recordings such steps
    average out. Not so in two kinds of sounds:

    - The spectrum of a pure tone, clipped or not, is next to nothing between its lines. A Fourier
      transform leaves its own rounding there, and the logarithm behind it makes decibels of it.
      Noise of ``2⁻²³`` times the root mean square of the waveform does just that.
    - Silence is the same at all times and frequencies, so that what one place of a feature map is
      off, all are, and no pooling averages it away. Noise of ``2⁻²³`` of each weight does that.

    Measured, logits, TFLite against Keras and this: a clipped tone 1.1e-5 and 7.6e-6 (mn04), 1.7e-5
    and 1.8e-5 to 5.5e-5 (a small SE-CNN without top_db); silence 9.0e-6 to 1.7e-5 and 1.2e-5 to
    1.7e-5 (mn04 fine-tuned on four folds); recordings 3e-6 and 3e-6 to 7e-6.
    """
    step = 2.0**-23 * np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))
    inputs: Any
    values: list[dict[str, np.ndarray]] = []
    with tf.device("/CPU:0"):
        for draw in range(_SENSITIVITY_DRAWS + 1):
            rng = np.random.default_rng(draw)
            noise = rng.normal(0.0, step, waveform.shape) if draw else 0.0
            inputs = tf.constant((waveform + noise)[np.newaxis], tf.float32)
            num_samples = count_samples(model.audio["duration_s"], model.audio["sample_rate_hz"])
            if waveform.size != num_samples:
                inputs = _fit(model, inputs, num_samples)
            with _moved_weights(model, rng if draw else None):
                outputs = model.compute_activations(inputs, names)
            values.append({name: value.numpy() for name, value in outputs.items()})
    changes = {}
    for name in values[0]:
        exact, *others = (value[name] for value in values)
        norm = max(float(np.linalg.norm(exact)), 1e-30)
        changes[name] = max(float(np.linalg.norm(other - exact)) / norm for other in others)
    return changes


@contextmanager
def _moved_weights(model: Classifier, rng: np.random.Generator | None) -> Iterator[None]:
    """For a while, weights that are a step of float32 off; with no generator as they are."""
    if rng is None:
        yield
        return
    weights = [weight for weight in model.weights if "float" in weight.dtype]
    values = [weight.numpy() for weight in weights]
    try:
        for weight, value in zip(weights, values, strict=True):
            step = 2.0**-23 * rng.standard_normal(value.shape)
            weight.assign((value * (1.0 + step)).astype(value.dtype))
        yield
    finally:
        for weight, value in zip(weights, values, strict=True):
            weight.assign(value)


def _fit(model: Classifier, waveforms: tf.Tensor, num_samples: int) -> dict[str, tf.Tensor]:
    """Waveforms of another length as ``predict`` brings them to the model's."""
    audio = model.audio
    fitted = [fit_length(item, num_samples, audio["pad"], audio["crop"]) for item in waveforms]
    return {
        "waveform": tf.stack([waveform for waveform, _ in fitted]),
        "num_samples": tf.stack([valid for _, valid in fitted]),
    }


def _ask_other_lengths(
    model: Classifier, probes: Probes
) -> dict[str, tuple[np.ndarray, dict[str, np.ndarray]]]:
    """One sound of each other length, brought to the model's as ``predict`` does."""
    num_samples = probes.waveforms.shape[1]
    noise = probes.waveforms[probes.names.index("noise")]
    found = {}
    for part, share in OTHER_LENGTHS.items():
        waveform = np.resize(noise, (1, max(1, int(share * num_samples))))
        outputs = model(_fit(model, tf.constant(waveform), num_samples))
        found[part] = waveform, {name: np.asarray(value) for name, value in outputs.items()}
    return found


def _in_batches(ask: Callable, waveforms: np.ndarray) -> dict[str, np.ndarray]:
    parts = [
        {name: value.numpy() for name, value in ask(tf.constant(batch)).items()}
        for batch in np.array_split(waveforms, -(-len(waveforms) // _BATCH_SIZE))
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
