"""Foretold sizes against those of computed feature maps."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.config import CNN10Config, MobileNetV3Config, SECNNConfig, TFNetConfig
from esc_tf.evaluation.layer_shapes import measure_output_shapes
from esc_tf.models import build_backbone

CONFIGS = (
    SECNNConfig(name="se_cnn", block_filters=[2, 4], squeeze_excitation_blocks=[2]),
    MobileNetV3Config(name="mobilenet_v3", width=0.1, strides=(2, 1, 2, 1)),
    CNN10Config(name="cnn10", block_filters=[2, 4], embedding_units=8),
    TFNetConfig(name="tfnet", block_filters=[2, 4]),
)


class LayerShapesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters((config.name, config) for config in CONFIGS)
    def test_are_those_of_computed_values(self, config) -> None:
        backbone = build_backbone(config, (None, 13, 1))
        shapes = measure_output_shapes(backbone, (37, 13, 1))
        self.assertEqual(list(shapes), [layer.name for layer in backbone.layers])
        everything = {layer.name: layer.output for layer in backbone.layers[1:]}
        values = keras.Model(backbone.input, everything)(np.zeros((1, 37, 13, 1), np.float32))
        for name, value in values.items():
            self.assertEqual((1, *shapes[name]), tuple(value.shape), msg=name)
