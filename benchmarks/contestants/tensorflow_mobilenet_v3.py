"""This package's MobileNetV3: the step that training runs, and inference as ``predict`` does it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.contestants.settings import Round, timed
from esc_tf.config import build_experiment
from esc_tf.config.published import VARIANTS
from esc_tf.tasks.conversion import convert_tensors, describe_experiment
from esc_tf.training.devices import build_devices
from esc_tf.training.optimizers import build_optimizer
from esc_tf.training.supervised import build_train_step


def set_up(settings: dict[str, Any]) -> Round:
    """A function that does one training step, or some inferences, and returns seconds of one.

    Task ``parity`` compares with the peer's logits instead and returns the relative error.
    """
    tf.config.threading.set_intra_op_parallelism_threads(settings["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(settings["threads"])
    keras.utils.set_random_seed(0)
    inputs = dict(np.load(settings["inputs"]))
    waveform, labels, expected = (inputs.pop(key) for key in ("waveform", "labels", "logits"))
    waveform = waveform[: settings["batch_size"], : settings["num_samples"]]
    variant = VARIANTS["mobilenet_v3"][settings["variant"]]
    classifier = convert_tensors(inputs, variant).classifier
    if settings["task"] == "train":
        return timed(build_step(settings, classifier, waveform, labels))
    if settings["folded"]:
        classifier = classifier.fold_batch_norms()
    classify = tf.function(classifier)
    if settings["task"] == "parity":
        logits = classify(waveform)["logits"].numpy()
        error = np.linalg.norm(logits - expected) / np.linalg.norm(expected)
        return lambda: float(error)
    waveform = tf.constant(waveform)
    return timed(lambda: classify(waveform)["probabilities"].numpy(), settings["calls"])


def build_step(settings: dict[str, Any], classifier: Any, waveform: Any, labels: Any) -> Any:
    """Function that takes one step of training, from waveforms to Adam's update."""
    variant = VARIANTS["mobilenet_v3"][settings["variant"]]
    raw = describe_experiment(variant, output="softmax")
    raw["recipe"] |= {"batch_size": len(waveform), "optimizer": {"name": "adam"}}
    experiment = build_experiment(raw)
    strategy = build_devices(experiment.distribution).strategy
    optimizer = build_optimizer(experiment.recipe, 1)
    optimizer.build(classifier.trainable_variables)
    step = build_train_step(classifier, optimizer, strategy, experiment)
    batch = {
        "waveform": tf.constant(waveform),
        "num_samples": tf.fill([len(waveform)], waveform.shape[1]),
        "label": tf.constant(labels[: len(waveform)]),
    }
    return lambda: float(step(batch)["loss"])
