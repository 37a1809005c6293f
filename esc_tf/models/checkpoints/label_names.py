"""Names of a checkpoint's classes, from AudioSet's table or a plain list."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from esc_tf.errors import RequestError

_INDEX, _NAME = "index", "display_name"


def read_label_names(path: str | Path) -> list[str]:
    """Read the names of all classes, in the order of the logits.

    Args:
        path: AudioSet's ``class_labels_indices.csv`` (columns ``index`` and ``display_name``, in
            any order of rows), or a text file with a name on each line.

    Raises:
        RequestError: the file cannot be read, a name is missing or there twice, or the indices do
            not count from 0.
    """
    path = Path(path).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise RequestError(f"{path}: is not UTF-8 text; give a list of names") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror or error})") from None
    lines = text.splitlines()
    header = [column.strip() for column in lines[0].split(",")] if lines else []
    if _INDEX in header and _NAME in header:
        names = _read_table(path, lines)
    else:
        names = [line.strip() for line in lines]
        while names and not names[-1]:
            names.pop()
    _check_names(path, names)
    return names


def _read_table(path: Path, lines: list[str]) -> list[str]:
    rows = list(csv.DictReader(lines, skipinitialspace=True))
    by_index: dict[int, str] = {}
    for number, row in enumerate(rows, start=2):
        try:
            index = int(row[_INDEX])
        except (TypeError, ValueError):
            raise RequestError(
                f"{path}: line {number} has no number in its column {_INDEX}"
            ) from None
        if index in by_index:
            raise RequestError(f"{path}: index {index} is there twice")
        by_index[index] = (row[_NAME] or "").strip()
    missing = sorted(set(range(len(rows))) - set(by_index))
    if missing:
        raise RequestError(f"{path}: index {missing[0]} is missing; they must count from 0")
    return [by_index[index] for index in range(len(rows))]


def _check_names(path: Path, names: list[str]) -> None:
    if not names:
        raise RequestError(f"{path}: holds no names")
    empty = [index for index, name in enumerate(names) if not name]
    if empty:
        raise RequestError(f"{path}: class {empty[0]} has no name")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise RequestError(
            f"{path}: the name '{twice[0]}' is there twice; classes are told apart by their names"
        )
