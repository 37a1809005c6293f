"""The computed receptive field against the one seen in gradients."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from keras import layers

from esc_tf.config import MobileNetV3Config, SECNNConfig, TFNetConfig
from esc_tf.evaluation.receptive_field import ReceptiveField, measure_receptive_fields
from esc_tf.models import build_mobilenet_v3, build_se_cnn, build_tfnet


def seen_in_gradients(model: keras.Model, name: str, position: tuple[int, int]) -> tuple[int, int]:
    """Extent of the input that moves one position, over many random inputs.

    A max-pool passes the gradient to one of its inputs alone, so that one clip shows only a part.
    """
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D):
            layer.kernel.assign(tf.abs(layer.kernel))  # no path may be cut off by a ReLU
    network = keras.Model(model.input, model.get_layer(name).output)
    shape = (256, *model.input.shape[1:])
    features = tf.constant(np.random.default_rng(0).uniform(0.5, 1.0, size=shape), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(features)
        value = tf.reduce_sum(network(features)[:, position[0], position[1]])
    moved = np.abs(tape.gradient(value, features).numpy()).max(axis=(0, 3)) > 0
    times, bins = np.flatnonzero(moved.any(axis=1)), np.flatnonzero(moved.any(axis=0))
    return int(np.ptp(times)) + 1, int(np.ptp(bins)) + 1


class ReceptiveFieldTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters("block1_conv2", "block1_pool", "block2_relu1", "block2_pool")
    def test_is_what_gradients_show(self, name: str) -> None:
        config = SECNNConfig(
            name="se_cnn", block_filters=[2, 2], squeeze_excitation_blocks=[], convs_per_block=2
        )
        model = build_se_cnn(config, (44, 40, 1))
        field = measure_receptive_fields(model)[name]
        height, width = model.get_layer(name).output.shape[1:3]
        seen = seen_in_gradients(model, name, (height // 2, width // 2))
        self.assertGreater(seen[0], 4)
        self.assertEqual(seen, field.size)

    def test_strides_and_dilation_are_what_gradients_show(self) -> None:
        features = keras.Input((60, 50, 1))
        x = layers.Conv2D(2, (3, 5), strides=(2, 1), padding="same")(features)
        x = layers.Conv2D(2, 3, dilation_rate=(3, 2), padding="same")(x)
        x = layers.Conv2D(2, (1, 3), padding="same", name="last")(x)
        model = keras.Model(features, x)
        field = measure_receptive_fields(model)["last"]
        self.assertEqual(field, ReceptiveField(size=(15, 11), stride=(2, 1)))
        self.assertEqual(seen_in_gradients(model, "last", (15, 25)), field.size)

    def test_published_network(self) -> None:
        fields = measure_receptive_fields(build_se_cnn(SECNNConfig(name="se_cnn"), (None, 128, 1)))
        self.assertEqual(fields["block5_relu2"].size, (140, 140))
        self.assertEqual(fields["block5_pool"], ReceptiveField((156, 156), (32, 32)))
        self.assertEqual(fields["se5_scale"], fields["block5_pool"])
        self.assertIsNone(fields["se5_gate"])
        self.assertIsNone(fields["embedding"])

    def test_mobilenet_v3(self) -> None:
        config = MobileNetV3Config(name="mobilenet_v3", width=0.1)
        fields = measure_receptive_fields(build_mobilenet_v3(config, (None, 128, 1)))
        self.assertEqual(fields["stem_activation"], ReceptiveField((3, 3), (2, 2)))
        # 3 x 3, stride 2; 3 x 3; 3 x 3, stride 2; 3 x 3; 5 x 5, stride 2.
        self.assertEqual(fields["block4_depthwise_conv"], ReceptiveField((35, 35), (8, 8)))
        self.assertEqual(fields["se4_scale"], fields["block4_depthwise_conv"])
        self.assertIsNone(fields["se4_dense2"])
        # The input is added to what sees more.
        self.assertEqual(fields["block5_add"], fields["block5_depthwise_conv"])
        self.assertEqual(fields["final_activation"], ReceptiveField((595, 595), (32, 32)))
        self.assertIsNone(fields["embedding"])

    def test_branches_of_attention_see_what_they_scale(self) -> None:
        config = TFNetConfig(name="tfnet", block_filters=[2, 2])
        fields = measure_receptive_fields(build_tfnet(config, (None, 16, 1)))
        self.assertEqual(fields["block1_bn2"].size, (5, 5))
        self.assertIsNone(fields["time_attention1_gate"])
        self.assertEqual(fields["time_attention1_out_bn"], fields["block1_bn2"])
        self.assertEqual(fields["block1_fusion_activation"], fields["block1_bn2"])
        self.assertEqual(fields["block2_pool"], ReceptiveField((16, 16), (4, 4)))
