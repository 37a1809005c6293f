"""The folder of one run: who owns it, what lies where, and how files get there whole."""

from __future__ import annotations

import fcntl
import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

import numpy as np

import esc_tf
from esc_tf.config import (
    Experiment,
    dump_experiment,
    flatten_experiment,
    load_experiment,
    read_run_facts,
)
from esc_tf.errors import RequestError, TrainingError
from esc_tf.evaluation.run_files import HISTORY_FILE
from esc_tf.files import describe_os_error, write_atomically

RESOLVED_FILE = "resolved.yaml"
MODEL_FILE = "model.keras"


class RunDirectory:
    """Paths and files of one run.

    Args:
        path: the folder; ``claim`` makes it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock: IO[str] | None = None
        self._writes = True

    @property
    def resolved_path(self) -> Path:
        """``resolved.yaml``: configuration, seed, versions, devices, commit."""
        return self.path / RESOLVED_FILE

    @property
    def model_path(self) -> Path:
        """``model.keras``: the selected weights."""
        return self.path / MODEL_FILE

    @property
    def checkpoint_path(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    def check(self, resume: bool) -> None:
        """Refuse a folder that does not suit the request; touches nothing.

        Raises:
            RequestError: it holds a run and ``resume`` is false, or none and ``resume`` is true.
        """
        if resume and not self.resolved_path.is_file():
            raise RequestError(
                f"--resume: {self.path} holds no run (no {RESOLVED_FILE}); "
                "leave --resume out to start one"
            )
        if not resume and self.resolved_path.exists():
            raise RequestError(
                f"{self.path} already holds a run; add --resume to go on with it "
                "or name another --run-dir"
            )

    def claim(self, resume: bool, *, writes: bool = True) -> None:
        """Make the folder, or take an existing one over, for this process alone.

        Args:
            resume: see ``check``.
            writes: whether this process is the one that writes. Otherwise nothing is claimed, and
                from now on all writing methods do nothing: of several workers one writes.

        Raises:
            RequestError: see ``check``; or another process owns it; or it cannot be written.
        """
        self._writes = writes
        if not writes:
            return
        self.check(resume)
        try:
            self.checkpoint_path.mkdir(parents=True, exist_ok=True)
            # The kernel gives the lock back when the process ends, however it ends.
            self._lock = open(self.path / ".lock", "w")  # noqa: SIM115
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RequestError(f"{self.path} is in use by another running process") from None
        except OSError as error:
            raise RequestError(f"{self.path} cannot be written ({error.strerror})") from None

    def release(self) -> None:
        """Give the folder back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def write_text(self, name: str, text: str) -> None:
        """Write a text file whole or not at all.

        Raises:
            TrainingError: the disk is full, or whatever else keeps it from being written.
        """
        self._write(name, lambda path: path.write_text(text, encoding="utf-8"))

    def write_model(self, save: Callable[[Path], object]) -> None:
        """Let ``save`` write ``model.keras``, whole or not at all.

        Raises:
            TrainingError: as ``write_text``.
        """
        self._write(MODEL_FILE, save)

    def _write(self, name: str, write: Callable[[Path], object]) -> None:
        if not self._writes:
            return
        try:
            write_atomically(self.path / name, write)
        except OSError as error:
            raise TrainingError(
                f"{self.path / name} cannot be written ({describe_os_error(error)}); free space "
                "on that disk and go on with --resume: the checkpoints are whole"
            ) from error

    def write_resolved(self, experiment: Experiment, facts: Mapping[str, Any]) -> None:
        """Write ``resolved.yaml``; done before the first step."""
        self.write_text(RESOLVED_FILE, dump_experiment(experiment, facts))

    def read_resolved(self) -> tuple[Experiment, dict[str, Any]]:
        """Read ``resolved.yaml``: the configuration and the run's facts.

        Raises:
            RequestError: there is none.
            ConfigError: it is not what this version writes.
        """
        if not self.resolved_path.is_file():
            raise RequestError(f"{self.path} is not a run directory (no {RESOLVED_FILE})")
        return load_experiment(self.resolved_path), read_run_facts(self.resolved_path)

    def write_json(self, name: str, content: Any) -> None:
        """Write JSON whole or not at all."""
        self.write_text(name, json.dumps(content, indent=2, allow_nan=False) + "\n")

    def write_history(self, history: Iterable[Mapping[str, Any]]) -> None:
        """Write ``metrics.jsonl``: one line an epoch, replacing the file."""
        lines = [json.dumps(line, allow_nan=False) for line in history]
        self.write_text(HISTORY_FILE, "".join(f"{line}\n" for line in lines))


# What a resumed run may change: how long, on what devices, where the same clips lie, and what is
# made of it later.
_CHANGEABLE = ("recipe.epochs", "recipe.keep_checkpoints", "recipe.tensorboard", "recipe.report",
               "distribution.", "data.root", "data.cache_dir", "data.read_patience_s",
               "export.")  # fmt: skip


def check_resumable(stored: Experiment, wanted: Experiment) -> None:
    """Refuse to go on with a run under another configuration.

    Raises:
        RequestError: one sentence for each key that differs and may not.
    """
    old, new = flatten_experiment(stored), flatten_experiment(wanted)
    problems = [
        f"--resume: {key} was {old.get(key)!r} when the run began and is {new.get(key)!r} now; "
        "resume with the first value or start a new run"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not key.startswith(_CHANGEABLE)
    ]
    if problems:
        raise RequestError(problems)


def digest_experiment(experiment: Experiment) -> str:
    """A digest of everything that may not differ between two parts of a run."""
    flat = flatten_experiment(experiment)
    kept = {key: value for key, value in flat.items() if not key.startswith(_CHANGEABLE)}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def collect_run_facts(devices: Mapping[str, object], label_names: Iterable[str]) -> dict[str, Any]:
    """What ``resolved.yaml`` says about a run beside its configuration."""
    import keras
    import tensorflow as tf

    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(sys.argv),
        "commit": find_commit(),
        "versions": {
            "esc_tf": esc_tf.__version__,
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
        "distribution": dict(devices),
        "label_names": list(label_names),
    }


def find_commit() -> str | None:
    """The commit of the package's source, ``+changes`` if the tree differs; None outside git."""
    folder = Path(esc_tf.__file__).parent

    def ask_git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        # An installed copy inside somebody else's repository is not that repository's commit.
        if not ask_git("ls-files", "__init__.py"):
            return None
        changed = ask_git("status", "--porcelain", "--untracked-files=no")
        return ask_git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
