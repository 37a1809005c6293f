"""Batch norms folded into convolutions: the same numbers, in a model of its own."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from keras import layers

from esc_tf.config import MobileNetV3Config
from esc_tf.models import build_backbone
from esc_tf.models.folding import fold_batch_norms
from tests.models.random_weights import assign_random_weights
from tests.models.test_parity import build

# Measured: up to 3.1e-6 at width 1, 1.8e-6 at 0.1.
TOLERANCE = 1e-5


def relative_error(ours: object, expected: object) -> float:
    ours, expected = np.asarray(ours), np.asarray(expected)
    return float(np.linalg.norm(ours - expected) / np.linalg.norm(expected))


def find_batch_norms(model: keras.Model) -> list[str]:
    return [layer.name for layer in model.layers if isinstance(layer, layers.BatchNormalization)]


def make_input(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


class MobileNetV3Test(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(64, 65, 66, 67, 95)
    def test_every_output_is_the_same_at_even_and_odd_lengths(self, num_frames: int) -> None:
        config = MobileNetV3Config(name="mobilenet_v3", width=0.1)
        model = build_backbone(config, (None, num_frames // 2, 1))
        assign_random_weights(model)
        folded = fold_batch_norms(model)
        self.assertEqual(find_batch_norms(folded), [])
        features = make_input(2, num_frames, num_frames // 2, 1)
        expected, found = model(features, training=False), folded(features, training=False)
        self.assertEqual(list(found), list(expected))
        for name, value in expected.items():
            self.assertEqual(found[name].shape, value.shape)
            self.assertLess(relative_error(found[name], value), TOLERANCE, msg=name)

    def test_the_original_is_left_alone(self) -> None:
        config = MobileNetV3Config(name="mobilenet_v3", width=0.1)
        model = build_backbone(config, (None, 64, 1))
        assign_random_weights(model)
        features = make_input(1, 64, 64, 1)
        expected = model(features, training=False)["embedding"]
        folded = fold_batch_norms(model)
        for weight in folded.weights:
            weight.assign(keras.ops.zeros_like(weight))
        self.assertAllEqual(model(features, training=False)["embedding"], expected)


class AnyModelTest(tf.test.TestCase):
    def fold(self, build_graph, num_kept: int) -> keras.Model:
        inputs = keras.Input((None, 12, 4))
        model = keras.Model(inputs, build_graph(inputs))
        assign_random_weights(model)
        folded = fold_batch_norms(model)
        self.assertLen(find_batch_norms(folded), num_kept)
        for num_frames in (15, 16):
            x = make_input(2, num_frames, 12, 4)
            expected = keras.tree.flatten(model(x, training=False))
            for ours, value in zip(keras.tree.flatten(folded(x)), expected, strict=True):
                self.assertEqual(ours.shape, value.shape)
                self.assertLess(relative_error(ours, value), TOLERANCE)
        return folded

    def test_multiplied_channels_and_strides(self) -> None:
        def graph(x):
            x = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)(x)
            x = layers.BatchNormalization()(x)
            x = layers.ZeroPadding2D(2)(x)
            x = layers.DepthwiseConv2D(5, strides=2, use_bias=False)(x)
            return layers.BatchNormalization()(x)

        folded = self.fold(graph, num_kept=0)
        self.assertNotIn(layers.ZeroPadding2D, [type(layer) for layer in folded.layers])

    def test_paddings_that_no_kernel_can_do_stay(self) -> None:
        def graph(x):
            for padding, stride in (((1, 2), 2), (1, 1), (2, 2)):
                x = layers.ZeroPadding2D(padding)(x)
                x = layers.DepthwiseConv2D(3, strides=stride, use_bias=False)(x)
                x = layers.BatchNormalization()(x)
            return x

        folded = self.fold(graph, num_kept=0)
        kinds = [type(layer) for layer in folded.layers]
        self.assertEqual(kinds.count(layers.ZeroPadding2D), 3)

    def test_a_convolution_that_others_read_stays(self) -> None:
        def graph(x):
            read_twice = layers.Conv2D(6, 1, use_bias=False)(x)
            output = layers.Conv2D(6, 1, use_bias=False)(x)
            with_bias = layers.Conv2D(6, 1)(x)
            with_activation = layers.Conv2D(6, 1, use_bias=False, activation="relu")(x)
            parts = [read_twice, output, with_bias, with_activation]
            total = layers.Add()([read_twice, *(layers.BatchNormalization()(y) for y in parts)])
            return [total, output]

        self.fold(graph, num_kept=4)


class ClassifierTest(tf.test.TestCase):
    def test_a_folded_classifier_is_a_classifier(self) -> None:
        model = build("mn04", "efficientat_log_mel", num_classes=10)
        assign_random_weights(model)
        folded = model.fold_batch_norms()
        waveform = 0.1 * make_input(2, 16_000)
        expected = model(waveform)
        path = self.create_tempfile("folded.keras").full_path
        folded.save(path)
        for one in (folded, keras.saving.load_model(path)):
            found = one(waveform)
            self.assertEqual(set(found), set(expected))
            for name, value in expected.items():
                self.assertLess(relative_error(found[name], value), TOLERANCE, msg=name)
        self.assertEqual(folded.label_names, model.label_names)
        self.assertEqual(folded.activation_names, model.activation_names)
        # Every padding is now in a convolution, but for the first, which TensorFlow fuses itself.
        self.assertLess(folded.count_params(), model.count_params())


if __name__ == "__main__":
    tf.test.main()
