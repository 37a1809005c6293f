"""Activations on disk: a folder with one array for each name, written and read in little memory."""

from __future__ import annotations

import json
import os
import shutil
import urllib.parse
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from esc_tf.errors import RequestError, UnknownNameError
from esc_tf.files import describe_os_error
from esc_tf.frames import TimeGrid
from esc_tf.registry import look_up, suggest_name

_MANIFEST = "activations.json"
_FORMAT = 1


@dataclass(frozen=True)
class StoredClip:
    """A clip whose activations are stored.

    Attributes:
        clip_id: the name by which it is found.
        duration_s: its own length in seconds, before it was brought to the model's.
        is_silent: whether all its samples are 0.
    """

    clip_id: str
    duration_s: float
    is_silent: bool


@dataclass(frozen=True)
class StoredArray:
    """One activation of all clips.

    Attributes:
        file: name of its file in the folder.
        grid: where its frames lie; None for what has no time axis.
        is_exact: whether that is known from the network; if not, its frames are taken to share
            the model's clip evenly, which may be wrong by half the step between two frames.
    """

    file: str
    grid: TimeGrid | None
    is_exact: bool


class ActivationStore:
    """What ``collect_activations`` left in a folder.

    Args:
        folder: written by ``ActivationWriter``.

    Attributes:
        clips: in the order of the arrays' rows.
        facts: of the model: ``source``, ``sample_rate_hz``, ``num_samples``, ``label_names``.

    Raises:
        RequestError: the folder holds no activations, or they are damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        path = self.folder / _MANIFEST
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            if manifest["format"] != _FORMAT:
                raise ValueError(f"format {manifest['format']}, not {_FORMAT}")
            self.facts: dict[str, Any] = manifest["model"]
            self.clips = tuple(StoredClip(**clip) for clip in manifest["clips"])
            self._arrays = {
                name: StoredArray(
                    file=entry["file"],
                    grid=None if entry["grid"] is None else TimeGrid(**entry["grid"]),
                    is_exact=entry["is_exact"],
                )
                for name, entry in manifest["arrays"].items()
            }
        except OSError as error:
            raise RequestError(
                f"{path}: cannot be read ({describe_os_error(error)}); name a folder of collected "
                "activations"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RequestError(
                f"{path}: describes no activations ({type(error).__name__}: {error}); collect them "
                "again"
            ) from None
        self._rows = {clip.clip_id: row for row, clip in enumerate(self.clips)}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the activations."""
        return tuple(self._arrays)

    def describe(self, name: str) -> StoredArray:
        """Where an activation's frames lie.

        Raises:
            UnknownNameError: no such activation.
        """
        return look_up(self._arrays, name, "stored activation")

    def open(self, name: str) -> np.ndarray:
        """An activation of all clips, float32 ``(clips, …)``, read from the disk where it is used.

        Raises:
            UnknownNameError: no such activation.
            RequestError: its file is missing or damaged.
        """
        path = self.folder / self.describe(name).file
        try:
            values = np.load(path, mmap_mode="r")
        except (OSError, EOFError, ValueError) as error:
            raise RequestError(f"{path}: cannot be read ({error}); collect it again") from None
        if values.dtype != np.float32 or values.ndim == 0 or len(values) != len(self.clips):
            raise RequestError(
                f"{path}: holds {values.dtype} {values.shape}, not the float32 values of "
                f"{len(self.clips)} clips; collect it again"
            )
        return values

    def find_row(self, clip_id: str) -> int:
        """The row of a clip in every array.

        Raises:
            UnknownNameError: no such clip.
        """
        if clip_id not in self._rows:
            # Thousands of other ids would help nobody.
            near = suggest_name(clip_id, self._rows)
            raise UnknownNameError(f"{self.folder}: holds no clip '{clip_id}'{near}")
        return self._rows[clip_id]


