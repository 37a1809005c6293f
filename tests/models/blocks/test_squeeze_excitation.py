"""The attention gates against their formulas in NumPy."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from esc_tf.models.blocks import ChannelScale, squeeze_excite, squeeze_excite_mean


def build_attention(channels: int, ratio: int) -> keras.Model:
    keras.utils.set_random_seed(0)  # a narrow hidden layer may start dead, gates all 1/2
    features = keras.Input((None, 3, channels))
    return keras.Model(features, squeeze_excite(features, ratio, name="se2"))


class SqueezeExciteTest(tf.test.TestCase):
    def test_equals_its_formula(self) -> None:
        model = build_attention(channels=16, ratio=8)
        values = np.random.default_rng(0).normal(size=(2, 5, 3, 16)).astype(np.float32)
        first = model.get_layer("se2_dense1").kernel.numpy()
        second = model.get_layer("se2_dense2").kernel.numpy()
        squeezed = np.concatenate([values.mean(axis=(1, 2)), values.max(axis=(1, 2))], axis=1)
        gate = 1.0 / (1.0 + np.exp(-np.maximum(squeezed @ first, 0.0) @ second))
        self.assertGreater(gate.max() - gate.min(), 0.1)
        # measured: 2.4e-7
        self.assertAllClose(model(values), values * gate[:, None, None, :], rtol=0, atol=1e-6)

    def test_has_three_c_squared_over_ratio_parameters(self) -> None:
        self.assertEqual(build_attention(channels=128, ratio=8).count_params(), 6144)

    def test_keeps_at_least_one_hidden_unit(self) -> None:
        self.assertEqual(build_attention(channels=4, ratio=8).count_params(), 2 * 4 + 4)


class SqueezeExciteMeanTest(tf.test.TestCase):
    def test_equals_its_formula(self) -> None:
        rng = np.random.default_rng(0)
        features = keras.Input((None, 3, 16))
        model = keras.Model(features, squeeze_excite_mean(features, 8, name="se4"))
        self.assertEqual(
            [layer.name for layer in model.layers[1:]],
            ["se4_mean", "se4_dense1", "se4_dense2", "se4_scale"],
        )
        self.assertEqual(model.count_params(), 2 * 16 * 8 + 8 + 16)
        first, second = (model.get_layer(f"se4_dense{index}") for index in (1, 2))
        for layer in (first, second):
            layer.set_weights([rng.normal(size=weight.shape) for weight in layer.get_weights()])
        values = rng.normal(size=(2, 5, 3, 16)).astype(np.float32)
        hidden = values.mean(axis=(1, 2)) @ first.kernel.numpy() + first.bias.numpy()
        gate = np.maximum(hidden, 0.0) @ second.kernel.numpy() + second.bias.numpy()
        gate = 1.0 / (1.0 + np.exp(-gate))
        self.assertGreater(gate.max() - gate.min(), 0.1)
        # measured: 2.4e-7
        expected = values * gate[:, None, None, :]
        self.assertAllClose(model(values), expected, rtol=0, atol=2e-6)

    def test_weights_start_narrow(self) -> None:
        keras.utils.set_random_seed(0)
        features = keras.Input((None, 3, 256))
        model = keras.Model(features, squeeze_excite_mean(features, 64, name="se4"))
        for index in (1, 2):
            kernel, bias = model.get_layer(f"se4_dense{index}").get_weights()
            # 16,384 draws: the deviation is off by 0.6 % one time in three
            self.assertBetween(float(kernel.std()), 0.0097, 0.0103)
            self.assertAllEqual(bias, np.zeros_like(bias))


class ChannelScaleTest(tf.test.TestCase):
    def test_shape_and_configuration(self) -> None:
        layer = ChannelScale(name="se4_scale")
        result = layer([keras.Input((None, 8, 4)), keras.Input((4,))])
        self.assertEqual(result.shape, (None, None, 8, 4))
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
        self.assertEqual(copy.name, "se4_scale")
