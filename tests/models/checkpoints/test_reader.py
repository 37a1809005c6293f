"""Reading tensors from files of both of PyTorch's layouts and from safetensors."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esc_tf.errors import CheckpointError
from esc_tf.models.checkpoints.reader import read_checkpoint
from tests.models.checkpoints.torch_writer import (
    Call,
    Global,
    Tensor,
    WithState,
    write,
)

BOTH = pytest.mark.parametrize("layout", ["zip", "stream"])
NUMBERS = np.arange(24, dtype=np.float32).reshape(4, 6)


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
        # PyTorch leaves any stride where there is nothing to step over.
        "long steps": Tensor("0", NUMBERS, shape=(1, 1, 24), strides=(10**9, 10**9, 1)),
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
    empty = {"dtype": "F32", "shape": [0, 3], "data_offsets": [96, 96]}
    table = {"__metadata__": {"format": "pt"}, "a": entry, "none": empty}
    path.write_bytes(safetensors_of(table, NUMBERS.tobytes()))
    found = read_checkpoint(path)
    assert list(found) == ["a", "none"]
    np.testing.assert_array_equal(found["a"], NUMBERS)
    assert found["none"].shape == (0, 3)
    with pytest.raises(CheckpointError, match="no keys to choose from"):
        read_checkpoint(path, "model")
    for change in (
        {"data_offsets": [0, 100]},
        {"data_offsets": [4, 100]},
        {"shape": [4, 7]},
        {"shape": [4, -6]},
        {"shape": [0, 10**18], "data_offsets": [0, 0]},
        {"shape": [0, *[2**30] * 14], "data_offsets": [0, 0]},
        {"shape": [4.0, 6]},
        {"dtype": "F9"},
        {"shape": None},
    ):
        path.write_bytes(safetensors_of({"a": entry | change}, NUMBERS.tobytes()))
        with pytest.raises(
            CheckpointError, match="file.safetensors: (its entry|its tensor|a tensor) "
        ):
            read_checkpoint(path)
    path.write_bytes(struct.pack("<Q", 4) + b"{abc")
    with pytest.raises(CheckpointError, match="is no JSON"):
        read_checkpoint(path)
