"""MobileNetV3: its published sizes, its options, its names, how it starts."""

from __future__ import annotations

import json
import math

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.config import HeadConfig, MobileNetV3Config
from esc_tf.config.model import MOBILENET_V3_WIDTHS, round_channels
from esc_tf.models import build_mobilenet_v3
from esc_tf.models.mobilenet_v3 import list_inverted_residuals
from esc_tf.tasks.heads import build_head
from tests.shared_files import shared_path

# Trainable parameters by classes, as the original has them: from the fixtures, and for the narrow
# ones counted in the original.
SIZES = {
    "mn01": {50: 62_250},
    "mn02": {50: 202_106},
    "mn04": {50: 738_898, 527: 983_599},
    "mn05": {50: 1_125_482, 527: 1_431_239},
    "mn10": {50: 4_265_794, 527: 4_876_831},
    "mn20": {50: 16_687_690, 527: 17_909_287},
    "mn40": {50: 65_984_586, 527: 68_427_303},
}


def configure(width: float = 0.4, **options) -> MobileNetV3Config:
    units = round_channels(1280 * width // (2 if options.get("reduced_tail") else 1))
    head = HeadConfig(hidden_units=[units], activation="hard_swish", dropout=0.2)
    return MobileNetV3Config(name="mobilenet_v3", width=width, head=head, **options)


def count(model: keras.Model) -> int:
    return sum(math.prod(weight.shape) for weight in model.trainable_variables)


class SizeTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*SIZES)
    def test_parameters(self, name: str) -> None:
        config = configure(MOBILENET_V3_WIDTHS[name])
        backbone = build_mobilenet_v3(config, (None, 128, 1))
        for num_classes, published in SIZES[name].items():
            _, head = build_head(backbone, config.head, num_classes, "sigmoid", "float32")
            self.assertEqual(count(backbone) + count(head), published)

    def test_sizes_are_those_of_the_fixtures_and_of_the_docstring(self) -> None:
        facts = json.loads(shared_path("reference/mn04.json").read_text(encoding="utf-8"))
        published = facts["trainable_parameters_by_width_and_classes_mlp_head"]
        for width, counts in published.items():
            (name,) = (key for key, value in MOBILENET_V3_WIDTHS.items() if value == float(width))
            self.assertEqual({int(key): value for key, value in counts.items()}, SIZES[name])
            for number in counts.values():
                self.assertIn(f"{number:,}", build_mobilenet_v3.__doc__)

    # Counted in the original.
    @parameterized.parameters((1.0, 1_960_114), (0.5, 537_130))
    def test_reduced_tail(self, width: float, published: int) -> None:
        config = configure(width, reduced_tail=True)
        backbone = build_mobilenet_v3(config, (None, 128, 1))
        _, head = build_head(backbone, config.head, 50, "sigmoid", "float32")
        self.assertEqual(count(backbone) + count(head), published)

    @parameterized.parameters("mn04", "mn10")
    def test_blocks_are_those_of_the_fixture(self, name: str) -> None:
        facts = json.loads(shared_path(f"reference/{name}.json").read_text(encoding="utf-8"))
        blocks = list_inverted_residuals(configure(MOBILENET_V3_WIDTHS[name]))
        self.assertLen(blocks, 15)
        for block, published in zip(blocks, facts["blocks"], strict=True):
            self.assertEqual(
                {
                    "in": block.channels,
                    "kernel": block.kernel,
                    "expanded": block.expanded,
                    "out": block.filters,
                    "squeeze_excitation": block.squeeze_units is not None,
                    "activation": "hardswish" if block.hard_swish else "relu",
                    "stride": block.stride,
                    "residual": block.residual,
                },
                {key: value for key, value in published.items() if key != "features"},
            )


class GraphTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ((2, 2, 2, 2), 32), ((2, 2, 2, 1), 16), ((2, 1, 1, 2), 8), ((1, 1, 1, 1), 2)
    )
    def test_strides(self, strides: tuple, stride: int) -> None:
        model = build_mobilenet_v3(configure(0.1, strides=strides), (None, 40, 1))
        for num_frames in (1, 31, 32, 33):
            final = model(np.zeros((1, num_frames, 40, 1), np.float32))["final"]
            self.assertEqual(final.shape[1:3], (-(-num_frames // stride), -(-40 // stride)))

    def test_features_of_any_length(self) -> None:
        model = build_mobilenet_v3(configure(0.1), (500, 64, 1))
        self.assertEqual(model.input.shape, (None, None, 64, 1))
        for num_frames in (1, 30, 1000):
            features = np.ones((2, num_frames, 64, 1), np.float32)
            self.assertEqual(model(features)["embedding"].shape, (2, 96))

    def test_layer_names_are_stable(self) -> None:
        names = [layer.name for layer in build_mobilenet_v3(configure(), (None, 128, 1)).layers]
        self.assertEqual(names[1:5], ["stem_pad", "stem_conv", "stem_bn", "stem_activation"])
        block1 = [name for name in names if name.startswith("block1_")]
        self.assertEqual(  # nothing expands, the stride is 1
            block1,
            [
                *("block1_depthwise_conv", "block1_depthwise_bn", "block1_depthwise_activation"),
                *("block1_project_conv", "block1_project_bn", "block1_add"),
            ],
        )
        block4 = [name for name in names if name.startswith(("block4_", "se4_"))]
        self.assertEqual(  # stride 2 and attention, so that nothing is added
            block4,
            [
                *("block4_expand_conv", "block4_expand_bn", "block4_expand_activation"),
                "block4_depthwise_pad",
                *("block4_depthwise_conv", "block4_depthwise_bn", "block4_depthwise_activation"),
                *("se4_mean", "se4_dense1", "se4_dense2", "se4_scale"),
                *("block4_project_conv", "block4_project_bn"),
            ],
        )
        self.assertEqual(names[-4:], ["final_conv", "final_bn", "final_activation", "embedding"])

    def test_named_activations_from_input_to_output(self) -> None:
        outputs = build_mobilenet_v3(configure(), (None, 128, 1)).output
        expected = ["stem"]
        for index in range(1, 16):
            expected += [f"se{index}"] if index in (4, 5, 6, 11, 12, 13, 14, 15) else []
            expected.append(f"block{index}")
        self.assertEqual(list(outputs), [*expected, "final", "embedding"])
        self.assertEqual(outputs["se4"].shape, (None, None, 16, 32))
        self.assertEqual(outputs["block4"].shape, (None, None, 16, 16))

    def test_batch_norm_has_the_published_settings(self) -> None:
        model = build_mobilenet_v3(configure(), (None, 128, 1))
        norms = [item for item in model.layers if isinstance(item, keras.layers.BatchNormalization)]
        self.assertLen(norms, 1 + 14 * 3 + 2 + 1)
        self.assertEqual({(norm.momentum, norm.epsilon) for norm in norms}, {(0.99, 1e-3)})

    def test_convolutions_start_as_published(self) -> None:
        keras.utils.set_random_seed(0)
        model = build_mobilenet_v3(configure(1.0), (None, 128, 1))
        for name, variance in (
            ("block15_expand_conv", 2 / 960),
            ("block14_depthwise_conv", 2 / (25 * 960)),
            ("block15_project_conv", 2 / 160),
        ):
            kernel = model.get_layer(name).kernel.numpy()
            # 24,000 draws or more: the deviation is off by at most 0.5 % two times in three
            self.assertBetween(float(kernel.std()) / math.sqrt(variance), 0.98, 1.02)
            self.assertLess(abs(float(kernel.mean())), 0.03 * math.sqrt(variance))


class FewerBlocksTest(tf.test.TestCase):
    def test_the_first_blocks_alone(self) -> None:
        config = MobileNetV3Config(name="mobilenet_v3", width=0.4, num_blocks=11, head=HeadConfig())
        backbone = build_mobilenet_v3(config, (None, 128, 1))
        whole = build_mobilenet_v3(configure(), (None, 128, 1))
        mine, theirs = (
            {layer.name: [weight.shape for weight in layer.weights] for layer in model.layers}
            for model in (backbone, whole)
        )
        fresh = {name for name in mine if mine[name] != theirs.get(name)}
        self.assertEqual(fresh, {"final_conv", "final_bn"})
        self.assertNotIn("block12", backbone.output)
        self.assertEqual(backbone.output["embedding"].shape[-1], 6 * 48)
        _, head = build_head(backbone, config.head, 10, "softmax", "float32")
        # 74,288 in the stem and the blocks, 48 x 288 + 2 x 288 behind them, 288 x 10 + 10.
        self.assertEqual(count(backbone) + count(head), 91_578)

    def test_the_last_expansion(self) -> None:
        config = configure(0.1, num_blocks=3, final_expansion=2)
        backbone = build_mobilenet_v3(config, (None, 64, 1))
        self.assertEqual(
            backbone.output["embedding"].shape[-1], 2 * backbone.output["block3"].shape[-1]
        )
