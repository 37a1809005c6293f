"""Folders in ESC-50's layout: ``audio/FILE`` and ``meta/esc50.csv``.

Source: K. J. Piczak, ESC: Dataset for Environmental Sound Classification, ACM Multimedia 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from esc_tf.config import AudioConfig, Esc50DataConfig
from esc_tf.data.records import DataSet
from esc_tf.data.tables import TableLayout, load_known_rows, load_table

LAYOUT = TableLayout(
    owner="ESC-50",
    table="meta/esc50.csv",
    filename="filename",
    fold="fold",
    target="target",
    category="category",
    source="src_file",
    audio_folder=lambda fold: "audio",
)


def load_esc50(config: Esc50DataConfig, audio: AudioConfig, seed: int) -> DataSet:
    """Load the records of a folder in ESC-50's layout.

    Args:
        config: root and classes. Audio files are not opened here.
        audio: not needed for files; every loader takes the same arguments.
        seed: not needed for files.

    Raises:
        DataError: no such folder, no or malformed ``meta/esc50.csv`` (each line named), an
            unknown class, or a class without clips.
    """
    del audio, seed
    return load_table(LAYOUT, Path(config.root).expanduser(), config.classes)


def load_known_classes(root: str | Path, label_names: Sequence[str]) -> DataSet:
    """Load the clips of a folder in ESC-50's layout whose classes a model knows.

    They get the model's label ids. Other classes of the folder are left out; classes of the model
    may be absent from it.

    Raises:
        DataError: as for `load_esc50`, or no clip has one of ``label_names``.
    """
    return load_known_rows(LAYOUT, Path(root).expanduser(), label_names)
