"""Reading tensors: right ones of both layouts, and files that are wrong in every way."""

from __future__ import annotations

import io
import json
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
    WithState,
    pickle_of,
    stream_of,
    write,
    zip_of,
)

BOTH = pytest.mark.parametrize("layout", ["zip", "stream"])
NUMBERS = np.arange(24, dtype=np.float32).reshape(4, 6)


def simple(**options: Any) -> dict[str, Any]:
    return {"a": Tensor("0", NUMBERS, **options)}


# --- right files


@BOTH
def test_names_shapes_and_numbers(tmp_path: Path, layout: str) -> None:
    content = {
        "features.0.weight": Tensor("0", NUMBERS),
        "features.0.bias": Tensor("1", np.ones(3, np.float32), is_parameter=True),
        "scalar": Tensor("2", np.array([7.0], np.float32), shape=()),
        "empty": Tensor("3", np.zeros(0, np.float32), shape=(0, 3)),
    }
    found = read_checkpoint(write(tmp_path / "file.pt", content, layout))
    assert list(found) == list(content)
    np.testing.assert_array_equal(found["features.0.weight"], NUMBERS)
    np.testing.assert_array_equal(found["features.0.bias"], [1, 1, 1])
    assert found["scalar"].shape == () and found["scalar"] == 7
    assert found["empty"].shape == (0, 3)


@BOTH
@pytest.mark.parametrize(
    "dtype",
    ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"],
)
def test_every_type(tmp_path: Path, layout: str, dtype: str) -> None:
    numbers = np.arange(6).astype(dtype)
    found = read_checkpoint(write(tmp_path / "file.pt", {"a": Tensor("0", numbers)}, layout))["a"]
    assert found.dtype == numbers.dtype
    np.testing.assert_array_equal(found, numbers)


@BOTH
def test_bfloat16_becomes_float32(tmp_path: Path, layout: str) -> None:
    # The upper half of a float32 is a bfloat16.
    exact = np.array([1.0, -2.5, 0.15625, 3e38], np.float32)
    halves = (exact.view(np.uint32) >> 16).astype(np.uint16)
    kept = (halves.astype(np.uint32) << 16).view(np.float32)
    content = {"a": Tensor("0", halves, dtype="bfloat16")}
    found = read_checkpoint(write(tmp_path / "file.pt", content, layout))["a"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, kept)
    np.testing.assert_array_equal(found[:3], exact[:3])


@BOTH
def test_strides_offsets_and_shared_storages(tmp_path: Path, layout: str) -> None:
    content = {
        "whole": Tensor("0", NUMBERS),
        "turned": Tensor("0", NUMBERS, shape=(6, 4), strides=(1, 6)),
        "part": Tensor("0", NUMBERS, shape=(2, 3), strides=(12, 2), offset=6),
    }
    found = read_checkpoint(write(tmp_path / "file.pt", content, layout))
    np.testing.assert_array_equal(found["whole"], NUMBERS)
    np.testing.assert_array_equal(found["turned"], NUMBERS.T)
    np.testing.assert_array_equal(found["part"], NUMBERS[1::2, ::2])
    assert not found["turned"].flags.writeable


def test_a_part_of_a_storage_in_a_stream(tmp_path: Path) -> None:
    tensor = Tensor("0", NUMBERS, shape=(3,), strides=(1,), offset=1, part=("0.1", 6, 6))
    found = read_checkpoint(write(tmp_path / "file.pt", {"a": tensor}, "stream"))["a"]
    np.testing.assert_array_equal(found, [7, 8, 9])
    tensor.offset = 4
    with pytest.raises(CheckpointError, match="does not lie in its storage of 6 numbers"):
        read_checkpoint(write(tmp_path / "file.pt", {"a": tensor}, "stream"))


def test_big_endian_files(tmp_path: Path) -> None:
    swapped = NUMBERS.astype(">f4")
    path = write(
        tmp_path / "file.pt",
        {"a": Tensor("0", swapped, dtype="float32")},
        "zip",
        extra={"archive/byteorder": b"big"},
    )
    np.testing.assert_array_equal(read_checkpoint(path)["a"], NUMBERS)


@BOTH
def test_other_things_are_passed_over(tmp_path: Path, layout: str) -> None:
    """What PANNs' files hold beside the weights: counts, and a sampler's NumPy arrays."""
    encode, make = Global("_codecs", "encode"), Global("numpy.core.multiarray", "_reconstruct")
    array = WithState(
        Call(make, (Global("numpy", "ndarray"), (0,), Call(encode, ("b", "latin1")))),
        (1, (2,), Call(Global("numpy", "dtype"), ("i8", 0, 1)), False, Call(encode, ("ab", "l"))),
    )
    ordered = Call(Global("collections", "OrderedDict"), ([("a", Tensor("0", NUMBERS))],))
    content = {
        "iteration": 600000,
        "rate": 0.5,
        "sampler": {"queue": [1, 2], "pointers": array},
        "model": WithState(ordered, {"_metadata": {"": {"version": 1}}}),
    }
    path = write(tmp_path / "file.pth", content, layout)
    np.testing.assert_array_equal(read_checkpoint(path)["a"], NUMBERS)


