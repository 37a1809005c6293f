"""Costs: the published figures, small networks counted by hand, a layer without a rule."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.config import build_experiment
from esc_tf.config.loading import read_config_file
from esc_tf.evaluation.complexity import measure_classifier, measure_complexity
from esc_tf.tasks import Classifier, build_classifier
from tests.tiny import TINY, tiny_experiment

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


class PublishedNetworkTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        experiment = build_experiment(
            {
                "name": "published",
                "data": {"name": "esc50", "root": "there/is/no/such/folder"},
                "front_end": {"name": "log_mel", "fmin_hz": 20.0, "num_frames": 431},
                "model": {"name": "se_cnn"},
            }
        )
        cls.complexity = measure_complexity(experiment)

    def test_totals(self) -> None:
        self.assertEqual(self.complexity["trainable_parameters"], 21_569_906)
        self.assertEqual(round(self.complexity["multiply_adds"] / 1e9, 2), 14.09)
        self.assertEqual(round(self.complexity["parameter_bytes"] / 1e6, 2), 86.28)
        self.assertEqual(round(self.complexity["forward_backward_bytes"] / 1e6, 2), 218.14)
        # Two running statistics for each of 2 x (64 + 128 + 256 + 512 + 1024) channels.
        self.assertEqual(self.complexity["non_trainable_parameters"], 7_936)

    def test_exact_figures_of_the_docstring(self) -> None:
        for figure in (
            self.complexity["multiply_adds"],
            self.complexity["forward_backward_bytes"],
            self.complexity["parameter_bytes"],
        ):
            self.assertIn(f"{figure:,}", measure_classifier.__doc__)

    def test_parts(self) -> None:
        parts = {part["name"]: part for part in self.complexity["parts"]}
        self.assertEqual(
            {name: part["trainable_parameters"] for name, part in parts.items()},
            {
                "block1": 37_696,
                "block2": 221_696,
                "se2": 6_144,
                "block3": 885_760,
                "se3": 24_576,
                "block4": 3_540_992,
                "se4": 98_304,
                "block5": 14_159_872,
                "se5": 393_216,
                "head": 2_201_650,
            },
        )
        self.assertEqual(list(parts)[-1], "head")
        self.assertEqual(parts["block1"]["multiply_adds"], 431 * 128 * 9 * (64 + 64 * 64))
        self.assertEqual(parts["se5"]["multiply_adds"], 393_216)
        self.assertEqual(parts["head"]["multiply_adds"], 1024 * 2048 + 2048 * 50)
        self.assertEqual(parts["block5"]["output_shape"], [13, 4, 1024])
        self.assertEqual(parts["block5"]["receptive_field"], [156, 156])
        self.assertEqual(parts["head"]["output_shape"], [50])
        self.assertIsNone(parts["head"]["receptive_field"])

    def test_shapes_and_receptive_field(self) -> None:
        self.assertEqual(self.complexity["input_shape"], [220_500])
        self.assertEqual(self.complexity["feature_shape"], [431, 128, 1])
        self.assertEqual(self.complexity["output_shape"], [50])
        self.assertEqual(
            self.complexity["receptive_field"],
            {"time": 156, "frequency": 156, "time_stride": 32, "frequency_stride": 32},
        )

    def test_json_can_hold_it(self) -> None:
        self.assertEqual(json.loads(json.dumps(self.complexity)), self.complexity)


class AnyLengthTest(tf.test.TestCase):
    def measure(self, model: dict, duration_s: float = 10.0) -> dict:
        experiment = build_experiment(
            {
                "name": "any_length",
                "audio": {"sample_rate_hz": 32000, "duration_s": duration_s},
                "data": {"name": "synthetic"},
                "front_end": {"name": "log_mel", "n_fft": 1024, "hop_length": 320},
                "model": model,
            }
        )
        return measure_complexity(experiment, [f"class_{index}" for index in range(527)])

    def test_mobilenet_v3_has_the_published_multiply_adds(self) -> None:
        head = {"activation": "hard_swish", "dropout": 0.2}
        # Published for 10 s: 0.11 G at width 0.4, 0.54 G at width 1.0.
        for width, units, published in ((0.4, 512, 0.11), (1.0, 1280, 0.54)):
            own_head = {**head, "hidden_units": [units]}
            model = {"name": "mobilenet_v3", "width": width, "head": own_head}
            whole = self.measure(model)
            self.assertEqual(round(whole["multiply_adds"] / 1e9, 2), published)
            half = self.measure(model, duration_s=5.0)
            self.assertBetween(whole["multiply_adds"] / half["multiply_adds"], 1.9, 2.0)
            self.assertEqual(half["feature_shape"], [501, 128, 1])
            parts = {part["name"]: part for part in half["parts"]}
            self.assertEqual(parts["block15"]["output_shape"], [16, 4, int(160 * width)])

    def test_attention_branches_are_parts_of_their_own(self) -> None:
        names = [part["name"] for part in self.measure({"name": "tfnet"})["parts"]]
        self.assertEqual(names[:3], ["block1", "frequency_attention1", "time_attention1"])
        self.assertEqual(names[-1], "head")

    def test_a_head_on_a_feature_map_is_counted_at_every_position(self) -> None:
        model = {"name": "mobilenet_v3", "width": 0.1, "head": {"kind": "fully_convolutional"}}
        head = self.measure(model)["parts"][-1]
        self.assertEqual(head["multiply_adds"], 32 * 4 * 96 * 527)
        self.assertEqual(head["output_shape"], [527])
        model["head"] = {"kind": "attention", "num_heads": 2}
        head = self.measure(model)["parts"][-1]
        self.assertEqual(head["multiply_adds"], 32 * 96 * 527 * 4)


class LearnedFrontEndTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        # 2,084 x 155 x 80 and 170 x 15 x 80 x 60 products
        ("heurinet", 84_540, 25_841_600 + 12_240_000),
        # 41 x (1,024 x 512 + 3 x 512 x 256 + 3 x 256 x 60)
        ("mstnet", 964_412, 41 * (524_288 + 393_216 + 46_080)),
        # 42 frames of 513 complex bins and 60 bands, the last of which is cut off
        ("mel_init_60", 1_081_404, 42 * (1_024 * 2 * 513 + 513 * 60)),
        ("log_mel_60", None, None),
    )
    def test_is_a_part_of_its_own(
        self, name: str, parameters: int | None, multiply_adds: int | None
    ) -> None:
        sections = read_config_file(CONFIGS / "front_end" / f"{name}.yaml")
        experiment = build_experiment(
            {
                "name": "learned",
                "data": {"name": "synthetic"},
                "model": {"name": "piczak_net", "dense_units": 20},
                **sections,
            }
        )
        complexity = measure_complexity(experiment)
        first = complexity["parts"][0]
        if parameters is None:
            self.assertEqual(first["name"], "block1")
            return
        self.assertEqual(first["name"], "front_end")
        self.assertEqual(first["trainable_parameters"], parameters)
        self.assertEqual(first["multiply_adds"], multiply_adds)
        network = sum(part["trainable_parameters"] for part in complexity["parts"][1:])
        self.assertEqual(complexity["trainable_parameters"], parameters + network)


class SmallNetworkTest(tf.test.TestCase):
    def test_by_hand(self) -> None:
        # Features 32 x 24; block 1: 8 filters, block 2: 16 with attention, head 16, 10 classes.
        complexity = measure_complexity(tiny_experiment("unused"))
        blocks = 32 * 24 * 9 * 8 + 16 * 12 * 9 * 8 * 16
        attention = 32 * 2 + 2 * 16
        self.assertEqual(complexity["multiply_adds"], blocks + attention + 16 * 16 + 16 * 10)
        outputs = 2 * 32 * 24 * 8 + 2 * 16 * 12 * 16 + 2 + 16 + 16 + 10
        self.assertEqual(complexity["activation_bytes"], 4 * outputs)
        self.assertEqual(complexity["forward_backward_bytes"], 8 * outputs)
        self.assertEqual(complexity["output_shape"], [10])

    def test_is_the_same_in_another_precision(self) -> None:
        mixed = tiny_experiment("unused", distribution={"precision": "mixed_bfloat16"})
        self.assertEqual(measure_complexity(mixed), measure_complexity(tiny_experiment("unused")))

    def test_flops_agree_with_tensorflow_profiler(self) -> None:
        experiment = tiny_experiment("unused")
        model = build_classifier(experiment, ["a", "b"])
        call = tf.function(lambda features: model.classify_features(features)["logits"])
        graph = call.get_concrete_function(tf.TensorSpec((1, 32, 24, 1))).graph
        options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
        options["output"] = "none"
        profile = tf.compat.v1.profiler.profile(graph, options=options)
        ours = measure_classifier(model, experiment.num_samples)["multiply_adds"]
        # TensorFlow counts multiplications and additions apart, and norms and pooling besides:
        # measured 5.4 % more.
        self.assertBetween(profile.total_float_ops / (2 * ours), 1.0, 1.08)

    def test_a_class_list_decides_the_outputs(self) -> None:
        experiment = build_experiment(
            {**TINY, "data": {"name": "esc50", "root": "none", "classes": ["dog", "rain", "cow"]}}
        )
        self.assertEqual(measure_complexity(experiment)["output_shape"], [3])

    def test_a_layer_with_weights_and_without_a_rule_is_named(self) -> None:
        model = build_classifier(tiny_experiment("unused"), ["a", "b"])
        features = keras.Input((32, 24, 1))
        x = keras.layers.SeparableConv2D(4, 3, name="odd_one")(features)
        embedding = keras.layers.GlobalAveragePooling2D(name="embedding")(x)
        backbone = keras.Model(features, {"embedding": embedding})
        other = Classifier(model.front_end, backbone, {}, ["a", "b"], {})
        self.assertTrue(np.isfinite(other(np.zeros((1, 4000), np.float32))["logits"]).all())
        with self.assertRaisesRegex(NotImplementedError, "odd_one"):
            measure_classifier(other, 4000)
