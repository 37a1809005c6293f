"""Files that want to run something: refused by the name of it, and nothing has been run."""

from __future__ import annotations

import builtins
import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esc_tf.errors import CheckpointError
from esc_tf.models.checkpoints.reader import read_checkpoint
from tests.models.checkpoints.torch_writer import (
    Call,
    Global,
    Raw,
    Reference,
    Tensor,
    WithState,
    pickle_of,
    stream_of,
    write,
    zip_of,
)

NUMBERS = np.arange(4, dtype=np.float32)
BOTH = pytest.mark.parametrize("layout", ["zip", "stream"])


class Evil:
    """What Python's pickle makes of an object that names any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


class StateSetter:
    """An object that acts when it gets its state."""

    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __setstate__(self, state: dict[str, str]) -> None:
        Path(state["canary"]).touch()


def dumped(value: Any, protocol: int = 2) -> Raw:
    """An object as Python pickles it, to be put anywhere into another pickle."""
    return Raw(pickle.dumps(value, protocol, fix_imports=False)[2:-1])


ATTACKS: dict[str, tuple[Callable[[str], Any], str]] = {
    "os.system": (lambda path: dumped(Evil(os.system, f"touch {path}")), r"posix\.system"),
    "eval": (
        lambda path: dumped(Evil(builtins.eval, f"open({path!r}, 'w')")),
        r"builtins\.eval",
    ),
    "exec": (
        lambda path: dumped(Evil(builtins.exec, f"open({path!r}, 'w')")),
        r"builtins\.exec",
    ),
    "open": (lambda path: dumped(Evil(builtins.open, path, "w")), r"\.open"),
    "subprocess": (
        lambda path: dumped(Evil(subprocess.call, ["touch", path])),
        r"subprocess\.call",
    ),
    "a later protocol's names": (
        lambda path: Raw(
            b"\x8c\x05posix\x8c\x06system\x93" + b"(X" + _length(path) + path.encode() + b"tR"
        ),
        r"posix\.system",
    ),
    "a call that makes what is called": (
        lambda path: Call(
            Call(Global("__builtin__", "getattr"), (Global("os", "path"), "system")), (path,)
        ),
        r"__builtin__\.getattr",
    ),
    "arguments that are calls": (
        lambda path: Call(
            Global("collections", "OrderedDict"), (dumped(Evil(os.system, f"touch {path}")),)
        ),
        r"posix\.system",
    ),
    "an object's __setstate__": (
        lambda path: dumped(StateSetter(path)),
        r"test_malice\.StateSetter",
    ),
    "an instance by its name": (
        lambda path: Raw(b"(S'touch " + path.encode() + b"'\nios\nsystem\n"),
        r"os\.system",
    ),
    "the instruction OBJ": (
        lambda path: Raw(b"(cos\nsystem\nS'touch " + path.encode() + b"'\no"),
        r"os\.system",
    ),
    "a registered extension": (lambda path: Raw(b"\x82\x01)R"), "EXT1"),
    "a persistent id as text": (lambda path: Raw(b"Pstorage\n"), "PERSID"),
    "a persistent id that calls": (
        lambda path: Reference(("storage", Global("os", "system"), "0", "cpu", 4)),
        r"os\.system",
    ),
    "a persistent id with code": (
        lambda path: Reference(("module", {}, "model.py", "import os")),
        "a whole model with its code",
    ),
    "torch.hub": (
        lambda path: Call(Global("torch.hub", "load"), ("some/repository", "model")),
        r"torch\.hub\.load",
    ),
    "torch.load": (lambda path: Call(Global("torch", "load"), (path,)), r"torch\.load"),
    "a pickle in a storage": (
        lambda path: Call(Global("torch.storage", "_load_from_bytes"), ("bytes",)),
        r"torch\.storage\._load_from_bytes",
    ),
    "a module": (
        lambda path: Raw(b"ctorch.nn.modules.linear\nLinear\n)\x81"),
        r"torch\.nn\.modules\.linear\.Linear",
    ),
    "NumPy's own loader": (
        lambda path: Call(Global("numpy", "load"), (path, None, True)),
        r"numpy\.load",
    ),
    "an array of objects": (
        lambda path: WithState(
            Call(Global("numpy.core.multiarray", "_reconstruct"), ()),
            (1, (1,), "O", False, [dumped(Evil(os.system, f"touch {path}"))]),
        ),
        r"posix\.system",
    ),
    "a name that looks like an admitted one": (
        lambda path: Call(Global("torch", "FloatStorage.__reduce__"), ()),
        r"torch\.FloatStorage\.__reduce__",
    ),
    "a call of a storage's type": (
        lambda path: Call(Global("torch", "FloatStorage"), (10**12,)),
        r"a call of torch\.FloatStorage",
    ),
    "a call of what was passed over": (
        lambda path: Call(Call(Global("_codecs", "encode"), ("a", "b")), (path,)),
        r"a call of _codecs\.encode",
    ),
    "a call of a tensor": (
        lambda path: Call(Raw(b"K\x05"), (path,)),
        "a call of int",
    ),
    "attributes for a function": (
        lambda path: WithState(Global("torch._utils", "_rebuild_tensor_v2"), {"__code__": "x"}),
        r"the state of torch\._utils\._rebuild_tensor_v2",
    ),
    "attributes for a class": (
        lambda path: WithState(Global("collections", "OrderedDict"), {"__getitem__": "x"}),
        r"the state of collections\.OrderedDict",
    ),
}


def _length(path: str) -> bytes:
    return len(path).to_bytes(4, "little")


@BOTH
@pytest.mark.parametrize("name", ATTACKS)
def test_is_refused_by_its_name(tmp_path: Path, layout: str, name: str) -> None:
    canary = tmp_path / "canary"
    make, message = ATTACKS[name]
    content = {"a": Tensor("0", NUMBERS), "b": make(str(canary))}
    path = write(tmp_path / "file.pt", content, layout)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(path)
    if "whole model" not in message:
        assert "refused, nothing was run" in str(caught.value)
    assert not canary.exists()


@pytest.mark.parametrize("function", [os.system, builtins.eval], ids=["system", "eval"])
def test_the_same_pickle_would_have_run(tmp_path: Path, function: Any) -> None:
    """Python's own unpickler runs it: the canary of the tests above is alive."""
    canary = tmp_path / "canary"
    command = f"touch {canary}" if function is os.system else f"open({str(canary)!r}, 'w')"
    pickle.loads(pickle_of({"b": dumped(Evil(function, command))}))
    assert canary.exists()


