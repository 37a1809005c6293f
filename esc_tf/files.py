"""Files that are there whole or not at all, whatever stops the process that writes them."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable
from pathlib import Path

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


def describe_os_error(error: OSError) -> str:
    """The operating system's reason in a few words, also where a library has wrapped it."""
    if error.strerror:
        return error.strerror
    # HDF5 writes its own text around the number.
    found = re.search(r"errno = (\d+)", str(error))
    return os.strerror(int(found[1])) if found else str(error)
