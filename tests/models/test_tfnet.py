"""TFNet: its published sizes, its attention, its names."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.config import TFNetConfig
from esc_tf.errors import ConfigError
from esc_tf.models import build_tfnet
from tests.models.random_weights import assign_random_weights

SMALL = TFNetConfig(name="tfnet", block_filters=[4, 8])


def leaky(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, 0.2 * values)


class TFNetTest(tf.test.TestCase, parameterized.TestCase):
    # Of the published counts, 261,534 are of tensors that the original never uses.
    @parameterized.parameters((50, 4_979_116), (19, 4_963_213), (10, 4_958_596))
    def test_published_sizes(self, num_classes: int, published: int) -> None:
        model = build_tfnet(TFNetConfig(name="tfnet"), (250, 40, 1))
        counted = sum(math.prod(weight.shape) for weight in model.trainable_variables)
        self.assertEqual(counted + 513 * num_classes, published - 261_534)

    def test_attention_equals_its_formula(self) -> None:
        model = build_tfnet(SMALL, (None, 8, 1))
        assign_random_weights(model)
        layers = {layer.name: layer for layer in model.layers}
        features = np.random.default_rng(0).normal(size=(2, 11, 8, 1)).astype(np.float32)
        x = features
        for index in (1, 2):
            x = layers[f"block1_conv{index}"](x)
            x = layers[f"block1_bn{index}"](leaky(x.numpy()))
        outputs = model(features)
        branches = [x.numpy()]
        for axis, averaged in (("frequency", 1), ("time", 2)):
            name = f"{axis}_attention1"
            gate = leaky(layers[f"{name}_conv"](x).numpy())
            gate = layers[f"{name}_bn"](gate).numpy().mean(axis=averaged, keepdims=True)
            gate = 1.0 / (1.0 + np.exp(-gate))
            self.assertGreater(np.ptp(gate), 0.01)
            branch = layers[f"{name}_out_bn"](x.numpy() * gate).numpy()
            # measured: 3.6e-7
            self.assertAllClose(outputs[name], branch, rtol=0, atol=1e-5)
            branches.append(branch)
        shares = np.exp(layers["block1_fusion"].alpha.numpy())
        shares /= shares.sum()
        mixed = sum(share * branch for share, branch in zip(shares, branches, strict=True))
        pooled = leaky(mixed)[:, :10].reshape(2, 5, 2, 4, 2, 4).mean(axis=(2, 4))
        # measured: 1.2e-7
        self.assertAllClose(outputs["block1"], pooled, rtol=0, atol=1e-5)

    def test_layer_names_are_stable(self) -> None:
        names = [layer.name for layer in build_tfnet(SMALL, (None, 8, 1)).layers[1:]]
        attention = [
            *("attention1_conv", "attention1_activation", "attention1_bn", "attention1_mean"),
            *("attention1_gate", "attention1_scale", "attention1_out_bn"),
        ]
        self.assertCountEqual(
            [name for name in names if "1" in name and "block2" not in name],
            [
                *("block1_conv1", "block1_activation1", "block1_bn1"),
                *("block1_conv2", "block1_activation2", "block1_bn2"),
                *(f"frequency_{name}" for name in attention),
                *(f"time_{name}" for name in attention),
                *("block1_fusion", "block1_fusion_activation", "block1_pool"),
            ],
        )
        self.assertEqual(names[-2:], ["embedding_bands", "embedding_max"])

    def test_named_activations_from_input_to_output(self) -> None:
        outputs = build_tfnet(SMALL, (None, 8, 1)).output
        self.assertEqual(
            list(outputs),
            [
                *("frequency_attention1", "time_attention1", "block1"),
                *("frequency_attention2", "time_attention2", "block2"),
                "embedding",
            ],
        )

    def test_features_of_any_size(self) -> None:
        for bands in (4, 9, 40):
            model = build_tfnet(SMALL, (None, bands, 1))
            for num_frames in (4, 7, 300):
                features = np.ones((1, num_frames, bands, 1), np.float32)
                self.assertEqual(model(features)["embedding"].shape, (1, 8))

    def test_features_too_small_are_a_configuration_error(self) -> None:
        with self.assertRaisesRegex(ConfigError, "4 blocks need 16 frequency bins"):
            build_tfnet(TFNetConfig(name="tfnet"), (250, 15, 1))
