"""Faults done to real processes: stopped, killed data, a full disk; and the run goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tensorflow as tf
from absl.testing import parameterized

from esc_tf.config import dump_experiment
from esc_tf.errors import Terminated
from esc_tf.training.checkpoints import delete_old_checkpoints, epoch_path, find_checkpoints
from esc_tf.training.termination import StopSignal
from tests.tiny import tiny_experiment
from tests.training.forked_runs import REPOSITORY, ForkingParent, fault
from tests.training.test_experiment import without_times

_EPOCHS, _STEPS = 4, 15


def mount_small_disk(folder: Path) -> bool:
    """Mount a disk of 2 MiB on ``folder``; False where that is not allowed."""
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


class EnduranceTest(tf.test.TestCase):
    parent: ForkingParent
    base: Path
    is_mounted: bool

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.parent = ForkingParent()
        cls.addClassCleanup(cls.parent.close)
        cls.base = Path(tempfile.mkdtemp())
        disk = cls.base / "disk"
        disk.mkdir()
        cls.is_mounted = mount_small_disk(disk)
        if cls.is_mounted:
            cls.addClassCleanup(subprocess.run, ["umount", "-l", str(disk)], check=True)
        experiment = tiny_experiment(
            str(cls.base / "cache"),
            recipe={"epochs": _EPOCHS, "batch_size": 4},
            data={"read_patience_s": 0.0},
        )
        (cls.base / "tiny.yaml").write_text(dump_experiment(experiment))
        cls.started = ["--config", str(cls.base / "tiny.yaml"), "--run-dir"]

    def read(self, run: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return without_times(lines), json.loads((run / "metrics.json").read_text())["test"]

    def go_on(self, run: Path, *arguments: str, **options: Any) -> tuple[int, str]:
        return self.parent.run(["--run-dir", str(run), "--resume", *arguments], **options)

    def checkpoints(self, run: Path) -> list[str]:
        return sorted(path.name for path in (run / "checkpoints").iterdir())

    def test_a_run_through_every_fault_ends_like_one_that_met_none(self) -> None:
        whole, run, cache = self.base / "whole", self.base / "disk" / "run", self.base / "cache"
        code, said = self.parent.run([*self.started, str(whole)])
        self.assertEqual(code, 0, said)

        # SIGTERM while a step is under way: that step is finished and kept.
        code, said = self.parent.run(
            [*self.started, str(run)], faults=[fault("step", "SIGTERM", epoch=1, step=7)]
        )
        self.assertEqual(code, 143, said)
        self.assertIn(f"stopped by SIGTERM in epoch 1, after step 7 of {_STEPS}", said)
        self.assertEqual(self.checkpoints(run), ["epoch_0000_step_000007.npz"])

        # SIGTERM in the validation of the same epoch: all of its steps are kept.
        code, said = self.go_on(run, faults=[fault("validation", "SIGTERM", step=2)])
        self.assertEqual(code, 143, said)
        self.assertIn(f"in epoch 1, after step {_STEPS} of {_STEPS}", said)

        # The data vanish in the middle of an epoch, and come back.
        hidden = fault("step", "hide", epoch=2, step=2, path=str(cache))
        code, said = self.go_on(run, faults=[hidden])
        self.assertEqual(code, 1, said)
        self.assertRegex(said, r"error: epoch 2, after step \d+: data cannot be read")
        self.assertRegex(said, rf"{cache}/\w+\.f32; No such file or directory")
        self.assertLen((run / "metrics.jsonl").read_text().splitlines(), 1)
        os.rename(f"{cache}.away", cache)

        # The disk is full when the third epoch is to be written.
        do, path = ("fill", str(run)) if self.is_mounted else ("limit", "")
        code, said = self.go_on(run, faults=[fault("step", do, epoch=3, step=3, path=path)])
        self.assertEqual(code, 1, said)
        reason = "No space left on device" if self.is_mounted else "File too large"
        self.assertRegex(said, rf"error: \S+ the checkpoint cannot be written \({reason}\)")
        self.assertIn("the last checkpoint, epoch_0002.npz, is whole", said)
        self.assertNotIn("Traceback", said)
        self.assertIn("epoch_0002.npz", self.checkpoints(run))
        self.assertFalse([name for name in self.checkpoints(run) if "partial" in name])
        (run / "filler").unlink(missing_ok=True)

        # The data vanish once more, but only for a moment: that is waited for.
        child = self.parent.start(
            ["--run-dir", str(run), "--resume", "--set", "data.read_patience_s=100"],
            faults=[fault("step", "hide", epoch=3, step=2, path=str(cache))],
        )
        while "; trying again in" not in child.said() and not child.has_ended():
            time.sleep(0.05)
        os.rename(f"{cache}.away", cache)
        code, said = child.wait(), child.said()
        self.assertEqual(code, 0, said)
        self.assertIn(f"resumed after epoch 2 of {_EPOCHS}", said)
        self.assertEqual(self.read(run), self.read(whole))
        self.assertEqual(self.checkpoints(run), self.checkpoints(whole))

    def test_sigterm_while_clips_are_decoded(self) -> None:
        run = self.base / "decoding"
        code, said = self.parent.run(
            [*self.started, str(run)], faults=[fault("decoding", "SIGTERM")]
        )
        self.assertEqual(code, 143, said)
        self.assertIn("error: stopped by SIGTERM", said)
        self.assertFalse(run.exists())

    def test_the_command_itself(self) -> None:
        """A second run in the same folder is refused; SIGTERM from outside ends the first."""
        run = self.base / "command"
        endless = [*self.started, str(run), "--set", "recipe.epochs=100000"]
        process = subprocess.Popen(
            [sys.executable, "-m", "esc_tf.train", *endless],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},  # else its lines come late
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None and process.stderr is not None
        said = iter(process.stdout.readline, "")
        self.assertTrue(any(line.startswith("Epoch 2") for line in said), "it ended early")
        before = (run / "resolved.yaml").read_bytes()
        code, refused = self.go_on(run)
        self.assertEqual(code, 2, refused)
        self.assertIn("is in use by another running process", refused)
        self.assertEqual((run / "resolved.yaml").read_bytes(), before)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate()
        self.assertEqual(process.returncode, 143, errors)
        self.assertRegex(errors, "error: stopped by SIGTERM (in|after) epoch")


class StopSignalTest(tf.test.TestCase, parameterized.TestCase):
    def test_raises_at_once_or_when_it_may(self) -> None:
        with StopSignal() as stop, self.assertRaises(Terminated):
            os.kill(os.getpid(), signal.SIGTERM)
        with StopSignal() as stop, self.assertRaises(Terminated), stop.held():
            os.kill(os.getpid(), signal.SIGTERM)
            self.assertTrue(stop.requested)
        with (
            StopSignal() as stop,
            self.assertRaises(Terminated),
            stop.held(),
            stop.released(),
        ):
            os.kill(os.getpid(), signal.SIGTERM)
            self.fail("it must not come so far")
        self.assertEqual(Terminated.exit_code, 143)

    def test_puts_the_earlier_handler_back(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        with StopSignal() as stop:
            self.assertFalse(stop.requested)
            self.assertNotEqual(signal.getsignal(signal.SIGTERM), before)
        self.assertEqual(signal.getsignal(signal.SIGTERM), before)

    @parameterized.parameters("SIGTERM", "SIGINT")
    def test_ends_a_process_that_python_cannot_interrupt(self, name: str) -> None:
        # Locked twice, a mutex of C's never comes back to Python, not even for a signal.
        code = (
            "import ctypes, os, signal, threading\n"
            "from esc_tf.training.termination import StopSignal\n"
            # Shells let what they start in the background ignore Ctrl-C, and children inherit that.
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "with StopSignal() as stop, stop.ends_process():\n"
            f"    threading.Timer(0.1, os.kill, (os.getpid(), signal.{name})).start()\n"
            "    mutex = ctypes.create_string_buffer(256)\n"
            "    while True: ctypes.CDLL(None).pthread_mutex_lock(mutex)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True)
        self.assertEqual(done.returncode, 128 + getattr(signal, name), done.stderr)


class MiddleCheckpointTest(tf.test.TestCase):
    def test_order_and_end_of_their_use(self) -> None:
        folder = Path(tempfile.mkdtemp())
        names = [epoch_path(folder, 1), epoch_path(folder, 1, 12), epoch_path(folder, 2)]
        for path in reversed(names):
            path.touch()
        self.assertEqual(find_checkpoints(folder), names)
        delete_old_checkpoints(folder, keep=2)
        self.assertEqual(find_checkpoints(folder), [names[0], names[2]])
        epoch_path(folder, 2, 3).touch()
        delete_old_checkpoints(folder, keep=1)
        self.assertEqual(find_checkpoints(folder), [names[2], epoch_path(folder, 2, 3)])
        shutil.rmtree(folder)


if __name__ == "__main__":
    tf.test.main()