class ActivationWriter:
    """Writes a folder of activations, which is there whole at the end of the block or not at all.

    The memory is that of one call of ``append``. What a killed process leaves has a name of its
    own, ``.NAME.….partial``, beside the folder, and may be removed.

    Args:
        folder: to be made; an empty one may be there.
        facts: of the model, see ``ActivationStore``.

    Raises:
        RequestError: there is something at ``folder`` already.
        OSError: nothing can be written there.
    """

    def __init__(self, folder: str | Path, facts: Mapping[str, Any]) -> None:
        self._folder = Path(folder).expanduser()
        if self._folder.exists() and (
            not self._folder.is_dir() or next(self._folder.iterdir(), None) is not None
        ):
            raise RequestError(f"{self._folder}: is there already; name another folder")
        self._facts = dict(facts)
        self._clips: dict[str, StoredClip] = {}
        self._arrays: dict[str, _GrowingArray] = {}
        self._partial = self._folder.with_name(f".{self._folder.name}.{uuid.uuid4().hex}.partial")

    def __enter__(self) -> ActivationWriter:
        self._partial.mkdir(parents=True)
        return self

    def append(self, clips: Sequence[StoredClip], values: Mapping[str, np.ndarray]) -> None:
        """Add some clips.

        Args:
            clips: none of an id that is there.
            values: name → float32 ``(len(clips), …)``; the same names and shapes at every call.

        Raises:
            RequestError: two clips of one id.
            ValueError: other names or shapes than before.
        """
        for clip in clips:
            if clip.clip_id in self._clips:
                raise RequestError(f"{clip.clip_id}: two clips have this id; give each its own")
            self._clips[clip.clip_id] = clip
        if not self._arrays:
            self._arrays = {
                name: _GrowingArray(self._partial / _name_file(name), array.shape[1:])
                for name, array in values.items()
            }
        if set(values) != set(self._arrays):
            raise ValueError(f"{sorted(values)} are other names than {sorted(self._arrays)}")
        for name, array in values.items():
            if len(array) != len(clips):
                raise ValueError(f"{name}: {len(array)} rows for {len(clips)} clips")
            self._arrays[name].append(array)

    def finish(self, grids: Mapping[str, tuple[TimeGrid | None, bool]]) -> None:
        """Put the folder in its place.

        Args:
            grids: name → where its frames lie, and whether that is exact.

        Raises:
            RequestError: there are no clips.
        """
        if not self._clips:
            raise RequestError("there are no clips to collect activations of; name some")
        for array in self._arrays.values():
            array.close()
        manifest = {
            "format": _FORMAT,
            "model": self._facts,
            "arrays": {
                name: asdict(StoredArray(array.path.name, *grids[name]))
                for name, array in self._arrays.items()
            },
            "clips": [asdict(clip) for clip in self._clips.values()],
        }
        text = json.dumps(manifest, indent=1, ensure_ascii=False)
        (self._partial / _MANIFEST).write_text(text, encoding="utf-8")
        os.replace(self._partial, self._folder)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for array in self._arrays.values():
            array.close()
        shutil.rmtree(self._partial, ignore_errors=True)


class _GrowingArray:
    """A ``.npy`` file whose first axis grows.

    NumPy leaves room in the header for the longest number of rows, so that it can be written again
    at the end without moving what follows.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path = path
        self._shape = shape
        self._num_rows = 0
        self._file: BinaryIO = open(path, "wb")  # noqa: SIM115 - closed by close()
        self._write_header()
        self._start = self._file.tell()

    def append(self, rows: np.ndarray) -> None:
        if rows.shape[1:] != self._shape:
            raise ValueError(f"{self.path.name}: rows of {rows.shape[1:]}, not {self._shape}")
        self._file.write(np.ascontiguousarray(rows, np.float32).data)
        self._num_rows += len(rows)

    def close(self) -> None:
        if self._file.closed:
            return
        with self._file:
            self._file.seek(0)
            self._write_header()
            assert self._file.tell() == self._start

    def _write_header(self) -> None:
        described = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)),
            "fortran_order": False,
            "shape": (self._num_rows, *self._shape),
        }
        np.lib.format.write_array_header_1_0(self._file, described)


def _name_file(name: str) -> str:
    """A layer's name as that of a file, whatever characters it has."""
    return f"{urllib.parse.quote(name, safe='')}.npy"
