"""The pickles of PyTorch, read without Python's unpickler: descriptions of tensors come out.

A pickle is a program that can call anything. Here its instructions are taken one by one
(``pickletools.genops`` splits them without running them), and those that name something are looked
up in the tables below: what is not there is refused. No object of a library is made and no
function of one is called; of a tensor only the description is kept (``TensorView``).
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from esc_tf.errors import CheckpointError
from esc_tf.models.checkpoints.storage import BFLOAT16, Storage, TensorView, make_view

STORAGE_TYPES = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": BFLOAT16,
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "|i1",
    "torch.ByteStorage": "|u1",
    "torch.BoolStorage": "|b1",
}
# Things beside the tensors of some published files, such as the state of PANNs' sampler in NumPy
# arrays. They are recognised and left undecoded.
PASSED_OVER = {
    "_codecs.encode",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.numeric._frombuffer",
    "numpy._core.numeric._frombuffer",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.ndarray",
    "numpy.dtype",
    "torch.device",
    "builtins.set",
    "__builtin__.set",
}
_TENSORS_ALONE = "save the tensors alone, with torch.save(model.state_dict(), FILE)"
_DAMAGED = "its pickle is damaged"
_KEY_TYPES = (str, bytes, int, float, bool, type(None))


@dataclass(frozen=True)
class Name:
    """A function or class that the pickle names and that is admitted; never the thing itself."""

    name: str


@dataclass(frozen=True)
class Opaque:
    """Something that was passed over.

    Args:
        name: what it would have been.
    """

    name: str


def read_tensor_pickle(stream: BinaryIO) -> tuple[Any, dict[str, Storage]]:
    """Read one pickle and leave the stream behind it.

    Returns:
        The content: dictionaries, lists, tuples, numbers, texts and bytes, with a ``TensorView``
        for each tensor and ``Opaque`` for what was passed over; and key → storage, of all that
        it names.

    Raises:
        CheckpointError: the pickle is damaged, or asks for something that is not admitted; the
            message names that.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                return machine.pop(), machine.storages
            step = _STEPS.get(opcode.name)
            if step is None:
                raise CheckpointError(
                    f"its pickle uses the instruction {opcode.name}, which tensors do not need; "
                    f"refused, nothing was run; {_TENSORS_ALONE}"
                )
            step(machine, argument)
    except CheckpointError:
        raise
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{_DAMAGED} ({str(error) or type(error).__name__:.120})") from None
    raise CheckpointError(_DAMAGED)


