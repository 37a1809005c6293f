"""``python -m export`` from a run to files, and from broken models to nothing at all."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from export import __main__ as command
from export import exporter
from export.graphs import InferenceGraphs
from export.metadata import read_metadata
from export.verification_worker import build_interpreter
from tests.export.models import (
    LABELS,
    CallsPython,
    WithoutKernel,
    break_weight,
    build_tiny,
    with_layer,
)
from tests.trained_tones import TrainedTonesCase, call

FORMATS = (
    "saved_model,tflite_float32,tflite_float16,tflite_dynamic,tflite_int8,tflite_int8_backbone"
)
ACTIVATIONS = ("features", "block1", "block2", "se2", "embedding")


class RunTest(TrainedTonesCase):
    """One export of a trained run, looked at from all sides."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.out = cls.folder / "out"
        cls.code, cls.printed, cls.errors = call(
            command, "--run-dir", cls.run_dir, "--out", str(cls.out),
            "--activations", ",".join(ACTIVATIONS), "--licence", "CC0", "--version", "7",
        )  # fmt: skip
        cls.model = keras.saving.load_model(Path(cls.run_dir) / "model.keras", compile=False)

    def read(self, name: str) -> dict:
        return json.loads((self.out / name).read_text())

    def test_says_what_it_did(self) -> None:
        self.assertEqual((self.code, self.errors), (0, ""))
        self.assertIn("agreement and accuracy on 6 clips (test part of run)", self.printed)
        self.assertIn("written to", self.printed)
        for name in FORMATS.split(","):
            self.assertRegex(self.printed, rf"\n{name} .* passed")

    def test_leaves_a_whole_folder(self) -> None:
        found = {str(path.relative_to(self.out)) for path in self.out.rglob("*.*")}
        wanted = {f"tflite/tiny_{name[7:]}.tflite" for name in FORMATS.split(",")[1:]}
        wanted |= {"labels.txt", "model_card.json", "verification.json"}
        wanted |= {"saved_model/7/saved_model.pb", "saved_model/7/assets/labels.txt"}
        self.assertContainsSubset(wanted, found)
        self.assertEqual((self.out / "labels.txt").read_text().splitlines(), [*LABELS])
        beside = {path.name for path in self.folder.iterdir()}
        self.assertEqual(beside, {"tones", "cache", "run", "out"})

    def test_the_report_of_the_verification(self) -> None:
        report = self.read("verification.json")
        self.assertTrue(report["passed"])
        self.assertEqual(report["evaluation"]["clips"], 6)
        self.assertFalse(report["evaluation"]["generated"])
        self.assertEqual(
            report["calibration"],
            {"clips": 18, "from": "training part of run", "generated": False, "seed": 0},
        )
        formats = report["formats"]
        self.assertEqual(list(formats), FORMATS.split(","))
        metrics = json.loads((Path(self.run_dir) / "metrics.json").read_text())
        self.assertAllClose(report["model"]["accuracy"], metrics["test"]["accuracy"])
        self.assertLess(formats["saved_model"]["relative_error"], 1e-5)
        exact = formats["tflite_float32"]
        self.assertLess(exact["relative_error_of_clips"], 1e-5)
        self.assertLess(exact["relative_error_of_probes"]["noise"], 1e-5)
        # A pure tone's spectrum has next to nothing but rounding between its lines.
        explained = {item["sound"] for item in exact.get("explained_by_rounding", [])}
        self.assertContainsSubset(explained, {"tone", "clipped tone"})
        self.assertLess(formats["tflite_float16"]["relative_error"], 1e-2)
        for name, entry in formats.items():
            self.assertEqual(entry["problems"], [], name)
            self.assertTrue(entry["finite"])
            self.assertEqual(entry["agreement"], 1.0, name)
            self.assertAllClose(entry["accuracy"], report["model"]["accuracy"])
            self.assertContainsSubset({"silence", "noise"}, entry["relative_error_of_probes"])
            self.assertGreater(entry["latency_ms"], 0.0)
            # Integer networks are calibrated with silence too. Measured: 0.004.
            self.assertLess(entry["relative_error_of_probes"]["silence"], 0.1)
            wanted = {*ACTIVATIONS} - ({"features"} if "backbone" in name else set())
            self.assertEqual(set(entry["activations"]), wanted)

    def test_the_model_card(self) -> None:
        card = self.read("model_card.json")
        self.assertEqual(card["labels"], [*LABELS])
        self.assertEqual(card["licence"], "CC0")
        self.assertEqual(card["version"], 7)
        self.assertEqual(card["input"]["sample_rate_hz"], 8000)
        self.assertEqual(card["input"]["samples"], 4000)
        self.assertIn("3 classes", card["description"])
        self.assertEqual(card["training"]["experiment"], "tiny")
        self.assertEqual(card["training"]["clips"], {"train": 18, "validation": 0, "test": 6})
        self.assertEqual(card["training"]["model"]["name"], "se_cnn")
        self.assertNotIn("root", card["training"]["data"])  # nobody else has that folder
        self.assertEqual(card["metrics"]["test"]["num_clips"], 6)
        parameters = sum(int(np.prod(w.shape)) for w in self.model.trainable_weights)
        self.assertEqual(card["parameters"], parameters)
        for entry in card["files"].values():
            self.assertTrue((self.out / entry["path"]).exists())
        size = (self.out / "tflite" / "tiny_int8.tflite").stat().st_size
        self.assertEqual(card["files"]["tflite_int8"]["size_bytes"], size)

    def test_a_file_is_the_model_and_says_what_it_is(self) -> None:
        path = self.out / "tflite" / "tiny_float32.tflite"
        facts = read_metadata(path.read_bytes())
        self.assertEqual(facts.label_names, LABELS)
        self.assertEqual(facts.sample_rate_hz, 8000)
        self.assertEqual((facts.name, facts.version, facts.licence), ("tiny", "7", "CC0"))
        waveform = np.random.default_rng(0).normal(0.0, 0.1, (1, 4000)).astype(np.float32)
        wanted = self.model.compute_activations(waveform, ACTIVATIONS)
        tflite = build_interpreter(str(path)).get_signature_runner("activations")
        loaded = tf.saved_model.load(str(self.out / "saved_model" / "7"))
        served = loaded.signatures["activations"](waveform=tf.constant(waveform))
        found = tflite(waveform=waveform)
        for name in ACTIVATIONS:
            # Relative to the largest value. Measured: 2e-6 in TFLite, 3e-7 in the SavedModel.
            scale = np.abs(wanted[name]).max()
            self.assertAllClose(found[name], wanted[name], rtol=0.0, atol=1e-4 * scale)
            self.assertAllClose(served[name], wanted[name], rtol=0.0, atol=1e-5 * scale)

    def test_is_replaced_only_if_asked(self) -> None:
        out = self.folder / "again"
        shutil.copytree(self.out, out)
        arguments = ("--run-dir", self.run_dir, "--out", str(out), "--formats", "tflite_float32")
        code, _, errors = call(command, *arguments)
        self.assertEqual(code, 2)
        self.assertIn("add --overwrite", errors)
        self.assertTrue((out / "saved_model").exists())
        code, _, errors = call(command, *arguments, "--overwrite")
        self.assertEqual((code, errors), (0, ""))
        self.assertEqual(
            [path.name for path in (out / "tflite").iterdir()], ["tiny_float32.tflite"]
        )
        self.assertFalse((out / "saved_model").exists())
        shutil.rmtree(out)

    def test_a_file_with_clips_of_a_fold(self) -> None:
        out = self.folder / "of a file"
        self.addCleanup(shutil.rmtree, out)
        code, printed, errors = call(
            command, "--model", str(Path(self.run_dir) / "model.keras"), "--out", str(out),
            "--data-root", str(self.folder / "tones"), "--fold", "2", "--formats", "tflite_float32",
        )  # fmt: skip
        self.assertEqual((code, errors), (0, ""))
        self.assertIn("on 6 clips (fold 2 of", printed)
        self.assertTrue((out / "tflite" / "model_float32.tflite").is_file())
        card = json.loads((out / "model_card.json").read_text())
        self.assertEqual(list(card["training"]), ["model_sha256"])
        self.assertEqual(card["metrics"], {})

    def test_labels_of_another_run(self) -> None:
        run = self.folder / "mixed"
        shutil.copytree(self.run_dir, run)
        self.addCleanup(shutil.rmtree, run)
        text = (run / "resolved.yaml").read_text()
        (run / "resolved.yaml").write_text(text.replace("- middle", "- muddle"))
        code, _, errors = call(command, "--run-dir", str(run), "--out", str(self.folder / "never"))
        self.assertEqual(code, 1)
        self.assertIn("not those of resolved.yaml ('middle' where the run has 'muddle')", errors)
        self.assertFalse((self.folder / "never").exists())


