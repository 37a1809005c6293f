"""The student family: its sizes, its options, its names, folded and as TFLite."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.config import MobileNetStudentConfig, build_experiment
from esc_tf.errors import ConfigError
from esc_tf.models import build_mobilenet_student
from esc_tf.models.folding import fold_batch_norms
from esc_tf.models.mobilenet_student import list_student_blocks
from esc_tf.tasks import build_classifier
from tests.models import test_tflite
from tests.models.random_weights import assign_random_weights

OPTIONS = (
    {},
    {"squeeze_excitation": True, "activation": "hard_swish"},
    {"activation": "relu6", "plain_stages": 0, "kernels": [3, 5, 3, 7]},
    {"expansion": 1, "strides": [1, 1, 2, 2]},
)


def configure(**options) -> MobileNetStudentConfig:
    return MobileNetStudentConfig(name="mobilenet_student", **options)


def count(model: keras.Model) -> int:
    return sum(math.prod(weight.shape) for weight in model.trainable_variables)


def experiment_raw(**model) -> dict:
    return {
        "name": "student",
        "audio": {"sample_rate_hz": 16000, "duration_s": 2.0},
        "data": {"name": "synthetic"},
        "front_end": {"name": "log_mel", "n_fft": 512, "hop_length": 320, "n_mels": 64},
        "model": {"name": "mobilenet_student", **model},
    }


class GraphTest(tf.test.TestCase, parameterized.TestCase):
    def test_widths_span_the_family(self) -> None:
        sizes = [
            count(build_mobilenet_student(configure(width=width), (None, 64, 1)))
            for width in (0.35, 0.5, 1.0, 2.0, 3.0)
        ]
        self.assertEqual(sizes, sorted(sizes))
        self.assertBetween(sizes[0], 15_000, 25_000)
        self.assertBetween(sizes[-1], 900_000, 1_200_000)

    @parameterized.parameters(*OPTIONS)
    def test_parameters_are_those_of_the_docstring(self, **options) -> None:
        config = configure(**options)
        expected = 9 * 16 + 2 * 16
        for block in list_student_blocks(config):
            channels, filters, area = block.channels, block.filters, block.kernel**2
            if block.plain:
                expected += area * channels * filters + 2 * filters
                continue
            wide = block.expanded
            expands = wide != channels
            expected += expands * (channels + 2) * wide + (area + 2 + filters) * wide + 2 * filters
            if block.squeeze_units is not None:
                expected += 2 * wide * block.squeeze_units + block.squeeze_units + wide
        expected += 96 * 256 + 2 * 256
        self.assertEqual(count(build_mobilenet_student(config, (None, 64, 1))), expected)

    @parameterized.parameters(([2, 2, 2, 1], 16), ([1, 2, 1, 1], 4), ([1, 1, 1, 1], 2))
    def test_strides_and_any_length(self, strides: list[int], stride: int) -> None:
        model = build_mobilenet_student(configure(width=0.3, strides=strides), (250, 40, 1))
        self.assertEqual(model.input.shape, (None, None, 40, 1))
        for num_frames in (1, 31, 32, 33):
            outputs = model(np.zeros((1, num_frames, 40, 1), np.float32))
            self.assertEqual(
                outputs["final"].shape[1:3], (-(-num_frames // stride), -(-40 // stride))
            )

    def test_layer_names_are_stable(self) -> None:
        model = build_mobilenet_student(configure(squeeze_excitation=True), (None, 64, 1))
        names = [layer.name for layer in model.layers]
        self.assertEqual(names[1:4], ["stem_conv", "stem_bn", "stem_activation"])
        self.assertEqual(
            [name for name in names if name.startswith("block1_")],
            ["block1_conv", "block1_bn", "block1_activation"],
        )
        self.assertEqual(
            [name for name in names if name.startswith("block3_")],
            ["block3_conv", "block3_bn", "block3_activation", "block3_add"],
        )
        self.assertEqual(
            [name for name in names if name.startswith(("block5_", "se5_"))],
            [
                *("block5_expand_conv", "block5_expand_bn", "block5_expand_activation"),
                *("block5_depthwise_conv", "block5_depthwise_bn", "block5_depthwise_activation"),
                *("se5_mean", "se5_dense1", "se5_dense2", "se5_scale"),
                *("block5_project_conv", "block5_project_bn", "block5_add"),
            ],
        )
        self.assertEqual(
            list(model.output),
            [
                *("stem", "block1", "block2", "block3", "se4", "block4", "se5", "block5"),
                *("se6", "block6", "final", "embedding"),
            ],
        )

    @parameterized.parameters(*OPTIONS)
    def test_folded_is_the_same(self, **options) -> None:
        model = build_mobilenet_student(configure(width=0.5, **options), (None, 33, 1))
        assign_random_weights(model)
        folded = fold_batch_norms(model)
        self.assertFalse(
            [item for item in folded.layers if isinstance(item, keras.layers.BatchNormalization)]
        )
        features = np.random.default_rng(0).normal(size=(2, 50, 33, 1)).astype(np.float32)
        found = folded(features)
        for name, value in model(features).items():
            self.assertTrue(np.isfinite(value.numpy()).all(), msg=name)
            error = tf.norm(found[name] - value) / tf.norm(value)
            # measured: at most 9.2e-7
            self.assertLess(float(error), 1e-5, msg=name)

    def test_activations_are_told_apart(self) -> None:
        features = 100.0 * np.random.default_rng(0).normal(size=(1, 20, 20, 1)).astype(np.float32)
        highest = {}
        for name in ("relu", "relu6", "hard_swish"):
            keras.utils.set_random_seed(0)
            model = build_mobilenet_student(configure(activation=name), (None, 20, 1))
            stem = model(features)["stem"].numpy()
            highest[name] = stem.max()
            self.assertGreaterEqual(stem.min(), -0.376 if name == "hard_swish" else 0.0)
        self.assertEqual(highest["relu6"], 6.0)
        self.assertGreater(highest["relu"], 6.0)


class TFLiteTest(tf.test.TestCase):
    def test_agrees_with_keras(self) -> None:
        model = build_classifier(build_experiment(experiment_raw(width=0.5)), list("abc"))
        assign_random_weights(model)
        content = test_tflite.convert(model)
        interpreter = tf.lite.Interpreter(model_content=content)
        rng = np.random.default_rng(0)
        waveform = 0.1 * rng.standard_normal((1, test_tflite.NUM_SAMPLES)).astype(np.float32)
        outputs = interpreter.get_signature_runner("serving_default")(waveform=waveform)
        for name, value in model(waveform).items():
            self.assertTrue(np.isfinite(outputs[name]).all(), msg=name)
            error = np.linalg.norm(outputs[name] - value) / np.linalg.norm(value)
            # measured: at most 5.2e-7
            self.assertLess(error, 1e-4, msg=name)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"strides": [2, 2]}, "model.strides: has 2 values"),
        ({"depths": [1] * 5}, "model.depths: has 5 values"),
        ({"block_filters": [8, 8, 8]}, "model.kernels: has 4 values"),
        ({"plain_stages": 5}, "model.plain_stages: 5 of 4 stages"),
    ],
)
def test_stages_that_do_not_fit_are_refused(options: dict, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        build_experiment(experiment_raw(**options))
