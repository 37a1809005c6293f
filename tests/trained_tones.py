"""A small classifier of three tones, trained once for all tests of a class."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import soundfile
import tensorflow as tf

from esc_tf.config import build_experiment
from esc_tf.config.loading import merge
from esc_tf.training.experiment import train_experiment
from esc_tf.training.run_directory import RunDirectory
from tests.tiny import TINY

RATE_HZ = 8000
LABELS = ("low", "middle", "high")
TONES_HZ = (300.0, 900.0, 2700.0)


def write_tones(root: Path, folds: tuple[int, ...], labels: tuple[str, ...] = LABELS) -> None:
    """A folder in ESC-50's layout: two noisy tones a class and fold."""
    (root / "audio").mkdir(parents=True)
    (root / "meta").mkdir()
    rng = np.random.default_rng(0)
    time_s = np.arange(int(0.5 * RATE_HZ)) / RATE_HZ
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in folds:
        for target, label in enumerate(labels):
            for take in "AB":
                hz = TONES_HZ[target % 3] * rng.uniform(0.95, 1.05)
                tone = 0.5 * np.sin(2 * np.pi * hz * time_s) + 0.01 * rng.normal(size=time_s.size)
                name = f"{fold}-{fold}{target}{take}-{take}-{target}.wav"
                soundfile.write(root / "audio" / name, tone, RATE_HZ)
                rows.append(f"{name},{fold},{target},{label},False,{fold}{target}{take},{take}")
    (root / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n")


def call(command: Any, *arguments: str) -> tuple[int, str, str]:
    """Run a command in this process; return its exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command.main(list(arguments))
    return code, out.getvalue(), err.getvalue()


class TrainedTonesCase(tf.test.TestCase):
    """Has ``folder``, with the tones in ``folder/tones``, and ``run_dir``, a run tested on fold 4.

    The classifier takes clips of 0.5 s at 8 kHz.
    """

    folder: Path
    run_dir: str

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.folder = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        own_cache = mock.patch.dict(os.environ, {"ESC_TF_CACHE": str(cls.folder / "cache")})
        own_cache.start()
        cls.addClassCleanup(own_cache.stop)
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
