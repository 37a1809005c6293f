"""What a table of an architecture is made of: which tensor fills which weight, and how."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

# Layouts name the axes of the tensor and then, in their order, those of the weight. An axis
# called 1 is dropped. Images of EfficientAT are (mel, time), those of PANNs and TFNet (time, mel).
SAME = "unit -> unit"
DENSE = "out in -> in out"
CONV_OF_MEL_TIME = "out in mel time -> time mel in out"
CONV_OF_TIME_MEL = "out in time mel -> time mel in out"
DEPTHWISE_OF_MEL_TIME = "channel one mel time -> time mel channel one"


@dataclass(frozen=True)
class Fill:
    """One tensor of a checkpoint fills one weight of the model.

    Args:
        source: the tensor's name in the checkpoint.
        target: the weight's ``LAYER/VARIABLE``.
        layout: axes of the tensor, an arrow, axes of the weight.
    """

    source: str
    target: str
    layout: str = SAME

    def arrange(self, tensor: np.ndarray) -> np.ndarray | None:
        """The tensor with its axes in the weight's order; None if it has other axes."""
        given, wanted = self._axes()
        dropped = [index for index, axis in enumerate(given) if axis == "1"]
        if tensor.ndim != len(given) or any(tensor.shape[index] != 1 for index in dropped):
            return None
        return tensor.transpose([given.index(axis) for axis in wanted] + dropped).reshape(
            [tensor.shape[given.index(axis)] for axis in wanted]
        )

    def expect_shape(self, weight_shape: Iterable[int]) -> tuple[int, ...]:
        """The shape that a tensor must have to fill a weight of some shape."""
        given, wanted = self._axes()
        sizes = dict(zip(wanted, weight_shape, strict=True))
        return tuple(sizes.get(axis, 1) for axis in given)

    def _axes(self) -> tuple[list[str], list[str]]:
        given, wanted = self.layout.split("->")
        return given.split(), wanted.split()


@dataclass(frozen=True)
class Ignore:
    """Tensors that the model has no use for, if the checkpoint has them.

    Args:
        pattern: of their names, as a shell writes it.
        reason: why they are not needed, for the user.
        check: looks at name and tensor; returns what is wrong with it, or None. A tensor that must
            agree with a constant of the model is checked before it is left out.
    """

    pattern: str
    reason: str
    check: Callable[[str, np.ndarray], str | None] = lambda name, tensor: None


@dataclass(frozen=True)
class Keep:
    """Weights that keep the value they have in the model.

    Args:
        pattern: of their ``LAYER/VARIABLE``, as a shell writes it.
        reason: why no tensor fills them, for the user.
    """

    pattern: str
    reason: str


@dataclass(frozen=True)
class Rules:
    """The whole table of an architecture, made for one model."""

    fills: tuple[Fill, ...]
    ignores: tuple[Ignore, ...] = field(default=())
    keeps: tuple[Keep, ...] = field(default=())

    def find_ignore(self, name: str) -> Ignore | None:
        """The entry that lets a tensor be left out."""
        return next((it for it in self.ignores if fnmatch.fnmatchcase(name, it.pattern)), None)

    def find_keep(self, path: str) -> Keep | None:
        """The entry that lets a weight keep its value."""
        return next((it for it in self.keeps if fnmatch.fnmatchcase(path, it.pattern)), None)


BATCH_COUNTERS = Ignore(
    "*.num_batches_tracked", "counts training steps, which the layer here does not need"
)


def fill_batch_norm(source: str, layer: str) -> list[Fill]:
    """The four tensors of a PyTorch batch norm ``source`` into the Keras layer ``layer``."""
    pairs = {
        "weight": "gamma",
        "bias": "beta",
        "running_mean": "moving_mean",
        "running_var": "moving_variance",
    }
    return [Fill(f"{source}.{theirs}", f"{layer}/{ours}") for theirs, ours in pairs.items()]


def fill_dense(source: str, layer: str) -> list[Fill]:
    """Weight and bias of a PyTorch linear layer into the Keras dense layer ``layer``."""
    return [
        Fill(f"{source}.weight", f"{layer}/kernel", DENSE),
        Fill(f"{source}.bias", f"{layer}/bias"),
    ]
