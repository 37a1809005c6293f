"""A published model on recordings, from its checkpoint to files that compute the same."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import tensorflow as tf

from esc_tf.tasks.conversion import convert_checkpoint
from export import __main__ as command
from tests.shared_files import shared_path
from tests.trained_tones import call

ACTIVATIONS = ("features", "block5", "se4", "block15", "embedding")


class MobileNetTest(tf.test.TestCase):
    def test_mn04_as_tflite(self) -> None:
        checkpoint = shared_path("checkpoints/mn04_as_mAP_432.pt")
        clips = shared_path("esc10")
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        model = convert_checkpoint(checkpoint, "mobilenet_v3", "mn04", duration_s=5.0).classifier
        model.save(folder / "mn04.keras")
        with mock.patch.dict("os.environ", {"ESC_TF_CACHE": str(folder / "cache")}):
            code, _, errors = call(
                command, "--model", str(folder / "mn04.keras"), "--out", str(folder / "out"),
                "--data-root", str(clips), "--evaluation-clips", "10", "--calibration-clips", "1",
                "--formats", "tflite_float32,tflite_float16",
                "--activations", ",".join(ACTIVATIONS),
            )  # fmt: skip
        self.assertEqual((code, errors), (0, ""))
        formats = json.loads((folder / "out" / "verification.json").read_text())["formats"]
        # Measured: 4.8e-6, a clipped tone; clips 1.3e-6.
        self.assertLess(formats["tflite_float32"]["relative_error"], 1e-5)
        self.assertLess(formats["tflite_float32"]["relative_error_of_clips"], 3e-6)
        # Measured: 5.7e-3.
        self.assertLess(formats["tflite_float16"]["relative_error"], 1e-2)
        # Measured: 2.8e-5, block5.
        self.assertLess(max(formats["tflite_float32"]["activations"].values()), 1e-4)
        self.assertEqual(set(formats["tflite_float32"]["activations"]), set(ACTIVATIONS))
