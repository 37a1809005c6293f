"""The folder of one export: there whole and verified, or not there at all."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from esc_tf.cards import CARD_FILE
from esc_tf.errors import EscTfError, RequestError

SAVED_MODEL = "saved_model"
TFLITE = "tflite"
LABELS_FILE = "labels.txt"
VERIFICATION_FILE = "verification.json"
CONTENT = (SAVED_MODEL, TFLITE, LABELS_FILE, CARD_FILE, VERIFICATION_FILE)

_AT_CURRENT_FOLDER = -100
_RENAME_EXCHANGE = 2


class Bundle:
    """A folder that is filled out of sight and put in place in one step.

    Used as a context manager. Inside, ``staging`` is a new folder beside ``out``, on the same
    disk. ``publish`` makes it ``out``; whatever else ends the ``with`` removes it and leaves
    ``out`` as it was. A process that is killed outright leaves its staging folder
    (``NAME.….partial``), which the next export to the same place removes.

    Args:
        out: the folder to be there in the end.
        overwrite: whether an export that is there may be replaced. Versions of its SavedModel
            other than the new one are kept, so that TensorFlow Serving can go back to them.

    Attributes:
        out: the folder to be there in the end.
        failed: where ``reject`` keeps its report: ``NAME.failed`` beside ``out``.
    """

    def __init__(self, out: str | Path, overwrite: bool = False) -> None:
        self.out = Path(out).expanduser()
        if self.out.name in ("", ".."):  # a place that has a name elsewhere, such as "."
            self.out = Path(os.path.abspath(self.out))
        self.failed = self.out.parent / f"{self.out.name}.failed"
        self._overwrite = overwrite
        self._staging: Path | None = None
        self._lock: int | None = None

    @property
    def staging(self) -> Path:
        """The folder to be filled."""
        if self._staging is None:
            raise ValueError("the staging folder is there inside the with statement alone")
        return self._staging

    def check(self) -> None:
        """Refuse a place that cannot be used; touches nothing.

        Raises:
            RequestError: something is there that may not be replaced.
        """
        if not self.out.name:
            raise RequestError(f"--out: {self.out} is not a folder that can be made; name another")
        if not self.out.exists():
            return
        if not self.out.is_dir():
            raise RequestError(f"--out: {self.out} is a file; name a folder")
        content = {path.name for path in self.out.iterdir()}
        foreign = sorted(content - set(CONTENT))
        if foreign:
            raise RequestError(
                f"--out: {self.out} holds {foreign[0]}, which no export writes; name a folder of "
                "its own"
            )
        if content and not self._overwrite:
            raise RequestError(
                f"--out: {self.out} holds an export; add --overwrite or name another folder"
            )

    def __enter__(self) -> Bundle:
        """Make the staging folder.

        Raises:
            RequestError: as ``check``, or nothing can be written there.
        """
        self.check()
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self._remove_abandoned()
            staging = self.out.with_name(f"{self.out.name}.{uuid.uuid4().hex}.partial")
            staging.mkdir()
        except OSError as error:
            raise RequestError(f"--out: {self.out} cannot be written ({error.strerror})") from None
        # The kernel gives the lock back when the process ends, however it ends.
        self._lock = os.open(staging, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._staging = staging
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._staging is not None:
            shutil.rmtree(self._staging, ignore_errors=True)
            self._staging = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def publish(self) -> None:
        """Put the staging folder in place of ``out``, and forget an earlier failure.

        Raises:
            RequestError: another export has come there meanwhile.
            EscTfError: it cannot be put in place; ``out`` is as it was.
        """
        self.check()
        try:
            self._keep_other_versions()
            _write_to_disk(self.staging)
            if self.out.exists():
                _exchange(self.staging, self.out)  # __exit__ removes what was there
            else:
                os.rename(self.staging, self.out)
                self._staging = None
        except OSError as error:
            raise EscTfError(
                f"{self.out} cannot be written ({error.strerror or error}); it is as it was"
            ) from error
        _remove_report(self.failed)

    def reject(self, report: Mapping[str, Any]) -> Path:
        """Keep the report of an export that failed, and nothing else of it.

        Returns:
            The report's file, ``NAME.failed/verification.json`` beside ``out``.
        """
        self.failed.mkdir(exist_ok=True)
        path = self.failed / VERIFICATION_FILE
        write_json(path, report)
        return path

    def _keep_other_versions(self) -> None:
        """Link the SavedModel's other versions that are in place into the staging folder."""
        new, old = self.staging / SAVED_MODEL, self.out / SAVED_MODEL
        if not new.is_dir() or not old.is_dir():
            return
        for version in old.iterdir():
            if version.is_dir() and not (new / version.name).exists():
                shutil.copytree(version, new / version.name, copy_function=_link)

    def _remove_abandoned(self) -> None:
        """Remove staging folders of processes that are gone."""
        for folder in self.out.parent.glob(f"{_escape(self.out.name)}.*.partial"):
            with contextlib.suppress(OSError):
                lock = os.open(folder, os.O_RDONLY)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder)
                finally:
                    os.close(lock)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON that any reader takes: no NaN, no infinity."""
    path.write_text(
        json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def _escape(name: str) -> str:
    """A file's name as a pattern that matches it alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # not on every disk
        shutil.copy2(source, target)


def _write_to_disk(folder: Path) -> None:
    """Wait until all files are on the disk, so that no power failure leaves empty ones behind."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _exchange(one: Path, other: Path) -> None:
    """Let two folders change places: in one step where the system can do that (Linux can)."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None:
        places = os.fsencode(one), os.fsencode(other)
        here = _AT_CURRENT_FOLDER
        if rename(here, places[0], here, places[1], _RENAME_EXCHANGE) == 0:
            return
    # For a moment nothing is there; a failure in between is undone.
    aside = other.with_name(f"{other.name}.{uuid.uuid4().hex}.partial")
    os.rename(other, aside)
    try:
        os.rename(one, other)
    except BaseException:
        os.rename(aside, other)
        raise
    os.rename(aside, one)


def _remove_report(folder: Path) -> None:
    """Remove the report of an earlier failure, but nothing that somebody else has put there."""
    with contextlib.suppress(OSError):
        (folder / VERIFICATION_FILE).unlink(missing_ok=True)
        folder.rmdir()
