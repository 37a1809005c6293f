"""The training command: what it prints, writes and refuses."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path

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

    def test_refusals(self) -> None:
        for arguments, message in {
            (): "--config FILE is required",
            ("--resume",): "--resume needs --run-dir",
            ("--resume", "--run-dir", str(self.run_dir)): "holds no run",
            ("--config", str(self.folder / "none.yaml")): "cannot be read",
            ("--config", str(self.config), "--set", "data.test_fold=9"): "fold 9",
            ("--config", str(self.config), "--set", "data.classes=[up, down]"): "unknown class",
        }.items():
            with self.subTest(arguments):
                code, _, errors = self.call(*arguments)
                self.assertEqual(code, 2)
                self.assertRegex("\n".join(errors), message)
                self.assertFalse(self.run_dir.exists())


if __name__ == "__main__":
    tf.test.main()
