"""Files and folders that are there whole or not at all, whatever stops who writes them."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from esc_tf.errors import RequestError

# What a killed process may leave matches this; a file of this kind is never read.
PARTIAL_FILES = "*.partial*"


def write_atomically(
    path: Path, write: Callable[[Path], object], *, must_survive_power_loss: bool = True
) -> None:
    """Let ``write`` fill a new file beside ``path``, then put it in place in one step.

    Args:
        path: the file to be there in the end; until then it is as it was.
        write: writes a whole file to the path that it gets, which has the suffix of ``path``.
        must_survive_power_loss: wait until the content is on the disk; files that can be made
            again need not.

    Raises:
        OSError: nothing could be written; ``path`` is as it was and nothing else is left.
    """
    temporary = path.with_name(f"{path.stem}.{uuid.uuid4().hex}.partial{path.suffix}")
    try:
        write(temporary)
        if must_survive_power_loss:
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(
    folder: str | Path, marker: str, contents: str, replace: bool = False
) -> Iterator[Path]:
    """Fill a folder, which is there whole at the end of the block or not at all.

    What a killed process leaves has a name of its own, ``.NAME.….partial``, beside the folder, and
    may be removed.

    Args:
        folder: to be made; an empty one may be there.
        marker: a file that every folder of this kind holds.
        contents: what such a folder holds, for messages, e.g. ``"a reading"``.
        replace: whether a folder of this kind that is there may be replaced. Others never are.

    Yields:
        The folder to be filled.

    Raises:
        RequestError: see ``check_free``.
        OSError: nothing can be written there; nothing is left, and an old folder is as it was.
    """
    folder = Path(folder).expanduser()
    check_free(folder, marker, contents, replace)
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
    old = partial.with_suffix(".old.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        if (folder / marker).is_file():
            os.replace(folder, old)
        os.replace(partial, folder)
    finally:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        for left in (partial, old):
            shutil.rmtree(left, ignore_errors=True)


def check_free(folder: str | Path, marker: str, contents: str, replace: bool = False) -> None:
    """Refuse a folder that ``new_folder`` would overwrite.

    Raises:
        RequestError: there is something at ``folder`` already: a folder of another kind, or one of
            this kind that is not to be replaced.
    """
    folder = Path(folder).expanduser()
    if not folder.exists() or (folder.is_dir() and next(folder.iterdir(), None) is None):
        return
    if not (folder / marker).is_file():
        raise RequestError(
            f"{folder}: is there already and does not hold {contents}; name another folder"
        )
    if not replace:
        raise RequestError(
            f"{folder}: holds {contents} already; name another folder, or replace it with --force"
        )


def describe_os_error(error: OSError) -> str:
    """The operating system's reason in a few words, also where a library has wrapped it."""
    if error.strerror:
        return error.strerror
    # HDF5 writes its own text around the number.
    found = re.search(r"errno = (\d+)", str(error))
    return os.strerror(int(found[1])) if found else str(error)
