"""The training command: what it prints, writes and refuses."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from pathlib import Path
from unittest import mock

import tensorflow as tf

from esc_tf import train
from esc_tf.config import dump_experiment, load_experiment
from tests.tiny import tiny_experiment


class TrainCommandTest(tf.test.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp())
        self.config = self.folder / "tiny.yaml"
        self.config.write_text(dump_experiment(tiny_experiment(str(self.folder / "cache"))))
        self.run_dir = self.folder / "run"

    def test_a_cross_validation_among_several_workers_is_refused(self) -> None:
        with mock.patch.dict(os.environ, TF_CONFIG="{}"):
            code, _, errors = self.call("--config", str(self.config), "--cross-validate")
        self.assertEqual(code, 2)
        self.assertRegex(errors[0], "TF_CONFIG is set, but a cross-validation runs")

    def test_arguments_that_are_no_folds(self) -> None:
        for arguments in (("--folds", "1,x"), ("--folds", "2,2"), ("--parallel", "0")):
            with self.subTest(arguments):
                code, _, _ = self.call("--config", "x", "--cross-validate", *arguments)
                self.assertEqual(code, 2)

    def call(self, *arguments: str) -> tuple[int, str, list[str]]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = train.main(list(arguments))
        errors = [line for line in err.getvalue().splitlines() if line.startswith("error:")]
        return code, out.getvalue(), errors

    def test_trains_says_so_and_resumes(self) -> None:
        run = str(self.run_dir)
        code, out, errors = self.call(
            "--config", str(self.config), "--run-dir", run, "--set", "recipe.epochs=1"
        )
        self.assertEqual((code, errors), (0, []))
        metrics = json.loads((self.run_dir / "metrics.json").read_text())
        self.assertIn(f"test accuracy: {metrics['test']['accuracy']:.4f}", out)
        self.assertIn(f"results: {run}", out)

        code, _, errors = self.call("--config", str(self.config), "--run-dir", run)
        self.assertEqual(code, 2)
        self.assertRegex(errors[0], "already holds a run; add --resume")

        code, _, errors = self.call(
            "--resume", "--run-dir", run, "--set", "recipe.epochs=2", "--set", "seed=4"
        )
        self.assertEqual(code, 2)
        self.assertRegex(errors[0], "seed was 0 when the run began and is 4 now")
        self.assertLen((self.run_dir / "metrics.jsonl").read_text().splitlines(), 1)

        code, out, errors = self.call("--resume", "--run-dir", run, "--set", "recipe.epochs=2")
        self.assertEqual((code, errors), (0, []))
        self.assertIn("resumed after epoch 1 of 2", out)
        self.assertLen((self.run_dir / "metrics.jsonl").read_text().splitlines(), 2)
        self.assertEqual(load_experiment(self.run_dir / "resolved.yaml").recipe.epochs, 2)

    def test_print_config_prints_a_configuration_and_writes_nothing(self) -> None:
        code, out, _ = self.call("--config", str(self.config), "--print-config", "--set", "seed=3")
        self.assertEqual(code, 0)
        again = self.folder / "again.yaml"
        again.write_text(out)
        self.assertEqual(load_experiment(again), load_experiment(self.config, ["seed=3"]))
        self.assertFalse((self.folder / "cache").exists())

    def test_dry_run_checks_and_writes_no_run(self) -> None:
        code, out, _ = self.call(
            "--config", str(self.config), "--dry-run", "--run-dir", str(self.run_dir)
        )
        self.assertEqual(code, 0)
        self.assertIn("clips: 60 train, 20 validation, 20 test; 0 bad files", out)
        self.assertFalse(self.run_dir.exists())
        code, _, errors = self.call(
            "--config", str(self.config), "--dry-run", "--set", "recipe.batch_size=100"
        )
        self.assertEqual(code, 2)
        self.assertRegex(errors[0], "recipe.batch_size: 100 is more than the 60 training clips")

    def test_cross_validates_in_processes_and_goes_on_after_a_failure(self) -> None:
        base = ["--config", str(self.config), "--set", "recipe.epochs=1"]
        single = self.folder / "single"
        self.assertEqual(self.call(*base, "--run-dir", str(single))[0], 0)

        folder = self.folder / "folds"
        obstacle = folder / "fold_1" / "checkpoints"
        obstacle.parent.mkdir(parents=True)
        obstacle.write_text("a file where a folder must be")
        cross = ["--cross-validate", "--run-dir", str(folder)]
        code, out, errors = self.call(*base, *cross, "--folds", "1,5")
        self.assertEqual(code, 1)
        self.assertRegex(errors[-2], "fold 1: failed with exit code")
        self.assertRegex(errors[-1], "the tables leave out fold 1; --resume tries again")
        self.assertIn("fold 5: finished, test accuracy", out)
        result = json.loads((folder / "cross_validation.json").read_text())
        self.assertEqual((result["folds"], list(result["failed_folds"])), ([5], ["1"]))
        # The fold of the configuration is the run that the configuration describes.
        runs = (single, folder / "fold_5")
        metrics = [json.loads((run / "metrics.json").read_text()) for run in runs]
        for found in metrics:
            del found["seconds_this_process"]
        self.assertEqual(*metrics)

        code, _, errors = self.call("--resume", "--run-dir", str(folder))
        self.assertEqual(code, 2)
        self.assertRegex(errors[0], "holds a cross-validation; add --cross-validate")
        obstacle.unlink()
        code, out, errors = self.call("--resume", *cross, "--parallel", "2")
        self.assertEqual((code, errors), (0, []))
        self.assertIn("fold 5: finished before", out)
        for title in ("last epoch", "best validation"):
            self.assertIn(f"test folds, weights of the {title}", out)
        result = json.loads((folder / "cross_validation.json").read_text())
        self.assertEqual((result["folds"], result["failed_folds"]), ([1, 5], {}))
        self.assertEqual(result["last"]["per_fold"][1]["epoch"], 1)
        self.assertEqual(result["best"]["pooled"]["num_clips"], 40)
        self.assertTrue((folder / "fold_1" / "model.keras").is_file())

    def test_dry_run_of_a_cross_validation_shows_each_fold(self) -> None:
        code, out, _ = self.call(
            *("--config", str(self.config), "--cross-validate", "--dry-run"),
            *("--run-dir", str(self.run_dir), "--folds", "1,3"),
        )
        self.assertEqual(code, 0)
        self.assertEqual(
            out.splitlines(),
            [
                "fold 1: 60 train, 20 validation (fold 5), 20 test",
                "fold 3: 60 train, 20 validation (fold 2), 20 test",
            ],
        )
        self.assertFalse(self.run_dir.exists())

    def test_refusals(self) -> None:
        for arguments, message in {
            (): "--config FILE is required",
            ("--resume",): "--resume needs --run-dir",
            ("--resume", "--run-dir", str(self.run_dir)): "holds no run",
            ("--config", str(self.folder / "none.yaml")): "cannot be read",
            ("--config", str(self.config), "--set", "data.test_fold=9"): "fold 9",
            ("--config", str(self.config), "--folds", "1"): "--folds belongs to --cross-validate",
            ("--config", str(self.config), "--parallel", "2"): "--parallel belongs to",
            ("--config", str(self.config), "--cross-validate", "--folds", "8"): "fold 8 does not",
            ("--cross-validate", "--resume", "--run-dir", str(self.run_dir)): "no cross-validation",
            ("--config", str(self.config), "--set", "data.classes=[up, down]"): "unknown class",
        }.items():
            with self.subTest(arguments):
                code, _, errors = self.call(*arguments)
                self.assertEqual(code, 2)
                self.assertRegex("\n".join(errors), message)
                self.assertFalse(self.run_dir.exists())


if __name__ == "__main__":
    tf.test.main()
