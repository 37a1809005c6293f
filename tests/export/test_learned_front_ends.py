"""Front ends that are made of weights, in files: the weights that training left."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.errors import ExportError
from esc_tf.tasks.classifier import Classifier
from export import __main__ as command
from export.checks import check_formats, check_model, choose_fitting
from export.formats import FORMATS
from export.graphs import InferenceGraphs
from export.tflite import convert_tflite
from tests.export.converted import list_types, make_clips, read, relative_errors, run_file
from tests.export.models import build_tiny
from tests.frontends.learned import TINY_LEARNED, move_weights
from tests.trained_tones import call


def build(name: str) -> Classifier:
    model = build_tiny(front_end=TINY_LEARNED[name])
    move_weights(model.front_end)
    return model


class TFLiteTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        *((name, "float32") for name in TINY_LEARNED), ("mel_init", "dynamic")
    )
    def test_agrees_with_keras(self, name: str, kind: str) -> None:
        model, clips = build(name), make_clips(6)
        fresh = build_tiny(front_end=TINY_LEARNED[name])
        fresh.backbone.set_weights(model.backbone.get_weights())
        fresh.head.set_weights(model.head.get_weights())
        content = convert_tflite(InferenceGraphs(model), kind)
        self.assertEmpty([code for code in read(content).operatorCodes if code.customCode])
        self.assertNotIn("VAR_HANDLE", {operator for operator, _ in list_types(content)})
        found = run_file(content, clips)["logits"]
        self.assertTrue(np.isfinite(found).all())
        wanted = model(clips)["logits"].numpy()
        # Measured: 6e-7 (float32), 3e-2 (dynamic).
        error = relative_errors(found, wanted).max()
        self.assertLess(error, {"float32": 1e-5, "dynamic": 0.1}[kind])
        if kind == "float32":  # the moved weights are in the file, not those of the start
            self.assertGreater(relative_errors(fresh(clips)["logits"], wanted).max(), 1e-4)


class CommandTest(tf.test.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        environment = mock.patch.dict("os.environ", {"ESC_TF_CACHE": str(self.folder / "cache")})
        environment.start()
        self.addCleanup(environment.stop)
        build("mel_init").save(self.folder / "model.keras")

    def export(self, *arguments: str) -> tuple[int, str]:
        code, _, errors = call(
            command, "--model", str(self.folder / "model.keras"), "--out",
            str(self.folder / "out"), "--calibration-clips", "2", "--evaluation-clips", "10",
            *arguments,
        )  # fmt: skip
        return code, errors

    def test_a_verified_export(self) -> None:
        code, errors = self.export("--formats", "saved_model,tflite_float32")
        self.assertEqual((code, errors.count("\n") > 1), (0, False), msg=errors)
        report = json.loads((self.folder / "out" / "verification.json").read_text())
        self.assertEqual(set(report["formats"]), {"saved_model", "tflite_float32"})
        for name, entry in report["formats"].items():
            self.assertTrue(entry["passed"], msg=name)
            # measured: at most 1e-6
            self.assertLess(entry["relative_error"], 1e-5)

    def test_features_cannot_be_computed_from_settings(self) -> None:
        code, errors = self.export("--formats", "tflite_int8_backbone")
        self.assertEqual(code, 1)
        self.assertIn("this model's front end (MelInit) is made of weights", errors)
        self.assertFalse((self.folder / "out").exists())


def test_formats_that_take_features_are_left_out_by_default() -> None:
    learned, fixed = build("heurinet"), build_tiny()
    assert choose_fitting(fixed, FORMATS) == FORMATS
    expected = tuple(name for name in FORMATS if name != "tflite_int8_backbone")
    assert choose_fitting(learned, FORMATS) == expected
    check_formats(learned, expected)
    with pytest.raises(ExportError, match="tflite_int8_backbone takes features"):
        check_formats(learned, FORMATS)


def test_a_bad_weight_of_a_front_end_is_named() -> None:
    model = build("mstnet")
    kernel, bias = model.front_end.conv_2.get_weights()
    bias[3] = np.nan
    model.front_end.conv_2.set_weights([kernel, bias])
    with pytest.raises(ExportError, match="layer 'conv_2': 1 of 12 values of its weight 'bias'"):
        check_model(model)
