"""Tiny SavedModels of TensorFlow 2 and 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf


class Small(tf.Module):
    """A convolution and a matrix; texts; a counter of its calls; a scalar of each kind."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        self.kernel = tf.Variable(rng.normal(size=(3, 3, 1, 8)).astype(np.float32))
        self.matrix = tf.Variable(rng.normal(size=(8, 4)).astype(np.float32))
        self.counter = tf.Variable(0)

    @tf.function(input_signature=[tf.TensorSpec([None, 16, 16, 1], tf.float32, name="image")])
    def score(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        feature = tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(image, self.kernel, 1, "SAME")), (1, 2))
        return {"feature": feature, "scores": tf.nn.softmax(feature @ self.matrix)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="texts")])
    def join(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "each": tf.strings.join([texts, "!"]),
            "all": tf.strings.reduce_join(texts),
            "lengths": tf.strings.length(texts),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="inputs")])
    def count(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"calls": self.counter.assign_add(tf.reduce_sum(inputs))}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def multiply(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x @ self.matrix[:3]}

    @tf.function(input_signature=[])
    def facts(self) -> dict[str, tf.Tensor]:
        return {"rate": tf.constant(16000)}


def write_tf2(folder: Path) -> Path:
    """Write ``Small`` with each of its functions as a signature."""
    model = Small()
    signatures = {
        "serving_default": model.score,
        "join": model.join,
        "count": model.count,
        "multiply": model.multiply,
        "facts": model.facts,
    }
    tf.saved_model.save(model, str(folder), signatures=signatures)
    return folder


def write_half_plus_two(folder: Path) -> Path:
    """Write x/2 + 2 as TensorFlow 1 did: reference variables, a table, and a classify signature."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 1], name="x")
        a = v1.get_variable("a", initializer=0.5, use_resource=False)
        b = v1.get_variable("b", initializer=2.0, use_resource=False)
        y = tf.add(a * x, b, name="y")
        examples = v1.placeholder(tf.string, [None], name="tf_example")
        parsed = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([1], tf.float32)})
        score = tf.add(a * parsed["x"], b, name="score")
        keys, values = tf.constant([0, 1]), tf.constant(["low", "high"])
        table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), "none")
        names = table.lookup(tf.cast(parsed["x"] > 0, tf.int32))
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        info = v1.saved_model.build_tensor_info
        make = v1.saved_model.build_signature_def
        predict = make({"x": info(x)}, {"y": info(y)}, "tensorflow/serving/predict")
        classify = make(
            {"inputs": info(examples)},
            {"scores": info(score), "classes": info(names)},
            "tensorflow/serving/classify",
        )
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": predict, "classify": classify},
            main_op=v1.tables_initializer(),
        )
        builder.save()
    return folder


def make_example(x: float) -> tf.train.Example:
    """A tf.Example with the one feature that ``classify`` reads."""
    feature = tf.train.Feature(float_list=tf.train.FloatList(value=[x]))
    return tf.train.Example(features=tf.train.Features(feature={"x": feature}))