class _Machine:
    """The stack, the marks on it and the memory of a pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memory: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def pop(self) -> Any:
        return self.stack.pop()

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def mark(self, argument: Any) -> None:
        self.below.append(self.stack)
        self.stack = []

    def remember(self, index: int) -> None:
        self.memory[index] = self.stack[-1]

    def memoize(self, argument: Any) -> None:
        self.memory[len(self.memory)] = self.stack[-1]

    def recall(self, index: int) -> None:
        self.push(self.memory[index])

    def discard_to_mark(self, argument: Any) -> None:
        self.pop_mark()

    def replace_by_opaque(self, argument: Any) -> None:
        self.pop_mark()
        self.push(Opaque("frozenset"))

    def discard(self, argument: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    def append(self, argument: Any) -> None:
        self.extend_with([self.pop()])

    def extend(self, argument: Any) -> None:
        self.extend_with(self.pop_mark())

    def extend_with(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise TypeError("items for something that is no list")
        target.extend(items)

    def set_item(self, argument: Any) -> None:
        value, key = self.pop(), self.pop()
        self.set_items_of([key, value])

    def set_items(self, argument: Any) -> None:
        self.set_items_of(self.pop_mark())

    def set_items_of(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise TypeError("keys for something that is no dictionary")
        target.update(_make_dict(zip(items[::2], items[1::2], strict=True)))

    def build_tuple(self, argument: Any) -> None:
        self.push(tuple(self.pop_mark()))

    def build_list(self, argument: Any) -> None:
        self.push(self.pop_mark())

    def build_dict(self, argument: Any) -> None:
        items = self.pop_mark()
        self.push(_make_dict(zip(items[::2], items[1::2], strict=True)))

    def name_global(self, argument: str) -> None:
        module, _, attribute = argument.partition(" ")
        self.push(_admit(f"{module}.{attribute}"))

    def name_stacked_global(self, argument: Any) -> None:
        attribute, module = self.pop(), self.pop()
        if not isinstance(attribute, str) or not isinstance(module, str):
            raise TypeError("a name that is no text")
        self.push(_admit(f"{module}.{attribute}"))

    def refuse_instance(self, argument: str) -> None:
        module, _, attribute = argument.partition(" ")
        raise _refusal(f"{module}.{attribute}")

    def call(self, argument: Any) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise _refusal(f"a call of {_describe(function)}")
        self.push(_call(function.name, arguments))

    def set_state(self, argument: Any) -> None:
        # What a mapping carries beside its items (PyTorch's notes on versions) is not needed.
        self.pop()
        if not isinstance(self.stack[-1], dict | Opaque):
            raise _refusal(f"the state of {_describe(self.stack[-1])}")

    def look_up_storage(self, argument: Any) -> None:
        storage = _read_storage_id(self.pop())
        known = self.storages.setdefault(storage.key, storage)
        if (known.dtype, known.size) != (storage.dtype, storage.size):
            raise CheckpointError(f"its storage {storage.key:.40} has two types or sizes")
        self.push(storage)


def _admit(name: str) -> Name:
    if name in STORAGE_TYPES or name in PASSED_OVER or name in _CALLS:
        return Name(name)
    raise _refusal(name)


def _refusal(name: str) -> CheckpointError:
    return CheckpointError(
        f"its pickle asks for {name:.100}, which tensors do not need; refused, nothing was run; "
        + _TENSORS_ALONE
    )


def _describe(value: Any) -> str:
    return value.name if isinstance(value, Name | Opaque) else type(value).__name__


def _call(name: str, arguments: tuple[Any, ...]) -> Any:
    if name in PASSED_OVER:
        return Opaque(name)
    if name not in _CALLS:
        raise _refusal(f"a call of {name}")
    return _CALLS[name](*arguments)


def _make_dict(pairs: Any) -> dict[Any, Any]:
    made = {}
    for key, value in pairs:
        if not isinstance(key, _KEY_TYPES):
            raise TypeError(f"a {type(key).__name__} as a key")
        made[key] = value
    return made


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> TensorView:
    # What follows (requires_grad, hooks, metadata) says nothing about the numbers.
    return make_view(storage, offset, shape, strides)


def _rebuild_parameter(tensor: Any, *rest: Any) -> TensorView:
    if not isinstance(tensor, TensorView):
        raise TypeError("a parameter that is no tensor")
    return tensor


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda pairs=(): _make_dict(pairs),
    "torch.Size": lambda sizes=(): tuple(sizes),
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
}


def _read_storage_id(content: Any) -> Storage:
    """What a persistent id says: ``("storage", type, key, device, size[, part])``."""
    if isinstance(content, tuple) and content and content[0] == "module":
        raise CheckpointError(f"it holds a whole model with its code; {_TENSORS_ALONE}")
    if not isinstance(content, tuple) or len(content) not in (5, 6) or content[0] != "storage":
        raise TypeError("a reference that is no storage")
    _, kind, key, _, size, *part = content
    if not isinstance(kind, Name) or kind.name not in STORAGE_TYPES:
        raise _refusal(f"a storage of {_describe(kind)}")
    if not isinstance(key, str) or type(size) is not int or size < 0:
        raise TypeError("a storage without name or size")
    start, stop = 0, size
    if part and part[0] is not None:
        _, start, length = part[0]
        if type(start) is not int or type(length) is not int or not 0 <= start <= size - length:
            raise CheckpointError("a part of a storage does not lie in it; the file is damaged")
        stop = start + max(length, 0)
    return Storage(key, STORAGE_TYPES[kind.name], size, start, stop)


def _push_constant(value: Any) -> Callable[[_Machine, Any], None]:
    return lambda machine, argument: machine.push(value)


def _push_argument(machine: _Machine, argument: Any) -> None:
    machine.push(argument)


def _push_tuple(length: int) -> Callable[[_Machine, Any], None]:
    def step(machine: _Machine, argument: Any) -> None:
        items = [machine.pop() for _ in range(length)]
        machine.push(tuple(reversed(items)))

    return step


def _pass(machine: _Machine, argument: Any) -> None:
    pass


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), _pass),
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2"), _push_argument),
    **dict.fromkeys(("LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"), _push_argument),
    **dict.fromkeys(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _push_argument),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _push_argument),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _push_argument),
    "NONE": _push_constant(None),
    "NEWTRUE": _push_constant(True),
    "NEWFALSE": _push_constant(False),
    "EMPTY_TUPLE": _push_constant(()),
    "EMPTY_LIST": lambda machine, argument: machine.push([]),
    "EMPTY_DICT": lambda machine, argument: machine.push({}),
    # A set holds no tensors; what is in it is passed over.
    "EMPTY_SET": _push_constant(Opaque("set")),
    "ADDITEMS": _Machine.discard_to_mark,
    "FROZENSET": _Machine.replace_by_opaque,
    "TUPLE1": _push_tuple(1),
    "TUPLE2": _push_tuple(2),
    "TUPLE3": _push_tuple(3),
    "TUPLE": _Machine.build_tuple,
    "LIST": _Machine.build_list,
    "DICT": _Machine.build_dict,
    "MARK": _Machine.mark,
    "POP": _Machine.discard,
    "POP_MARK": _Machine.discard_to_mark,
    "DUP": lambda machine, argument: machine.push(machine.stack[-1]),
    "PUT": _Machine.remember,
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "MEMOIZE": _Machine.memoize,
    "GET": _Machine.recall,
    "BINGET": _Machine.recall,
    "LONG_BINGET": _Machine.recall,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.extend,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.name_global,
    "STACK_GLOBAL": _Machine.name_stacked_global,
    "INST": _Machine.refuse_instance,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "BUILD": _Machine.set_state,
    "BINPERSID": _Machine.look_up_storage,
}
