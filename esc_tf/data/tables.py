"""Data sets that come as a CSV table of clips beside their audio files.

What a layout calls its columns is a `TableLayout`; reading and checking are the same for all.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from esc_tf.data.classes import select_classes
from esc_tf.data.records import DataSet, Record
from esc_tf.errors import DataError

_MAX_PROBLEMS_SHOWN = 20


@dataclass(frozen=True)
class TableLayout:
    """Where a data set keeps its table and its audio, and what its columns are called.

    Args:
        owner: whose layout it is, for messages, e.g. ``"ESC-50"``.
        table: path of the table below the data set's root.
        filename: column of the audio file's name.
        fold: column of the fold, whole numbers from 1.
        target: column of the class's number, from 0; classes are ordered by it.
        category: column of the class's name.
        source: column of the recording that the clip was cut from.
        audio_folder: fold → folder of its audio files below the root.
    """

    owner: str
    table: str
    filename: str
    fold: str
    target: str
    category: str
    source: str
    audio_folder: Callable[[int], str]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that every row must fill."""
        return (self.filename, self.fold, self.target, self.category, self.source)

    @property
    def sentence(self) -> str:
        """What a folder in this layout holds."""
        return f"a folder in {self.owner}'s layout holds audio/ and {self.table}"


@dataclass(frozen=True)
class _Row:
    line: int
    filename: str
    fold: int
    target: int
    category: str
    source: str


def load_table(layout: TableLayout, root: Path, selection: str | Sequence[str]) -> DataSet:
    """Load the records of a folder; audio files are not opened.

    Args:
        layout: of the folder.
        root: the folder.
        selection: see `select_classes`.

    Raises:
        DataError: no such folder, no or a malformed table (each line named), an unknown class, or
            a class without clips.
    """
    rows = _read_rows(layout, root)
    place = str(root / layout.table)
    return _build_data_set(layout, root, rows, select_classes(selection, _class_names(rows), place))


def load_known_rows(layout: TableLayout, root: Path, label_names: Sequence[str]) -> DataSet:
    """Load the clips of a folder whose classes a model knows, with the model's label ids.

    Other classes of the folder are left out; classes of the model may be absent from it.

    Raises:
        DataError: as for `load_table`, or no clip has one of ``label_names``.
    """
    rows = _read_rows(layout, root)
    data_set = _build_data_set(layout, root, rows, tuple(label_names))
    check_known(data_set, str(root / layout.table), _class_names(rows))
    return data_set


def check_known(data_set: DataSet, place: str, there: Sequence[str]) -> None:
    """Raise a DataError if no clip of a folder has a class of the model; ``there`` are others."""
    if not data_set.records:
        raise DataError(
            f"{place}: no clip has a class that the model knows; it has {', '.join(there)}, the "
            f"model knows {', '.join(data_set.label_names)}"
        )


def _build_data_set(
    layout: TableLayout, root: Path, rows: list[_Row], label_names: tuple[str, ...]
) -> DataSet:
    label_ids = {name: label_id for label_id, name in enumerate(label_names)}
    records = tuple(
        Record(
            clip_id=row.filename,
            label_id=label_ids[row.category],
            label_name=row.category,
            fold=row.fold,
            source_id=row.source,
            path=root / layout.audio_folder(row.fold) / row.filename,
        )
        for row in rows
        if row.category in label_ids
    )
    return DataSet(records=records, label_names=label_names, root=root)


def _class_names(rows: list[_Row]) -> list[str]:
    targets = {row.category: row.target for row in rows}
    return sorted(targets, key=lambda category: targets[category])


def _read_rows(layout: TableLayout, root: Path) -> list[_Row]:
    """Return the rows, all of them checked."""
    if not root.is_dir():
        raise DataError(f"data.root: there is no folder {root}; {layout.sentence}")
    table = root / layout.table
    if not table.is_file():
        raise DataError(f"data.root: {table} does not exist; {layout.sentence}")
    if not (root / "audio").is_dir():
        raise DataError(f"data.root: {root / 'audio'} is not a folder; {layout.sentence}")
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows, problems = _parse_table(layout, csv.DictReader(file, strict=True), str(table))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read as a UTF-8 CSV table: {error}") from error
    problems += _find_conflicts(rows, str(table))
    if problems:
        hidden = len(problems) - _MAX_PROBLEMS_SHOWN
        shown = problems[:_MAX_PROBLEMS_SHOWN]
        raise DataError([*shown, f"{table}: and {hidden} more problems"] if hidden > 0 else shown)
    if not rows:
        raise DataError(f"{table}: has no rows; one row a clip is needed")
    return rows


def _parse_table(
    layout: TableLayout, reader: csv.DictReader[str], table: str
) -> tuple[list[_Row], list[str]]:
    missing = [name for name in layout.columns if name not in (reader.fieldnames or ())]
    if missing:
        raise DataError(
            f"{table}: line 1: no column {', '.join(missing)}; the first line must name "
            f"{','.join(layout.columns)}"
        )
    rows, problems = [], []
    for values in reader:
        row_or_problem = _parse_row(layout, values, reader.line_num)
        if isinstance(row_or_problem, str):
            problems.append(f"{table}: line {reader.line_num}: {row_or_problem}")
        else:
            rows.append(row_or_problem)
    return rows, problems


def _parse_row(layout: TableLayout, values: dict[str, str], line: int) -> _Row | str:
    if None in values or any(values[name] is None for name in layout.columns):
        return "has another number of cells than the first line"
    cells = {name: values[name].strip() for name in layout.columns}
    empty = [name for name in layout.columns if not cells[name]]
    if empty:
        return f"{', '.join(empty)} is empty"
    numbers = {}
    for name, lowest in ((layout.fold, 1), (layout.target, 0)):
        if not (cells[name].isascii() and cells[name].isdigit() and int(cells[name]) >= lowest):
            return f"{name} is '{cells[name]}'; it must be a whole number from {lowest}"
        numbers[name] = int(cells[name])
    filename = cells[layout.filename]
    # A table comes with a downloaded data set; it must not make us open files elsewhere.
    if any(char in filename for char in "/\\\0") or filename in (".", ".."):
        return (
            f"{layout.filename} '{filename}' leaves the folder audio/; only plain file names are "
            "read"
        )
    return _Row(
        line,
        filename,
        numbers[layout.fold],
        numbers[layout.target],
        cells[layout.category],
        cells[layout.source],
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
