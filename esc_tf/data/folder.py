"""A folder with one folder of audio files a class; its folds are drawn here."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from esc_tf.audio.reading import AUDIO_SUFFIXES
from esc_tf.config import AudioConfig, FolderDataConfig
from esc_tf.config.data import list_class_folders
from esc_tf.data.classes import select_classes
from esc_tf.data.generated_folds import count_recordings, draw_folds
from esc_tf.data.records import DataSet, Record
from esc_tf.data.tables import check_known
from esc_tf.errors import DataError

_LAYOUT = "a folder set holds one folder of audio files a class, named like the class"
_MAX_PROBLEMS_SHOWN = 10


def load_folder(config: FolderDataConfig, audio: AudioConfig, seed: int) -> DataSet:
    """Load the records of a folder set and draw its folds; audio files are not opened.

    A class's files may lie in folders below its own; hidden files and folders are passed over. A
    clip's id is its path below the root.

    Args:
        config: root, classes, and how folds are drawn.
        audio: not needed for files; every loader takes the same arguments.
        seed: not needed: ``config.fold_seed`` decides the folds.

    Raises:
        DataError: no such folder, an unknown class, a class without audio files or with fewer
            recordings than folds, a file that ``source_pattern`` does not match.
    """
    del audio, seed
    root = Path(config.root).expanduser()
    names = _class_names(root)
    label_names = select_classes(config.classes, names, str(root))
    empty, files = [], {}
    for name in label_names:
        files[name] = _find_audio_files(root / name)
        if not files[name]:
            empty.append(
                f"{root / name}: holds no audio file (looked for {', '.join(AUDIO_SUFFIXES)}); "
                "remove the folder or list the classes in data.classes"
            )
    if empty:
        raise DataError(empty)
    sources = _name_sources(root, files, config.source_pattern)
    labels: dict[str, list[str]] = defaultdict(list)
    for name, paths in files.items():
        for path in paths:
            labels[sources[path]].append(name)
    few = [
        f"data.num_folds: {name} has {count} recording(s), fewer than the {config.num_folds} folds;"
        " lower it, or add recordings"
        for name, count in sorted(count_recordings(labels).items())
        if count < config.num_folds
    ]
    if few:
        raise DataError(few)
    folds = draw_folds(labels, config.num_folds, config.fold_seed)
    return _build_data_set(root, files, label_names, sources, folds)


def load_known_folder(root: Path, label_names: Sequence[str]) -> DataSet:
    """Load the clips of a folder set whose classes a model knows, with the model's label ids.

    All of them lie in fold 1: what a model has never seen needs no folds.

    Raises:
        DataError: no such folder, or no clip has one of ``label_names``.
    """
    names = _class_names(root)
    files = {name: _find_audio_files(root / name) for name in names if name in label_names}
    sources = _name_sources(root, files, None)
    folds = dict.fromkeys(sources.values(), 1)
    data_set = _build_data_set(root, files, tuple(label_names), sources, folds)
    check_known(data_set, str(root), names)
    return data_set


def _build_data_set(
    root: Path,
    files: dict[str, list[Path]],
    label_names: tuple[str, ...],
    sources: dict[Path, str],
    folds: dict[str, int],
) -> DataSet:
    records = tuple(
        Record(
            clip_id=path.relative_to(root).as_posix(),
            label_id=label_names.index(name),
            label_name=name,
            fold=folds[sources[path]],
            source_id=sources[path],
            path=path,
        )
        for name, paths in files.items()
        for path in paths
    )
    return DataSet(records=records, label_names=label_names, root=root)


def _class_names(root: Path) -> list[str]:
    try:
        names = list_class_folders(root)
    except OSError as error:
        raise DataError(
            f"data.root: {root} cannot be read ({error.strerror}); {_LAYOUT}"
        ) from error
    if len(names) < 2:
        raise DataError(f"data.root: {root} holds {len(names)} folder(s); {_LAYOUT}")
    return names


def _find_audio_files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in AUDIO_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _name_sources(root: Path, files: dict[str, list[Path]], pattern: str | None) -> dict[Path, str]:
    """Return each file's recording: the pattern's group in its name, or its own path."""
    paths = [path for found in files.values() for path in found]
    if pattern is None:
        return {path: path.relative_to(root).as_posix() for path in paths}
    sources, strangers = {}, []
    for path in paths:
        match = re.search(pattern, path.name)
        if match is None or not match[1]:
            strangers.append(path)
        else:
            sources[path] = match[1]
    if strangers:
        shown = [
            f"data.source_pattern: {path} does not match '{pattern}'"
            for path in strangers[:_MAX_PROBLEMS_SHOWN]
        ]
        raise DataError(
            [*shown, f"{len(strangers)} of {len(paths)} files name no recording; correct the "
             "pattern or the names"]
        )  # fmt: skip
    return sources
