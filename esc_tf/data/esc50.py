"""Folders in ESC-50's layout: ``audio/FILE`` and ``meta/esc50.csv``.

Source: K. J. Piczak, ESC: Dataset for Environmental Sound Classification, ACM Multimedia 2015.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from esc_tf.config import AudioConfig, Esc50DataConfig
from esc_tf.data.classes import select_classes
from esc_tf.data.records import DataSet, Record
from esc_tf.errors import DataError

REQUIRED_COLUMNS = ("filename", "fold", "target", "category", "src_file")
_LAYOUT = "a folder in ESC-50's layout holds audio/ and meta/esc50.csv"
_MAX_PROBLEMS_SHOWN = 20


@dataclass(frozen=True)
class _Row:
    line: int
    filename: str
    fold: int
    target: int
    category: str
    source_file: str


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
    root = Path(config.root).expanduser()
    rows, place = _read_rows(root)
    return _build_data_set(root, rows, select_classes(config.classes, _class_names(rows), place))


def load_known_classes(root: str | Path, label_names: Sequence[str]) -> DataSet:
    """Load the clips of a folder whose classes a model knows, with the model's label ids.

    Other classes of the folder are left out; classes of the model may be absent from it.

    Raises:
        DataError: as for `load_esc50`, or no clip has one of ``label_names``.
    """
    root = Path(root).expanduser()
    rows, place = _read_rows(root)
    data_set = _build_data_set(root, rows, tuple(label_names))
    if not data_set.records:
        raise DataError(
            f"{place}: no clip has a class that the model knows; it has "
            f"{', '.join(_class_names(rows))}, the model knows {', '.join(label_names)}"
        )
    return data_set


def _build_data_set(root: Path, rows: list[_Row], label_names: tuple[str, ...]) -> DataSet:
    label_ids = {name: label_id for label_id, name in enumerate(label_names)}
    records = tuple(
        Record(
            clip_id=row.filename,
            label_id=label_ids[row.category],
            label_name=row.category,
            fold=row.fold,
            source_id=row.source_file,
            path=root / "audio" / row.filename,
        )
        for row in rows
        if row.category in label_ids
    )
    return DataSet(records=records, label_names=label_names, root=root)


def _class_names(rows: list[_Row]) -> list[str]:
    targets = {row.category: row.target for row in rows}
    return sorted(targets, key=lambda category: targets[category])


def _read_rows(root: Path) -> tuple[list[_Row], str]:
    """Return the checked rows and the path of the table as it is named in messages."""
    if not root.is_dir():
        raise DataError(f"data.root: there is no folder {root}; {_LAYOUT}")
    table = root / "meta" / "esc50.csv"
    if not table.is_file():
        raise DataError(f"data.root: {table} does not exist; {_LAYOUT}")
    if not (root / "audio").is_dir():
        raise DataError(f"data.root: {root / 'audio'} is not a folder; {_LAYOUT}")
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows, problems = _parse_table(csv.DictReader(file, strict=True), str(table))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read as a UTF-8 CSV table: {error}") from error
    problems += _find_conflicts(rows, str(table))
    if problems:
        hidden = len(problems) - _MAX_PROBLEMS_SHOWN
        shown = problems[:_MAX_PROBLEMS_SHOWN]
        raise DataError([*shown, f"{table}: and {hidden} more problems"] if hidden > 0 else shown)
    if not rows:
        raise DataError(f"{table}: has no rows; one row a clip is needed")
    return rows, str(table)


def _parse_table(reader: csv.DictReader[str], table: str) -> tuple[list[_Row], list[str]]:
    missing = [name for name in REQUIRED_COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise DataError(
            f"{table}: line 1: no column {', '.join(missing)}; the first line must name "
            f"{','.join(REQUIRED_COLUMNS)}"
        )
    rows, problems = [], []
    for values in reader:
        row_or_problem = _parse_row(values, reader.line_num)
        if isinstance(row_or_problem, str):
            problems.append(f"{table}: line {reader.line_num}: {row_or_problem}")
        else:
            rows.append(row_or_problem)
    return rows, problems


def _parse_row(values: dict[str, str], line: int) -> _Row | str:
    if None in values or any(values[name] is None for name in REQUIRED_COLUMNS):
        return "has another number of cells than the first line"
    cells = {name: values[name].strip() for name in REQUIRED_COLUMNS}
    empty = [name for name in REQUIRED_COLUMNS if not cells[name]]
    if empty:
        return f"{', '.join(empty)} is empty"
    numbers = {}
    for name, lowest in (("fold", 1), ("target", 0)):
        if not (cells[name].isascii() and cells[name].isdigit() and int(cells[name]) >= lowest):
            return f"{name} is '{cells[name]}'; it must be a whole number from {lowest}"
        numbers[name] = int(cells[name])
    filename = cells["filename"]
    # A table comes with a downloaded data set; it must not make us open files elsewhere.
    if any(char in filename for char in "/\\\0") or filename in (".", ".."):
        return f"filename '{filename}' leaves the folder audio/; only plain file names are read"
    return _Row(
        line, filename, numbers["fold"], numbers["target"], cells["category"], cells["src_file"]
    )


def _find_conflicts(rows: list[_Row], table: str) -> list[str]:
    problems = []
    first_lines: dict[str, int] = {}
    categories: dict[int, str] = {}
    targets: dict[str, int] = {}
    for row in rows:
        where = f"{table}: line {row.line}:"
        first = first_lines.setdefault(row.filename, row.line)
        if first != row.line:
            problems.append(f"{where} '{row.filename}' is listed before, in line {first}")
        category = categories.setdefault(row.target, row.category)
        target = targets.setdefault(row.category, row.target)
        if category != row.category:
            problems.append(
                f"{where} target {row.target} is '{row.category}' here and '{category}' before"
            )
        elif target != row.target:
            problems.append(
                f"{where} '{row.category}' has target {row.target} here and {target} before"
            )
    return problems
