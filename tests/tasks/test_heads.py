"""The kinds of heads on one small backbone: what they read, their names, their numbers."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.config import HeadConfig
from esc_tf.errors import UnknownNameError
from esc_tf.tasks import load_classifier
from esc_tf.tasks.heads import HEADS, build_head
from tests.models.blocks.test_attention import slow_attention
from tests.tasks.test_classifier import clips, tiny_classifier

ALL = {
    "mlp": {"kind": "mlp", "hidden_units": [8], "activation": "hard_swish", "dropout": 0.2},
    "fully_convolutional": {"kind": "fully_convolutional"},
    "attention": {"kind": "attention", "num_heads": 2},
}
# The tiny experiment's own head has hidden units and dropout, which the others would refuse.
NONE = {"hidden_units": [], "dropout": 0.0}


def build(kind: str, **sections):
    return tiny_classifier(model={"head": {**NONE, **ALL[kind]}}, **sections)


class HeadsTest(tf.test.TestCase, parameterized.TestCase):
    def test_every_kind_of_the_configuration_is_in_the_table(self) -> None:
        kinds = HeadConfig.model_fields["kind"].annotation.__args__
        self.assertEqual(set(kinds), set(HEADS))
        self.assertEqual(set(kinds), set(ALL))

    @parameterized.parameters(
        ("mlp", "embedding",
         ["head_dense1", "head_activation1", "head_dropout", "logits"]),
        ("fully_convolutional", "se2", ["logits_conv", "logits_bn", "logits"]),
        ("attention", "se2",
         ["attention_bands", "attention_projection", "attention_pooling", "logits"]),
    )  # fmt: skip
    def test_what_it_reads_and_its_layers(self, kind: str, source: str, names: list[str]) -> None:
        model = build(kind)
        self.assertEqual(model.head_source, source)
        self.assertEqual([layer.name for layer in model.head.layers[1:]], [*names, "probabilities"])

    @parameterized.parameters(*ALL)
    def test_outputs_and_activations(self, kind: str) -> None:
        model, waveform = build(kind), clips()
        outputs = model(waveform)
        names = [layer.name for layer in model.head.layers[1:]]
        values = model.compute_activations(waveform, [*model.activation_names, *names])
        for name, value in outputs.items():
            self.assertTrue(np.isfinite(value.numpy()).all(), msg=name)
            self.assertAllEqual(values[name], value, msg=name)
        self.assertEqual(outputs["logits"].shape, (3, 3))
        self.assertEqual(outputs["embedding"].shape, (3, 16))
        self.assertEqual(outputs["logits"].dtype, tf.float32)

    @parameterized.parameters(*ALL)
    def test_logits_are_float32_in_mixed_precision(self, kind: str) -> None:
        outputs = build(kind, distribution={"precision": "mixed_bfloat16"})(clips())
        self.assertEqual({value.dtype for value in outputs.values()}, {tf.float32})

    @parameterized.parameters(*ALL)
    def test_saved_and_loaded_is_equal(self, kind: str) -> None:
        model, path = build(kind), f"{self.get_temp_dir()}/{kind}.keras"
        model.save(path)
        loaded = load_classifier(path)
        self.assertEqual(loaded.get_config()["head"], model.get_config()["head"])
        self.assertAllEqual(loaded(clips())["logits"], model(clips())["logits"])

    def test_fully_convolutional_is_a_mean_of_normed_maps(self) -> None:
        model = build("fully_convolutional")
        rng = np.random.default_rng(0)
        norm = model.head.get_layer("logits_bn")
        self.assertEqual((norm.momentum, norm.epsilon), (0.9, 1e-5))
        gamma, beta, mean = (rng.normal(size=3) for _ in range(3))
        variance = rng.uniform(0.5, 2.0, size=3)
        norm.set_weights([gamma, beta, mean, variance])
        values = model.compute_activations(clips(), ["se2", "logits"])
        kernel = model.head.get_layer("logits_conv").kernel.numpy()[0, 0]
        maps = values["se2"].numpy() @ kernel
        expected = (gamma * (maps - mean) / np.sqrt(variance + 1e-5) + beta).mean(axis=(1, 2))
        # measured: 4.1e-6
        self.assertAllClose(values["logits"], expected, rtol=0, atol=1e-5)

    def test_attention_is_over_time_behind_the_mean_over_frequency(self) -> None:
        model = build("attention")
        projection = model.head.get_layer("attention_projection")
        rng = np.random.default_rng(0)
        projection.set_weights([rng.normal(size=item.shape) for item in projection.get_weights()])
        values = model.compute_activations(clips(), ["se2", "logits"])
        frames = values["se2"].numpy().mean(axis=2) @ projection.kernel.numpy()
        expected = slow_attention(frames + projection.bias.numpy(), np.array([0.5, 0.5]))
        # measured: 2.4e-6
        self.assertAllClose(values["logits"], expected, rtol=0, atol=1e-5)

    def test_a_backbone_without_a_feature_map_is_refused(self) -> None:
        features = keras.Input((4, 3, 1))
        embedding = keras.layers.Flatten(name="embedding")(features)
        backbone = keras.Model(features, {"embedding": embedding})
        with self.assertRaisesRegex(ValueError, "returns none"):
            build_head(backbone, HeadConfig(kind="attention"), 2, "softmax", "float32")

    def test_an_unknown_kind_is_refused(self) -> None:
        config = HeadConfig.model_construct(kind="atention")
        with self.assertRaisesRegex(UnknownNameError, "did you mean 'attention'"):
            build_head(tiny_classifier().backbone, config, 2, "softmax", "float32")

    def test_how_dense_layers_start(self) -> None:
        keras.utils.set_random_seed(0)
        features = keras.Input((4, 3, 1))
        backbone = keras.Model(features, {"embedding": keras.layers.Flatten()(features)})
        kernels = {}
        for activation in ("relu", "hard_swish"):
            config = HeadConfig(hidden_units=[2000], activation=activation)
            _, head = build_head(backbone, config, 20, "softmax", "float32")
            kernels[activation] = [
                head.get_layer(name).kernel.numpy() for name in ("head_dense1", "logits")
            ]
        hidden, logits = kernels["relu"]
        # He-normal on 12 values: 24,000 draws, off by 0.5 % one time in three. Glorot-uniform
        # between 2,000 and 20: no draw lies outside, and of 40,000 one comes near.
        self.assertAllClose(hidden.std(), np.sqrt(2 / 12), rtol=0.03, atol=0)
        self.assertAllClose(np.abs(logits).max(), np.sqrt(6 / 2020), rtol=0.01, atol=0)
        for kernel in kernels["hard_swish"]:
            self.assertAllClose(kernel.std(), 0.01, rtol=0.03, atol=0)
