"""Checkpoints: one file an epoch with everything that a run needs to go on.

A file is a NumPy archive of arrays alone, read without pickle: the model's variables (random
states of dropout included), the optimiser's variables, and one JSON text with the epoch count,
the history and the state of the callbacks. It is put in place in one step, so whatever stops the
process, the newest file is whole. A run that was asked to stop leaves one more file, of the
middle of an epoch.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from esc_tf.errors import CheckpointError
from esc_tf.files import PARTIAL_FILES, describe_os_error, write_atomically

# Keras counts unnamed parts over the whole process: adam_5/iteration here is adam/iteration there.
_PROCESS_COUNT = re.compile(r"^([a-z_]+)_\d+/")
_EPOCH_FILE = re.compile(r"^epoch_(\d+)(?:_step_(\d+))?\.npz$")
BEST_FILE = "best.npz"


def write_checkpoint(
    path: Path, variables: Mapping[str, Sequence[keras.Variable]], state: Mapping[str, Any]
) -> None:
    """Write ``variables`` (group → list, in a stable order) and a JSON-able ``state``.

    Raises:
        CheckpointError: the disk is full, or whatever else keeps it from being written; earlier
            checkpoints are as they were.
    """
    arrays = {
        key: keras.ops.convert_to_numpy(variable.value)
        for key, variable in _name(variables).items()
    }
    arrays["state"] = np.frombuffer(json.dumps(state).encode(), dtype=np.uint8)

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)

    try:
        write_atomically(path, write)
    except OSError as error:
        whole = find_checkpoints(path.parent)
        last = f"the last checkpoint, {whole[-1].name}, is whole" if whole else "there is none yet"
        raise CheckpointError(
            f"{path}: the checkpoint cannot be written ({describe_os_error(error)}); free space on "
            f"that disk and go on with --resume: {last}"
        ) from error


def read_checkpoint(
    path: Path, variables: Mapping[str, Sequence[keras.Variable]]
) -> dict[str, Any]:
    """Read a checkpoint into ``variables`` and return its state.

    Nothing is assigned unless everything fits.

    Raises:
        CheckpointError: it cannot be read, or variables differ in path, shape or number.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            stored = {key: archive[key] for key in archive.files}
        state = json.loads(stored.pop("state").tobytes())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path}: cannot be read as a checkpoint ({error})") from None
    wanted = _name(variables)
    stored = {key: value for key, value in stored.items() if key.split(":", 1)[0] in variables}
    problems = [
        f"{path}: {key} is in the run but not in the checkpoint"
        for key in wanted.keys() - stored.keys()
    ]
    problems += [
        f"{path}: {key} is in the checkpoint but not in the run"
        for key in stored.keys() - wanted.keys()
    ]
    problems += [
        f"{path}: {key} has shape {list(stored[key].shape)} "
        f"but the run needs {list(variable.shape)}"
        for key, variable in wanted.items()
        if key in stored and tuple(stored[key].shape) != tuple(variable.shape)
    ]
    if problems:
        raise CheckpointError(sorted(problems)[:10])
    for key, variable in wanted.items():
        variable.assign(stored[key])
    return state


def _name(variables: Mapping[str, Sequence[keras.Variable]]) -> dict[str, keras.Variable]:
    return {
        f"{group}:{index}:{_strip_count(variable.path)}": variable
        for group, members in variables.items()
        for index, variable in enumerate(members)
    }


def _strip_count(path: str) -> str:
    return _PROCESS_COUNT.sub(r"\1/", path)


def epoch_path(folder: Path, epoch: int, steps: int = 0) -> Path:
    """Path of the checkpoint written after ``epoch`` epochs and ``steps`` of the next one."""
    return folder / (f"epoch_{epoch:04d}" + (f"_step_{steps:06d}" if steps else "") + ".npz")


def find_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in ``folder`` but for the best one, in the order of training."""
    found = [
        (int(match[1]), int(match[2] or 0), path)
        for path in folder.iterdir()
        if (match := _EPOCH_FILE.match(path.name))
    ]
    return [path for _, _, path in sorted(found)]


def delete_old_checkpoints(folder: Path, keep: int) -> None:
    """Delete all but the newest ``keep`` epochs' checkpoints, and what a killed process left.

    A checkpoint in the middle of an epoch has had its day once the epoch is done.
    """
    found = find_checkpoints(folder)
    whole = [path for path in found if path == epoch_path(folder, int(path.stem.split("_")[1]))]
    for path in found:
        if path not in whole[-keep:] and path != found[-1]:
            path.unlink(missing_ok=True)
    for path in folder.glob(PARTIAL_FILES):
        path.unlink(missing_ok=True)
