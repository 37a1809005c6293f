"""Runs killed with SIGKILL go on as if nothing had happened."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import tensorflow as tf

from esc_tf.training.experiment import train_experiment
from esc_tf.training.run_directory import RunDirectory
from tests.tiny import tiny_experiment
from tests.training.test_experiment import without_times

_REPOSITORY = Path(__file__).resolve().parents[2]

# Each process kills itself at an exact moment, so that the test does not depend on timing.
_SCRIPT = """
import os, signal, sys
import keras
from esc_tf.training import checkpoints, run_directory
from esc_tf.training.experiment import train_experiment
from esc_tf.training.run_directory import RunDirectory
from tests.tiny import tiny_experiment

moment, folder = sys.argv[1:]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class DieInEpoch(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
    def on_train_batch_end(self, batch, logs=None):
        if moment == "in_epoch" and self.epoch == 2 and batch == 1:
            die()

plain_replace = os.replace
def replace(source, target):
    name = os.path.basename(target)
    if moment == "before_checkpoint_is_in_place" and name == "epoch_0002.npz":
        die()
    plain_replace(source, target)
    if moment == "after_checkpoint_before_log" and name == "epoch_0002.npz":
        die()
    if moment == "between_best_and_checkpoint" and name == "best.npz":
        die()
os.replace = replace
train_experiment(tiny_experiment(folder + "/cache"), RunDirectory(folder + "/run"),
                 callbacks=[DieInEpoch()], report=lambda line: None)
"""

# moment → lines that the log of the killed run shows
_MOMENTS = {
    "in_epoch": 2,
    "before_checkpoint_is_in_place": 1,
    "after_checkpoint_before_log": 1,
    "between_best_and_checkpoint": 0,
}


class KilledTest(tf.test.TestCase):
    def test_no_epoch_is_lost_or_doubled(self) -> None:
        base = Path(tempfile.mkdtemp())
        experiment = tiny_experiment(str(base / "cache"))
        whole = train_experiment(experiment, RunDirectory(base / "whole"), report=lambda line: None)
        expected = without_times(whole.history)
        for moment, logged in _MOMENTS.items():
            with self.subTest(moment):
                folder = base / moment
                killed = subprocess.run(
                    [sys.executable, "-c", _SCRIPT, moment, str(folder)],
                    cwd=_REPOSITORY,
                    capture_output=True,
                    text=True,
                )
                self.assertEqual(killed.returncode, -signal.SIGKILL, killed.stderr[-2000:])
                log = folder / "run" / "metrics.jsonl"
                before = log.read_text().splitlines() if log.exists() else []
                self.assertLen(before, logged)

                experiment = tiny_experiment(str(folder / "cache"))
                resumed = train_experiment(
                    experiment, RunDirectory(folder / "run"), resume=True, report=lambda line: None
                )
                self.assertEqual(without_times(resumed.history), expected)
                lines = [json.loads(line) for line in log.read_text().splitlines()]
                self.assertEqual(without_times(lines), expected)
                self.assertEqual(resumed.metrics["test"], whole.metrics["test"])
                left = sorted(path.name for path in (folder / "run" / "checkpoints").iterdir())
                self.assertEqual(left, ["best.npz", "epoch_0003.npz", "epoch_0004.npz"])


if __name__ == "__main__":
    tf.test.main()
