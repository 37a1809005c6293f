"""Tiny classifiers to be exported: sound ones, and each with one thing wrong."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from esc_tf.tasks.classifier import Classifier, build_classifier
from tests.tiny import tiny_experiment

LABELS = ("low", "middle", "high")


def build_tiny(labels: tuple[str, ...] = LABELS, **sections: Any) -> Classifier:
    """An untrained classifier of half a second at 8 kHz, whose batch norms are not trivial."""
    keras.utils.set_random_seed(0)
    model = build_classifier(tiny_experiment("/nowhere", **sections), labels)
    rng = np.random.default_rng(0)
    for layer in model.backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.gamma.assign(rng.uniform(0.5, 1.5, shape))
            layer.beta.assign(rng.normal(0.0, 0.3, shape))
            layer.moving_mean.assign(rng.normal(0.0, 0.3, shape))
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, shape))
    return model


@keras.saving.register_keras_serializable(package="tests")
class WithoutKernel(keras.layers.Layer):
    """Computes with an operator that TFLite does not have."""

    def call(self, x: Any) -> Any:
        return x + 0.1 * tf.math.erfinv(0.5 * tf.tanh(x))


@keras.saving.register_keras_serializable(package="tests")
class CallsPython(keras.layers.Layer):
    """Computes in Python, which no file can hold."""

    def call(self, x: Any) -> Any:
        y = tf.py_function(lambda value: 2.0 * value, [x], tf.float32)
        return tf.ensure_shape(y, x.shape)

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


def with_layer(model: Classifier, layer: keras.layers.Layer) -> Classifier:
    """The model with one more layer behind its embedding."""
    backbone = model.backbone
    outputs = {**backbone.output, "embedding": layer(backbone.output["embedding"])}
    config = model.get_config()
    changed = Classifier(
        model.front_end,
        keras.Model(backbone.input, outputs),
        **{key: config[key] for key in ("head", "label_names", "audio", "output", "precision")},
    )
    changed.head.set_weights(model.head.get_weights())
    return changed


def break_weight(
    model: Classifier, layer_name: str, value: float = float("nan"), everywhere: bool = False
) -> Classifier:
    """The model with a wrong value in the first weight of a layer: at one place, or everywhere."""
    layers = {layer.name: layer for part in (model.backbone, model.head) for layer in part.layers}
    weight = layers[layer_name].weights[0]
    values = weight.numpy()
    values.flat[slice(None if everywhere else 1)] = value
    weight.assign(values)
    return model