@BOTH
def test_the_place_of_the_tensors(tmp_path: Path, layout: str) -> None:
    inner = {"a": Tensor("0", NUMBERS)}
    other = {"a": Tensor("1", NUMBERS + 1)}
    path = tmp_path / "file.pt"
    for content, key in (
        ({"model": inner, "epoch": 3}, None),
        ({"net": {"model": inner}, "loss": Tensor("1", NUMBERS)}, None),
        ({"model": inner, "ema": other}, "model"),
        ({"ema": {"model": inner}, "model": other}, "ema.model"),
    ):
        found = read_checkpoint(write(path, content, layout), key)
        np.testing.assert_array_equal(found["a"], NUMBERS)
    write(path, {"model": inner, "ema": other}, layout)
    with pytest.raises(CheckpointError, match=r"several places \(model, ema\).*--key"):
        read_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"no tensors under the key 'nodel' \(keys: model"):
        read_checkpoint(path, "nodel")
    for content, message in (
        ({"epoch": 3}, "holds no mapping of names to tensors"),
        ([Tensor("0", NUMBERS)], "holds no mapping of names to tensors"),
        ({}, "holds no mapping of names to tensors"),
        ({"model": {**inner, "step": 3}}, "has under the key 'model' also 'step'"),
        ({**inner, 5: Tensor("1", NUMBERS)}, "has beside its tensors also 5"),
    ):
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(write(path, content, layout))


def test_the_wrapper_of_data_parallel_is_taken_off(tmp_path: Path) -> None:
    content = {"module.a": Tensor("0", NUMBERS), "module.b": Tensor("1", NUMBERS)}
    assert list(read_checkpoint(write(tmp_path / "file.pt", content, "zip"))) == ["a", "b"]
    content["c"] = Tensor("2", NUMBERS)
    names = list(read_checkpoint(write(tmp_path / "file.pt", content, "zip")))
    assert names == ["module.a", "module.b", "c"]


def test_files_of_pytorch_itself(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="compares with what torch.save writes")
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "base": base,
        "turned": base.T,
        "part": base[1:, ::2],
        "parameter": torch.nn.Parameter(base + 1),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3.0),
        **{
            str(dtype): base.to(dtype)
            for dtype in (torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool)
        },
    }
    content = {"model": tensors, "step": 3, "random": np.arange(4), "device": torch.device("cpu")}
    for is_zip in (True, False):
        for protocol in (2, 3, 4, 5):
            path = tmp_path / "file.pt"
            torch.save(
                content,
                path,
                _use_new_zipfile_serialization=is_zip,
                pickle_protocol=protocol,
            )
            found = read_checkpoint(path)
            assert list(found) == list(tensors)
            for name, tensor in tensors.items():
                expected = tensor.detach().numpy()
                assert found[name].dtype == expected.dtype
                np.testing.assert_array_equal(found[name], expected)


# --- safetensors


def safetensors_of(table: dict[str, Any], numbers: bytes) -> bytes:
    header = json.dumps(table).encode()
    return struct.pack("<Q", len(header)) + header + numbers


def test_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    entry = {"dtype": "F32", "shape": [4, 6], "data_offsets": [0, 96]}
    table = {"__metadata__": {"format": "pt"}, "a": entry}
    path.write_bytes(safetensors_of(table, NUMBERS.tobytes()))
    found = read_checkpoint(path)
    assert list(found) == ["a"]
    np.testing.assert_array_equal(found["a"], NUMBERS)
    with pytest.raises(CheckpointError, match="no keys to choose from"):
        read_checkpoint(path, "model")
    for change in (
        {"data_offsets": [0, 100]},
        {"data_offsets": [4, 100]},
        {"shape": [4, 7]},
        {"shape": [4, -6]},
        {"shape": [4.0, 6]},
        {"dtype": "F9"},
        {"shape": None},
    ):
        path.write_bytes(safetensors_of({"a": entry | change}, NUMBERS.tobytes()))
        with pytest.raises(CheckpointError, match="file.safetensors: its (entry|tensor) a "):
            read_checkpoint(path)
    path.write_bytes(struct.pack("<Q", 4) + b"{abc")
    with pytest.raises(CheckpointError, match="is no JSON"):
        read_checkpoint(path)


# --- wrong files


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
