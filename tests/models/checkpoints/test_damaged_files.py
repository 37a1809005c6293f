"""Files that are wrong in every way: refused with the reason, and nothing else goes wrong."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esc_tf.errors import CheckpointError, RequestError
from esc_tf.models.checkpoints.reader import read_checkpoint
from tests.models.checkpoints.torch_writer import (
    Call,
    Global,
    Raw,
    Tensor,
    pickle_of,
    stream_of,
    write,
    zip_of,
)

BOTH = pytest.mark.parametrize("layout", ["zip", "stream"])
NUMBERS = np.arange(24, dtype=np.float32).reshape(4, 6)


def simple(**options: Any) -> dict[str, Any]:
    return {"a": Tensor("0", NUMBERS, **options)}


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such file; fetch"):
        read_checkpoint(tmp_path / "no.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no PyTorch or safetensors file"),
        (b"garbage all the way down", "is no PyTorch or safetensors file"),
        (b"\n<!DOCTYPE html><html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "pointer to a file of Git"),
        (pickle_of({"a": 1}), "is a pickle, but not one that torch.save writes"),
        (b"PK\x03\x04 and no archive", "the zip archive is damaged"),
        (b"PK\x05\x06" + bytes(18), "is no PyTorch or safetensors file"),
    ],
)
def test_files_of_other_kinds(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"file.pt: .*{message}"):
        read_checkpoint(path)


def test_zip_archives_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("config.json", b"{}")
    path.write_bytes(content.getvalue())
    with pytest.raises(CheckpointError, match="not one that torch.save writes"):
        read_checkpoint(path)
    path.write_bytes(zip_of(simple(), extra={"archive/code/__torch__.py": b"def f(): ..."}))
    with pytest.raises(CheckpointError, match="holds a program"):
        read_checkpoint(path)


@BOTH
def test_truncated_files(tmp_path: Path, layout: str) -> None:
    whole = {"zip": zip_of, "stream": stream_of}[layout](simple())
    path = tmp_path / "file.pt"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="file.pt: "):
            read_checkpoint(path)


@BOTH
def test_flipped_bytes(tmp_path: Path, layout: str) -> None:
    """A damaged file is refused or, where nobody can tell, read; nothing else goes wrong."""
    whole = {"zip": zip_of, "stream": stream_of}[layout](simple())
    rng = random.Random(0)
    path = tmp_path / "file.pt"
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
        except CheckpointError:
            refused += 1
    assert refused > 100


@BOTH
@pytest.mark.parametrize(
    "options",
    [
        {"shape": (4, 7)},
        {"shape": (5, 6)},
        {"offset": 1},
        {"offset": -1},
        {"offset": 10**18},
        {"offset": None},
        {"offset": True},
        {"strides": (6, 2)},
        {"strides": (-6, 1)},
        {"strides": (6,)},
        {"shape": (10**15,), "strides": (0,)},
        {"shape": (2**31, 2**31, 2**31), "strides": (0, 0, 0)},
        {"shape": (0, 10**18), "strides": (1, 1)},
        {"shape": (0, *(2**30,) * 14), "strides": (1,) * 15},
        {"shape": (1000,), "strides": (0,)},
        {"shape": (1,) * 65, "strides": (1,) * 65},
        {"shape": "46"},
        {"shape": (4.0, 6)},
        {"shape": {}},
        {"size": 23},
        {"size": 25},
        {"size": 10**15},
        {"size": -1},
        {"size": "24"},
        {"dtype": "float64"},
    ],
    ids=str,
)
def test_tensors_that_cannot_be(tmp_path: Path, layout: str, options: dict[str, Any]) -> None:
    path = write(
        tmp_path / "file.pt", {"a": Tensor("0", NUMBERS, **{"strides": (6, 1), **options})}, layout
    )
    with pytest.raises(CheckpointError, match="file.pt: "):
        read_checkpoint(path)


def test_one_storage_of_two_types(tmp_path: Path) -> None:
    content = {
        "a": Tensor("0", NUMBERS),
        "b": Tensor("0", NUMBERS, dtype="int32"),
    }
    with pytest.raises(CheckpointError, match="its storage 0 has two types or sizes"):
        read_checkpoint(write(tmp_path / "file.pt", content, "zip"))


def test_missing_and_lying_storages(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    write(path, {}, "zip", pickle=pickle_of(simple()))
    with pytest.raises(CheckpointError, match="its storage 0 has 0 bytes, not 96"):
        read_checkpoint(path)
    write(path, simple(), "stream", keys=pickle_of([]))
    with pytest.raises(CheckpointError, match="its storage 0 is missing"):
        read_checkpoint(path)
    for keys in (["1"], [5], "0"):
        write(path, simple(), "stream", keys=pickle_of(keys))
        with pytest.raises(CheckpointError, match="belongs to no tensor|header is not PyTorch's"):
            read_checkpoint(path)
    whole = stream_of(simple())
    at = len(whole) - NUMBERS.nbytes - 8
    path.write_bytes(whole[:at] + struct.pack("<q", 23) + whole[at + 8 :])
    with pytest.raises(CheckpointError, match="storage 1 of 1 has another size"):
        read_checkpoint(path)


def test_damaged_numbers_are_noticed_in_a_zip(tmp_path: Path) -> None:
    whole = bytearray(zip_of(simple()))
    at = bytes(whole).index(NUMBERS.tobytes())
    whole[at + 3] ^= 1
    path = tmp_path / "file.pt"
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match="the zip archive is damaged .*CRC"):
        read_checkpoint(path)


def test_archives_that_grow_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    zeros = {"a": Tensor("0", np.zeros(1 << 20, np.float32))}
    path.write_bytes(zip_of(zeros, compression=zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 1 << 14
    with pytest.raises(CheckpointError, match="is packed, which PyTorch does not do"):
        read_checkpoint(path)


def test_entries_over_each_other_are_refused(tmp_path: Path) -> None:
    """The central directory names the same bytes again and again."""
    whole = zip_of({"a": Tensor("0", np.zeros(1000, np.float32))})
    start = whole.index(b"PK\x01\x02")
    end = whole.index(b"PK\x05\x06")
    directory = whole[start:end]
    at = directory.rindex(b"PK\x01\x02")
    entry = directory[at:]
    copies = [entry.replace(b"data/0", f"data/{index}".encode()) for index in range(1, 10)]
    directory = b"".join([directory, *copies])
    count = 3 + len(copies)
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(directory), start, 0)
    path = tmp_path / "file.pt"
    path.write_bytes(whole[:start] + directory + tail)
    with pytest.raises(CheckpointError, match="larger than the file itself"):
        read_checkpoint(path)


def test_two_entries_of_one_name(tmp_path: Path) -> None:
    content = io.BytesIO(zip_of(simple()))
    with zipfile.ZipFile(content, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("archive/data.pkl", pickle_of({"b": Tensor("0", NUMBERS)}))
    path = tmp_path / "file.pt"
    path.write_bytes(content.getvalue())
    with pytest.raises(CheckpointError, match="more than one entry archive/data.pkl"):
        read_checkpoint(path)


@BOTH
def test_pickles_that_make_no_sense(tmp_path: Path, layout: str) -> None:
    deep = Raw(b"(" * 50000 + b"t" * 50000)
    hash_bomb = Raw(b"})" + b"\x85" * 50000 + b"Ns")
    loop = Raw(b"}q\x00X\x01\x00\x00\x00ah\x00s")
    for value in (
        Raw(b"e"),
        Raw(b"R"),
        Raw(b"h\x05"),
        Raw(b"\x85"),
        Raw(b"K\x01K\x02b"),
        Raw(b"Nu"),
        Raw(b"]K\x01s"),
        deep,
        hash_bomb,
        loop,
        # A memory index that would make Python's own reader ask for 64 GB.
        Raw(b"Nr\xff\xff\xff\xff"),
        Raw(b"\x8d" + b"\xff" * 7 + b"\x7f"),
        Raw(b"\x96" + b"\xff" * 7 + b"\x7f"),
        Raw(b"I" + b"9" * 100000 + b"\n"),
        Call(Global("torch._utils", "_rebuild_tensor_v2"), ()),
        Call(Global("torch._utils", "_rebuild_parameter"), (1, 2, 3)),
        Call(Global("collections", "OrderedDict"), (5,)),
    ):
        whole = pickle_of(value)
        with pytest.raises(CheckpointError, match="file.pt: "):
            read_checkpoint(write(tmp_path / "file.pt", {}, layout, pickle=whole))
