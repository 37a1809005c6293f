"""The two layouts of PyTorch's files: a zip archive, and before version 1.6 a stream of pickles."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from esc_tf.errors import CheckpointError
from esc_tf.models.checkpoints.storage import Storage, decode_numbers
from esc_tf.models.checkpoints.tensor_pickle import read_tensor_pickle

ZIP_START = b"PK\x03\x04"
PICKLE_START = b"\x80"
# What torch.save puts first into a stream of pickles.
_STREAM_NUMBER = 0x1950A86A20F9469CFC6C
_STREAM_VERSION = 1001
_COUNT_BYTES = 8
_ENCRYPTED = 0x1
_ZIP_ERRORS = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError)
_AGAIN = "fetch or save it again"

# What a file describes, and how the numbers of one of its storages are had.
Contents = tuple[Any, Callable[[Storage], np.ndarray]]


@contextmanager
def open_zip(path: Path) -> Iterator[Contents]:
    """Read the description in a zip archive; storages are read when they are asked for.

    Raises:
        CheckpointError: the archive is damaged, packed or grows beyond itself, or holds code.
        OSError: it cannot be read.
    """
    with ExitStack() as stack:
        try:
            # From memory, where a damaged archive cannot look like a broken disk.
            data = path.read_bytes()
            archive = stack.enter_context(zipfile.ZipFile(io.BytesIO(data)))
            entries = _check_entries(archive, len(data))
            folder = _find_folder(entries)
            content, _ = read_tensor_pickle(io.BytesIO(archive.read(f"{folder}/data.pkl")))
            order = f"{folder}/byteorder"
            big_endian = order in entries and archive.read(order).strip() == b"big"
        except _ZIP_ERRORS as error:
            raise _damaged(error) from None
        decoded: dict[str, np.ndarray] = {}

        def read_storage(storage: Storage) -> np.ndarray:
            if storage.key not in decoded:
                name = f"{folder}/data/{storage.key}"
                there = entries[name].file_size if name in entries else 0
                if there != storage.num_bytes:
                    raise CheckpointError(
                        f"its storage {storage.key:.40} has {there:,} bytes, not "
                        f"{storage.num_bytes:,}; the file is damaged: {_AGAIN}"
                    )
                try:
                    raw = archive.read(name)
                except _ZIP_ERRORS as error:
                    raise _damaged(error) from None
                decoded[storage.key] = decode_numbers(raw, storage.dtype, big_endian)
            return decoded[storage.key]

        yield content, read_storage


def _check_entries(archive: zipfile.ZipFile, file_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """PyTorch stores its entries as they are, so all of them together fit into the file."""
    entries = archive.infolist()
    names = Counter(entry.filename for entry in entries)
    for entry in entries:
        is_plain = entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & _ENCRYPTED
        if not is_plain or entry.file_size != entry.compress_size:
            raise CheckpointError(
                f"its entry {entry.filename:.80} is packed, which PyTorch does not do; refused, "
                "since it may grow to any size: save it again with torch.save"
            )
        if names[entry.filename] > 1:
            raise CheckpointError(f"it has more than one entry {entry.filename:.80}; {_AGAIN}")
    if sum(entry.file_size for entry in entries) > file_bytes:
        raise CheckpointError("its entries are larger than the file itself; refused")
    return {entry.filename: entry for entry in entries}


def _find_folder(entries: dict[str, zipfile.ZipInfo]) -> str:
    """The one folder in which ``torch.save`` puts everything."""
    found = [name[: -len("/data.pkl")] for name in entries if name.endswith("/data.pkl")]
    if len(found) != 1:
        raise CheckpointError("it is a zip archive, but not one that torch.save writes")
    if any(name.startswith(f"{found[0]}/code/") for name in entries):
        raise CheckpointError(
            "it holds a program (TorchScript); save the tensors alone, with "
            "torch.save(model.state_dict(), FILE)"
        )
    return found[0]


@contextmanager
def open_stream(path: Path) -> Iterator[Contents]:
    """Read a file of the layout before PyTorch 1.6: pickles, then the storages one by one.

    Raises:
        CheckpointError: the file is damaged or holds code.
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    stream = io.BytesIO(data)
    if read_tensor_pickle(stream)[0] != _STREAM_NUMBER:
        raise CheckpointError(
            "is a pickle, but not one that torch.save writes; save the tensors with torch.save"
        )
    version, _ = read_tensor_pickle(stream)
    system, _ = read_tensor_pickle(stream)
    content, storages = read_tensor_pickle(stream)
    keys, _ = read_tensor_pickle(stream)
    if version != _STREAM_VERSION or not isinstance(system, dict) or not isinstance(keys, list):
        raise CheckpointError(f"its header is not PyTorch's; {_AGAIN}")
    big_endian = system.get("little_endian") is False
    starts: dict[str, int] = {}
    position = stream.tell()
    for key in keys:
        storage = storages.get(key) if isinstance(key, str) else None
        if storage is None:
            raise CheckpointError(f"it has a storage that belongs to no tensor; {_AGAIN}")
        count = data[position : position + _COUNT_BYTES]
        position += _COUNT_BYTES
        starts[key] = position
        position += storage.num_bytes
        if position > len(data):
            raise CheckpointError(
                f"it ends {position - len(data):,} bytes too early, in storage {len(starts)} of "
                f"{len(keys)}; {_AGAIN}"
            )
        if int.from_bytes(count, "big" if big_endian else "little") != storage.size:
            raise CheckpointError(
                f"its storage {len(starts)} of {len(keys)} has another size than its tensors say; "
                f"the file is damaged: {_AGAIN}"
            )
    decoded: dict[str, np.ndarray] = {}

    def read_storage(storage: Storage) -> np.ndarray:
        key = storage.key
        if key not in starts:
            raise CheckpointError(
                f"its storage {key:.40} is missing; the file is damaged: {_AGAIN}"
            )
        if key not in decoded:
            raw = memoryview(data)[starts[key] : starts[key] + storage.num_bytes]
            decoded[key] = decode_numbers(raw, storage.dtype, big_endian)
        return decoded[key]

    yield content, read_storage


def _damaged(error: Exception) -> CheckpointError:
    reason = str(error) or type(error).__name__
    return CheckpointError(f"the zip archive is damaged ({reason:.120}); {_AGAIN}")