@pytest.mark.parametrize("part", ["magic", "version", "system", "pickle", "keys"])
def test_every_pickle_of_a_stream_is_guarded(tmp_path: Path, part: str) -> None:
    canary = tmp_path / "canary"
    evil = pickle_of(dumped(Evil(os.system, f"touch {canary}")))
    path = tmp_path / "file.pt"
    path.write_bytes(stream_of({"a": Tensor("0", NUMBERS)}, **{part: evil}))
    with pytest.raises(CheckpointError, match=r"posix\.system"):
        read_checkpoint(path)
    assert not canary.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_plain_pickle_is_not_run(tmp_path: Path, protocol: int) -> None:
    canary = tmp_path / "canary"
    path = tmp_path / "file.pt"
    path.write_bytes(pickle.dumps(Evil(os.system, f"touch {canary}"), protocol))
    with pytest.raises(CheckpointError, match=r"posix\.system|is no PyTorch"):
        read_checkpoint(path)
    assert not canary.exists()


def test_code_behind_the_tensors_is_not_reached(tmp_path: Path) -> None:
    """What follows the storages of a stream, or lies beside them in a zip, is never looked at."""
    canary = tmp_path / "canary"
    evil = pickle.dumps(Evil(os.system, f"touch {canary}"), 2)
    path = tmp_path / "file.pt"
    for content in (
        stream_of({"a": Tensor("0", NUMBERS)}) + evil,
        zip_of({"a": Tensor("0", NUMBERS)}, extra={"archive/other.pkl": evil}),
    ):
        path.write_bytes(content)
        np.testing.assert_array_equal(read_checkpoint(path)["a"], NUMBERS)
    assert not canary.exists()


def test_the_names_that_are_admitted_are_few() -> None:
    """Whoever adds a name to the reader sees it here."""
    from esc_tf.models.checkpoints import tensor_pickle

    assert set(tensor_pickle._CALLS) == {
        "collections.OrderedDict",
        "torch.Size",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_parameter",
    }
    assert all(name.startswith("torch.") for name in tensor_pickle.STORAGE_TYPES)
