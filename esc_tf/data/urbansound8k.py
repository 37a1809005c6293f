"""Folders in UrbanSound8K's layout: ``audio/foldN/FILE`` and ``metadata/UrbanSound8K.csv``.

8,732 clips of at most 4 s in ten classes and ten folds; all clips of one Freesound recording
(``fsID``) lie in one fold, which the check for leaks holds the table to.

Source: J. Salamon, C. Jacoby, J. P. Bello, A Dataset and Taxonomy for Urban Sound Research, ACM
Multimedia 2014.
"""

from __future__ import annotations

from pathlib import Path

from esc_tf.config import AudioConfig, UrbanSound8KDataConfig
from esc_tf.data.records import DataSet
from esc_tf.data.tables import TableLayout, load_table

LAYOUT = TableLayout(
    owner="UrbanSound8K",
    table="metadata/UrbanSound8K.csv",
    filename="slice_file_name",
    fold="fold",
    target="classID",
    category="class",
    source="fsID",
    audio_folder=lambda fold: f"audio/fold{fold}",
)


def load_urbansound8k(config: UrbanSound8KDataConfig, audio: AudioConfig, seed: int) -> DataSet:
    """Load the records of a folder in UrbanSound8K's layout.

    Args:
        config: root and classes. Audio files are not opened here.
        audio: not needed for files; every loader takes the same arguments.
        seed: not needed for files.

    Raises:
        DataError: no such folder, no or malformed ``metadata/UrbanSound8K.csv`` (each line
            named), an unknown class, or a class without clips.
    """
    del audio, seed
    return load_table(LAYOUT, Path(config.root).expanduser(), config.classes)