class BrokenTest(tf.test.TestCase, parameterized.TestCase):
    """Whatever is wrong, it is said in a line, and no file is left."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        environment = mock.patch.dict("os.environ", {"ESC_TF_CACHE": str(self.folder / "cache")})
        environment.start()
        self.addCleanup(environment.stop)

    def export(self, model: keras.Model, *arguments: str) -> tuple[int, str]:
        path = self.folder / "model.keras"
        model.save(path)
        code, _, errors = call(
            command, "--model", str(path), "--out", str(self.folder / "out"),
            "--calibration-clips", "2", "--evaluation-clips", "20", *arguments,
        )  # fmt: skip
        return code, errors

    def check_nothing_is_left(self, *besides: str) -> None:
        found = {path.name for path in self.folder.iterdir()}
        self.assertEqual(found, {"model.keras", "cache", *besides})

    def test_weights_that_are_not_finite(self) -> None:
        code, errors = self.export(break_weight(build_tiny(), "block2_conv1"))
        self.assertEqual(code, 1)
        self.assertIn("layer 'block2_conv1': 1 of 1152 values of its weight 'kernel'", errors)
        self.check_nothing_is_left()

    def test_a_layer_that_overflows(self) -> None:
        model = break_weight(build_tiny(), "block2_conv1", 3e38, everywhere=True)
        code, errors = self.export(model)
        self.assertEqual(code, 1)
        self.assertIn("first behind layer 'block2_conv1'", errors)
        self.check_nothing_is_left()

    @parameterized.parameters(
        (("low", "low", "high"), "the label 'low' is there 2 times"),
        (("low", "two\nlines", "high"), "cannot stand in a line of labels.txt"),
        (("low", " ", "high"), "cannot stand in a line of labels.txt"),
    )
    def test_labels_that_are_no_names(self, labels: tuple[str, ...], sentence: str) -> None:
        code, errors = self.export(build_tiny(labels))
        self.assertEqual(code, 1)
        self.assertIn(sentence, errors)
        self.check_nothing_is_left()

    def test_a_wrong_number_of_labels(self) -> None:
        # Keras would not load such a file, so the model is changed behind its back.
        model = build_tiny()
        model._settings["label_names"] = [*LABELS, "one too many"]
        with mock.patch("export.source.load_classifier", return_value=model):
            code, errors = self.export(build_tiny())
        self.assertEqual(code, 1)
        self.assertIn("4 labels and its layer 'logits' has 3 outputs", errors)
        self.check_nothing_is_left()

    def test_a_file_with_a_label_too_many(self) -> None:
        model = build_tiny()
        model.save(self.folder / "sound.keras")
        path = self.folder / "model.keras"
        with (
            zipfile.ZipFile(self.folder / "sound.keras") as sound,
            zipfile.ZipFile(path, "w") as broken,
        ):
            for name in sound.namelist():
                content = sound.read(name)
                if name == "config.json":
                    config = json.loads(content)
                    config["config"]["label_names"].append("one too many")
                    content = json.dumps(config).encode()
                broken.writestr(name, content)
        (self.folder / "sound.keras").unlink()
        code, _, errors = call(command, "--model", str(path), "--out", str(self.folder / "out"))
        self.assertEqual(code, 1, msg=errors)
        self.assertIn(f"{path}: cannot be loaded", errors)
        self.assertIn("logits", errors)
        self.assertLen(errors.splitlines(), 1)
        self.assertEqual([item.name for item in self.folder.iterdir()], ["model.keras"])

    def test_an_operator_that_tflite_has_not(self) -> None:
        model = with_layer(build_tiny(), WithoutKernel(name="odd_layer"))
        code, errors = self.export(model, "--formats", "tflite_float32")
        self.assertEqual(code, 1)
        self.assertIn("TFLite has no operator Erfinv; layer 'odd_layer' uses it", errors)
        self.assertLen(errors.splitlines(), 1)
        self.check_nothing_is_left()

    def test_python_that_is_missing_elsewhere(self) -> None:
        model = with_layer(build_tiny(), CallsPython(name="odd_layer"))
        code, errors = self.export(model, "--formats", "saved_model")
        self.assertEqual(code, 1)
        self.assertIn("saved_model is not equal to the model", errors)
        self.check_nothing_is_left("out.failed")
        report = json.loads((self.folder / "out.failed" / "verification.json").read_text())
        self.assertFalse(report["passed"])
        self.assertIn("odd_layer", report["formats"]["saved_model"]["problems"][0])

    def test_a_converter_that_computes_something_else(self) -> None:
        def convert(graphs: object, kind: str, clips: np.ndarray) -> bytes:
            other = build_tiny()
            weight = other.head.get_layer("logits").weights[0]
            weight.assign(weight * 1.001)
            return sound(InferenceGraphs(other), kind, clips)

        sound = exporter.convert_tflite
        with mock.patch.object(exporter, "convert_tflite", convert):
            code, errors = self.export(build_tiny(), "--formats", "tflite_float32")
        self.assertEqual(code, 1)
        self.assertIn("tflite_float32 is not equal to the model", errors)
        self.check_nothing_is_left("out.failed")
        # Made good, the report of the failure goes.
        code, errors = self.export(build_tiny(), "--formats", "tflite_float32")
        self.assertEqual((code, errors.replace("note:", "")[:5]), (0, ""))
        self.check_nothing_is_left("out")

    @parameterized.parameters(
        (("--formats", "tflite_int9"), "unknown format 'tflite_int9'; did you mean 'tflite_int8'"),
        (("--formats", ","), "--formats: name one of"),
        (("--version", "0"), "--version must be 1 or more"),
        (("--calibration-clips", "0"), "--calibration-clips must be 1 or more"),
        (("--clip-seed", "-1"), "--clip-seed must be 0 or more"),
        (("--min-agreement", "99"), "--min-agreement must lie above 0 and not above 1"),
        (("--activations", "block3"), "unknown activation 'block3'; did you mean 'block"),
        (("--fold", "2"), "--fold: goes with --data-root"),
    )
    def test_requests_that_cannot_be_met(self, arguments: tuple[str, ...], sentence: str) -> None:
        code, errors = self.export(build_tiny(), *arguments)
        self.assertEqual(code, 2)
        self.assertIn(sentence, errors)
        self.assertNotIn("Traceback", errors)
        self.assertFalse((self.folder / "out").exists())
