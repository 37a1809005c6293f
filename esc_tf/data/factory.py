"""The table of data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from esc_tf.config import AnyDataConfig, AudioConfig
from esc_tf.data.esc50 import LAYOUT as ESC50_LAYOUT
from esc_tf.data.esc50 import load_esc50
from esc_tf.data.folder import load_folder, load_known_folder
from esc_tf.data.records import DataSet
from esc_tf.data.shards import load_shards
from esc_tf.data.synthetic import load_synthetic
from esc_tf.data.tables import load_known_rows
from esc_tf.data.urbansound8k import LAYOUT as URBANSOUND8K_LAYOUT
from esc_tf.data.urbansound8k import load_urbansound8k
from esc_tf.errors import RequestError
from esc_tf.registry import look_up

DATA_SETS: dict[str, Callable[[Any, AudioConfig, int], DataSet]] = {
    "esc50": load_esc50,
    "urbansound8k": load_urbansound8k,
    "folder": load_folder,
    "shards": load_shards,
    "synthetic": load_synthetic,
}


def load_data_set(config: AnyDataConfig, audio: AudioConfig, seed: int) -> DataSet:
    """Load the records of the data set that ``config.name`` names; no audio is opened.

    Args:
        config: the section ``data`` of an experiment.
        audio: the section ``audio``; generated clips have its rate and duration.
        seed: the experiment's seed; it decides generated clips.

    Raises:
        DataError: the data set cannot be used as asked.
    """
    return look_up(DATA_SETS, config.name, "data set")(config, audio, seed)


def load_known_data_set(
    config: AnyDataConfig, root: str | Path, label_names: Sequence[str]
) -> DataSet:
    """Load the clips of another folder in a run's layout whose classes a model knows.

    They get the model's label ids. Other classes of the folder are left out; classes of the model
    may be absent from it.

    Args:
        config: the section ``data`` of the run.
        root: the other folder.
        label_names: the model's classes.

    Raises:
        RequestError: the run was trained on generated sounds or on shards.
        DataError: the folder cannot be used, or no clip has one of ``label_names``.
    """
    root = Path(root).expanduser()
    layouts = {"esc50": ESC50_LAYOUT, "urbansound8k": URBANSOUND8K_LAYOUT}
    if config.name in layouts:
        return load_known_rows(layouts[config.name], root, label_names)
    if config.name == "folder":
        return load_known_folder(root, label_names)
    raise RequestError(
        f"--data-root: the run used data.name {config.name}; another folder can be named for runs "
        f"on {', '.join(layouts)} and folder only; leave it out"
    )
