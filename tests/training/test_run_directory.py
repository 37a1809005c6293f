"""Run directories: whole files, one owner, readable refusals."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import tensorflow as tf

from esc_tf.errors import RequestError
from esc_tf.training.run_directory import (
    RunDirectory,
    check_resumable,
    find_commit,
)
from tests.tiny import tiny_experiment


class RunDirectoryTest(tf.test.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp())

    def test_resolved_round_trip(self) -> None:
        run = RunDirectory(self.folder / "run")
        run.claim(resume=False)
        experiment = tiny_experiment("/nowhere", seed=7)
        run.write_resolved(experiment, {"commit": "abc", "versions": {"keras": "3"}})
        stored, facts = run.read_resolved()
        self.assertEqual(stored, experiment)
        self.assertEqual(facts["commit"], "abc")

    def test_existing_run_needs_resume_and_resume_needs_a_run(self) -> None:
        run = RunDirectory(self.folder / "run")
        with self.assertRaisesRegex(RequestError, "holds no run"):
            run.claim(resume=True)
        self.assertFalse(run.path.exists())
        run.claim(resume=False)
        run.write_resolved(tiny_experiment("/nowhere"), {})
        run.release()
        with self.assertRaisesRegex(RequestError, "add --resume"):
            RunDirectory(run.path).claim(resume=False)
        RunDirectory(run.path).claim(resume=True)

    def test_second_process_is_refused(self) -> None:
        run = RunDirectory(self.folder / "run")
        run.claim(resume=False)
        code = (
            "import sys; from esc_tf.training.run_directory import RunDirectory\n"
            "from esc_tf.errors import RequestError\n"
            "try: RunDirectory(sys.argv[1]).claim(resume=False)\n"
            "except RequestError as error: print(error); sys.exit(2)"
        )
        command = [sys.executable, "-c", code, str(run.path)]
        refused = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(refused.returncode, 2, refused.stderr)
        self.assertIn("in use by another running process", refused.stdout)
        run.release()
        allowed = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(allowed.returncode, 0, allowed.stderr)

    def test_unwritable_place_is_named(self) -> None:
        (self.folder / "file").write_text("x")
        with self.assertRaisesRegex(RequestError, "cannot be written"):
            RunDirectory(self.folder / "file" / "run").claim(resume=False)

    def test_commit_is_this_checkouts(self) -> None:
        commit = find_commit()
        if commit is None:
            self.skipTest("the package does not lie in a git checkout")
        self.assertRegex(commit, r"^[0-9a-f]{40}(\+changes)?$")


class CheckResumableTest(tf.test.TestCase):
    def test_more_epochs_and_other_devices_are_allowed(self) -> None:
        old = tiny_experiment("/one")
        new = tiny_experiment(
            "/two", recipe={"epochs": 9}, distribution={"precision": "mixed_bfloat16"}
        )
        check_resumable(old, new)

    def test_every_other_difference_is_named(self) -> None:
        old = tiny_experiment("/one")
        new = tiny_experiment("/one", seed=3, front_end={"n_mels": 32}, augment={"noise": None})
        with self.assertRaises(RequestError) as caught:
            check_resumable(old, new)
        keys = [problem.split()[1] for problem in caught.exception.problems]
        self.assertIn("seed", keys)
        self.assertIn("front_end.n_mels", keys)
        self.assertTrue(any(key.startswith("augment.noise") for key in keys))


if __name__ == "__main__":
    tf.test.main()
