"""TFLite files of a classifier, front end included."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from esc_tf.errors import ExportError
from esc_tf.frontends import with_tflite_computation
from esc_tf.registry import look_up
from export import quantization
from export.graphs import SCORES, InferenceGraphs
from export.quantization import INPUT as FEATURES
from export.tflite_parts import join_parts

WAVEFORM = "waveform"
KINDS = ("float32", "float16", "dynamic", "int8", "int8_backbone")
"""What ``convert_tflite`` makes."""

_LOGITS = "logits"
_NEED_CLIPS = ("int8", "int8_backbone")
_BATCH = 16

Function = Callable[..., dict[str, Any]]


def convert_tflite(
    graphs: InferenceGraphs, kind: str, calibration: np.ndarray | None = None
) -> bytes:
    """Convert a classifier.

    The file has two signatures, for one clip of the model's own length: ``serving_default``,
    waveform ``(1, num_samples)`` → ``probabilities`` and ``logits``, and ``activations``, which
    gives those and ``graphs.activations``. Both share their weights. All operations are TFLite's
    own.

    What ``kind`` rounds is the network alone, up to the logits. The front end stays in float32,
    computed as is fastest in TFLite (``with_tflite_computation``), and so does the softmax or
    sigmoid behind the logits: in 8 bits a log-mel spectrogram is wrong by more than 10 dB, and no
    probability is finer than 1/256.

    Args:
        graphs: the functions to be converted.
        kind: ``float32``; ``float16`` (weights); ``dynamic`` (8-bit weights); ``int8`` (an integer
            network, see ``quantization.to_integers``); ``int8_backbone`` (integers alone, for
            microcontrollers: ``features``, 8-bit, in place of the waveform, 8-bit scores).
        calibration: waveforms float32 ``(clips, num_samples)`` from which the ranges of an integer
            network are taken; the other kinds need none.

    Returns:
        The file.

    Raises:
        UnknownNameError: no such kind.
        ExportError: an integer network without clips; control flow in the model.
    """
    look_up(dict.fromkeys(KINDS), kind, "TFLite format")
    features = None
    if kind in _NEED_CLIPS:
        features = _compute_features(graphs, calibration)
    graphs = graphs.keep_padding_apart()
    extras = [name for name in graphs.activations if name not in SCORES]
    signatures = {"serving_default": list(SCORES), "activations": [*SCORES, *extras]}
    finish = _choose(kind, features)
    if kind == "int8_backbone":
        # They are the input.
        hidden = [name for name in extras if name != FEATURES]
        signatures["activations"] = [*SCORES, *hidden]
        network = _convert_network(graphs, [*SCORES, *hidden], finish)
        return join_parts([network], [FEATURES], signatures)
    front_end = with_tflite_computation(graphs.model.front_end)
    parts = [
        _convert(
            lambda waveform: {FEATURES: front_end(waveform)},
            tf.TensorSpec([1, graphs.num_samples], tf.float32, WAVEFORM),
            [weight.value for weight in front_end.weights],
        ),
        _convert_network(graphs, [_LOGITS, *(name for name in extras if name != FEATURES)], finish),
        _convert(
            _find_scores(graphs),
            tf.TensorSpec([1, len(graphs.label_names)], tf.float32, _LOGITS),
        ),
    ]
    return join_parts(parts, [WAVEFORM], signatures)


def _choose(kind: str, features: np.ndarray | None) -> quantization.Finish:
    if features is not None:
        integers = {
            "int8": quantization.to_integers,
            "int8_backbone": quantization.to_integers_alone,
        }
        return integers[kind](features)
    floats = {
        "float32": quantization.to_float32,
        "float16": quantization.to_float16,
        "dynamic": quantization.to_dynamic,
    }
    return floats[kind]


def _compute_features(graphs: InferenceGraphs, waveforms: np.ndarray | None) -> np.ndarray:
    if waveforms is None or len(waveforms) == 0:
        raise ExportError(
            "an integer network needs clips from which to take its ranges, and there are none; "
            "name a data set (--data-root), or leave the int8 formats out"
        )
    parts = [
        np.asarray(graphs.extract_features(tf.constant(waveforms[start : start + _BATCH])))
        for start in range(0, len(waveforms), _BATCH)
    ]
    return np.concatenate(parts)


def _find_scores(graphs: InferenceGraphs) -> Function:
    activation = {"softmax": tf.nn.softmax, "sigmoid": tf.nn.sigmoid}[graphs.model.output_kind]
    return lambda logits: {"probabilities": activation(logits)}


def _convert_network(
    graphs: InferenceGraphs, names: list[str], finish: quantization.Finish
) -> bytes:
    """Features → some values inside the network."""

    def compute(features: Any) -> dict[str, Any]:
        values = graphs.model.compute_feature_activations(features, names)
        return {name: tf.cast(value, tf.float32) for name, value in values.items()}

    front_end = graphs.model.front_end
    shape = front_end.compute_output_shape((1, graphs.num_samples))
    return _convert(compute, tf.TensorSpec(shape, tf.float32, FEATURES), graphs.weights, finish)


def _convert(
    function: Function,
    specification: tf.TensorSpec,
    weights: Any = (),
    finish: quantization.Finish = quantization.to_float32,
) -> bytes:
    """Convert one function of one input, by way of a SavedModel as the converter wants it."""
    module = tf.Module()
    # The weights and not the model, whose training functions would come along.
    module.weights = list(weights)
    module.function = tf.function(function, [specification], autograph=False)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": module.function})
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=["serving_default"]
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        return finish(converter)
