"""Files that tests use where they are, and that the project does not hold."""

from __future__ import annotations

import os
import unittest
from pathlib import Path

_FOLDER = Path(os.environ.get("ESC_TF_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def shared_path(relative: str) -> Path:
    """Return the path of a shared file or folder; skip the test, with the reason, without it."""
    path = _FOLDER / relative
    if not path.exists():
        raise unittest.SkipTest(f"needs {relative} in the folder named by ESC_TF_SHARED")
    return path
