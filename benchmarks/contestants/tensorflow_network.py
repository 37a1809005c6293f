"""This package's SE-CNN: the step that training runs, and inference."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.contestants.settings import Round, load_settings, timed
from esc_tf.frontends import build_front_end
from esc_tf.models import build_backbone
from esc_tf.models.precision import precision_scope
from esc_tf.tasks.classifier import Classifier
from esc_tf.training.devices import build_devices
from esc_tf.training.optimizers import build_optimizer
from esc_tf.training.supervised import build_train_step


def build_tensorflow_model(experiment: Any, num_classes: int) -> Any:
    """The classifier of the experiment, which takes features for waveforms."""

    class PassOn(keras.layers.Layer):
        def call(self, waveform: Any, num_samples: Any = None) -> Any:
            return waveform

    front_end = build_front_end(experiment.front_end, experiment.audio.sample_rate_hz)
    feature_shape = front_end.compute_output_shape((1, experiment.num_samples))[1:]
    precision = experiment.distribution.precision
    with precision_scope(precision):
        backbone = build_backbone(experiment.model, feature_shape)
    head = experiment.model.head.model_dump(mode="json")
    names = [f"class {index}" for index in range(num_classes)]
    return Classifier(
        PassOn(dtype="float32"), backbone, head, names, {}, "softmax", precision
    )  # fmt: skip


def set_up(settings: dict[str, Any]) -> Round:
    """A function that does one training step, or one inference, and returns its seconds.

    Task ``parity`` writes weights, inputs and logits for the peer instead.
    """
    tf.config.threading.set_intra_op_parallelism_threads(settings["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(settings["threads"])
    keras.utils.set_random_seed(0)
    experiment = load_settings(settings)
    strategy = build_devices(experiment.distribution).strategy
    num_classes = experiment.data.num_classes
    with strategy.scope():
        model = build_tensorflow_model(experiment, num_classes)
        optimizer = build_optimizer(experiment.recipe, 1, experiment.distribution.precision)
        if settings["task"] == "train":
            optimizer.build(model.trainable_variables)

    @tf.function
    def predict(features: tf.Tensor) -> tf.Tensor:
        return strategy.run(lambda x: model.classify_features(x)["logits"], args=(features,))

    if settings["task"] == "parity":
        write_inputs(settings, model, predict, num_classes)
        return lambda: 0.0
    inputs = np.load(settings["inputs"])
    for index, variable in enumerate(list_weights(model)):
        variable.assign(inputs[f"weight_{index}"])
    features, labels = tf.constant(inputs["features"]), tf.constant(inputs["labels"])
    if settings["task"] == "infer":
        return timed(lambda: float(predict(features)[0, 0]))
    step = build_train_step(model, optimizer, strategy, experiment)
    batch = {"waveform": features, "num_samples": tf.zeros(len(labels), tf.int32), "label": labels}
    return timed(lambda: float(step(batch)["loss"]))


def list_weights(model: Any) -> list[Any]:
    """The model's variables in their order, without random states, which the peer has not."""
    return [variable for variable in model.weights if variable.dtype.startswith("float")]


def write_inputs(settings: dict[str, Any], model: Any, predict: Any, num_classes: int) -> None:
    """Write weights with lived-in batch statistics, a batch, and the logits that they give."""
    rng = np.random.default_rng(0)
    for variable in list_weights(model):
        if len(variable.shape) == 1:  # biases, scales and statistics, which start as zeros and ones
            variable.assign(variable + rng.uniform(0.0, 0.2, variable.shape).astype(np.float32))
    features = rng.standard_normal((settings["batch_size"], *model.backbone.input.shape[1:]))
    features = features.astype(np.float32)
    labels = np.eye(num_classes, dtype=np.float32)[np.arange(len(features)) % num_classes]
    arrays = {
        f"weight_{index}": np.asarray(variable.value)
        for index, variable in enumerate(list_weights(model))
    }
    arrays["logits"] = predict(features).numpy()
    np.savez(settings["inputs"], features=features, labels=labels, **arrays)
