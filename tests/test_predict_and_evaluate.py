"""A trained run applied: to its test fold, to another folder, to files of all kinds."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import tensorflow as tf

from esc_tf import evaluate, predict
from esc_tf.config import build_experiment
from esc_tf.config.loading import merge
from esc_tf.tasks.classifier import load_classifier
from esc_tf.training.experiment import train_experiment
from esc_tf.training.run_directory import RunDirectory
from tests.tiny import TINY

_RATE_HZ = 8000
_LABELS = ("low", "middle", "high")
_TONES_HZ = (300.0, 900.0, 2700.0)


def write_tones(root: Path, folds: tuple[int, ...], labels: tuple[str, ...] = _LABELS) -> None:
    """A folder in ESC-50's layout: two noisy tones a class and fold."""
    (root / "audio").mkdir(parents=True)
    (root / "meta").mkdir()
    rng = np.random.default_rng(0)
    time_s = np.arange(int(0.5 * _RATE_HZ)) / _RATE_HZ
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in folds:
        for target, label in enumerate(labels):
            for take in "AB":
                hz = _TONES_HZ[target % 3] * rng.uniform(0.95, 1.05)
                tone = 0.5 * np.sin(2 * np.pi * hz * time_s) + 0.01 * rng.normal(size=time_s.size)
                name = f"{fold}-{fold}{target}{take}-{take}-{target}.wav"
                soundfile.write(root / "audio" / name, tone, _RATE_HZ)
                rows.append(f"{name},{fold},{target},{label},False,{fold}{target}{take},{take}")
    (root / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n")


def call(command: Any, *arguments: str) -> tuple[int, str, str]:
    """Run a command in this process; return its exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command.main(list(arguments))
    return code, out.getvalue(), err.getvalue()


class TrainedRunTest(tf.test.TestCase):
    folder: Path

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.folder = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        write_tones(cls.folder / "tones", (1, 2, 3, 4))
        experiment = build_experiment(
            merge(
                TINY,
                {
                    "data": {
                        "name": "esc50",
                        "root": str(cls.folder / "tones"),
                        "test_fold": 4,
                        "validation": None,
                        "cache_dir": str(cls.folder / "cache"),
                    },
                    "augment": {"mixup": None, "frequency_mask": None},
                    "model": {"head": {"dropout": 0.0}},
                    "recipe": {
                        "epochs": 15,
                        "batch_size": 6,
                        "schedule": {"name": "constant"},
                        "optimizer": {"name": "adam", "learning_rate": 0.01},
                        "early_stopping": None,
                    },
                },
            )
        )
        cls.run_dir = str(cls.folder / "run")
        train_experiment(experiment, RunDirectory(cls.run_dir), report=lambda line: None)

    def test_evaluate_repeats_the_runs_own_numbers(self) -> None:
        code, out, _ = call(evaluate, "--run-dir", self.run_dir, "--json")
        self.assertEqual(code, 0)
        metrics = json.loads(out)
        own = json.loads((Path(self.run_dir) / "metrics.json").read_text())["test"]
        self.assertEqual(metrics["confusion_matrix"], own["confusion_matrix"])
        self.assertEqual(metrics["num_clips"], 6)
        # Three tones almost two octaves apart are not hard.
        self.assertGreaterEqual(metrics["accuracy"], 0.8)
        code, out, _ = call(evaluate, "--run-dir", self.run_dir)
        self.assertIn(f"{own['accuracy']:.4f}", out)

    def test_evaluate_warns_of_folds_it_trained_on_and_refuses_unknown_ones(self) -> None:
        code, out, err = call(evaluate, "--run-dir", self.run_dir, "--fold", "1", "--json")
        self.assertEqual((code, json.loads(out)["num_clips"]), (0, 6))
        self.assertIn("trained or validated on fold 1", err)
        code, _, err = call(evaluate, "--run-dir", self.run_dir, "--fold", "7")
        self.assertEqual(code, 2)
        self.assertRegex(err, r"fold 7 does not exist \(there are: 1, 2, 3, 4\)")

    def test_evaluate_another_folder_takes_the_known_classes(self) -> None:
        other = Path(tempfile.mkdtemp(dir=self.folder)) / "other"
        write_tones(other, (1, 5), ("low", "middle", "high", "unheard"))
        code, out, _ = call(
            evaluate, "--run-dir", self.run_dir, "--data-root", str(other), "--json"
        )
        self.assertEqual((code, json.loads(out)["num_clips"]), (0, 12))
        code, out, _ = call(
            evaluate, "--run-dir", self.run_dir, "--data-root", str(other), "--fold", "5", "--json"
        )
        self.assertEqual((code, json.loads(out)["num_clips"]), (0, 6))
        strange = Path(tempfile.mkdtemp(dir=self.folder)) / "strange"
        write_tones(strange, (1,), ("cat", "cow"))
        code, _, err = call(evaluate, "--run-dir", self.run_dir, "--data-root", str(strange))
        self.assertEqual(code, 2)
        self.assertIn("no clip has a class that the model knows", err)

    def test_predict_files_folders_and_models(self) -> None:
        files = sorted((self.folder / "tones" / "audio").glob("4-*.wav"))
        code, out, _ = call(predict, "--model", self.run_dir, *map(str, files), "--json")
        self.assertEqual(code, 0)
        lines = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([line["file"] for line in lines], [str(path) for path in files])
        right = 0
        for path, line in zip(files, lines, strict=True):
            scores = [item["score"] for item in line["predictions"]]
            self.assertEqual(scores, sorted(scores, reverse=True))
            self.assertAllClose(sum(scores), 1.0, atol=1e-5)
            right += line["predictions"][0]["label"] == _LABELS[int(path.stem[-1])]
        own = json.loads((Path(self.run_dir) / "metrics.json").read_text())["test"]
        self.assertEqual(right / len(files), own["accuracy"])

        model_file = str(Path(self.run_dir) / "model.keras")
        whole_folder = str(self.folder / "tones" / "audio")
        code, out, _ = call(
            predict, "--model", model_file, whole_folder, "--json", "--batch-size", "5"
        )
        everything = {line["file"]: line for line in map(json.loads, out.splitlines())}
        self.assertLen(everything, 24)
        for line in lines:
            again = everything[line["file"]]["predictions"]
            self.assertEqual(
                [item["label"] for item in again], [item["label"] for item in line["predictions"]]
            )
            # A clip's scores do not depend on its neighbours; measured: below 1e-6.
            self.assertAllClose(
                [item["score"] for item in again],
                [item["score"] for item in line["predictions"]],
                atol=1e-5,
            )
        code, out, _ = call(predict, "--model", self.run_dir, str(files[0]), "--top-k", "2")
        self.assertLen(out.splitlines(), 3)

    def test_predict_takes_any_rate_length_and_number_of_channels(self) -> None:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        for rate_hz in (8000, 22050, 48000):
            for duration_s in (0.3, 0.5, 2.0):
                time_s = np.arange(int(duration_s * rate_hz)) / rate_hz
                tone = 0.5 * np.sin(2 * np.pi * 300.0 * time_s)
                stereo = np.stack([tone, tone], axis=1)
                soundfile.write(folder / f"{rate_hz}-{duration_s}.flac", stereo, rate_hz)
        code, out, _ = call(predict, "--model", self.run_dir, str(folder), "--json")
        self.assertEqual(code, 0)
        lines = [json.loads(line) for line in out.splitlines()]
        self.assertLen(lines, 9)
        for line in lines:
            scores = [item["score"] for item in line["predictions"]]
            self.assertTrue(np.isfinite(scores).all())

    def test_one_bad_file_does_not_stop_the_others(self) -> None:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        good = next((self.folder / "tones" / "audio").glob("*.wav"))
        (folder / "empty.wav").write_bytes(b"")
        (folder / "text.wav").write_text("this is no sound")
        shutil.copy(good, folder / "z_good.wav")
        names = [*map(str, sorted(folder.iterdir())), str(folder / "missing.wav")]
        code, out, _ = call(predict, "--model", self.run_dir, *names, "--json")
        self.assertEqual(code, 2)
        lines = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([line["file"] for line in lines], names)
        self.assertEqual(["error" in line for line in lines], [True, True, False, True])
        code, out, err = call(predict, "--model", self.run_dir, *names)
        self.assertEqual(code, 2)
        self.assertIn("z_good.wav", out)
        self.assertLen([line for line in err.splitlines() if line.startswith("error:")], 3)

    def test_predict_refuses_what_is_no_model(self) -> None:
        good = str(next((self.folder / "tones" / "audio").glob("*.wav")))
        empty = tempfile.mkdtemp(dir=self.folder)
        for arguments, message in {
            ("--model", str(self.folder / "nothing"), good): "no such model",
            ("--model", empty, good): "holds no model.keras",
            ("--model", self.run_dir, empty): "holds no audio file",
            ("--model", self.run_dir, good, "--top-k", "0"): "--top-k must be 1 or more",
        }.items():
            with self.subTest(arguments):
                code, _, err = call(predict, *arguments)
                self.assertEqual(code, 2)
                self.assertIn(message, err)

    def test_stored_model_names_its_format(self) -> None:
        model = load_classifier(self.run_dir)
        self.assertEqual(model.label_names, _LABELS)
        self.assertEqual(model.audio["sample_rate_hz"], _RATE_HZ)


if __name__ == "__main__":
    tf.test.main()
