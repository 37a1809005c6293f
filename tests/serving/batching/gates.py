"""A servable that computes in Python, and can be held up while it runs."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np

from serving.errors import ServingError
from serving.signatures import Signature, TensorSpec

WAIT_S = 60.0  # so long a broken test waits; a sound one never does


def make_signature(
    rows: int | None = None, name: str = "serving_default", output_rank: int | None = 1
) -> Signature:
    """x → y, with a number of rows that is free or fixed; y of unknown rank for None."""
    shape = None if output_rank is None else (rows,)
    return Signature(
        name=name,
        method_name="tensorflow/serving/predict",
        inputs={"x": TensorSpec("x", "x:0", "DT_FLOAT", (rows, None))},
        outputs={"y": TensorSpec("y", "y:0", "DT_FLOAT", shape)},
    )


class GatedSum:
    """y is the sum of each row of x. Each call waits for the gate, and is noted down.

    Args:
        is_open: whether calls go through at once.

    Attributes:
        batches: x of each call that was begun.
        gate: lets the calls through.
        poison: a row that begins with this number makes the whole call fail.
    """

    def __init__(self, is_open: bool = True) -> None:
        self.batches: list[np.ndarray] = []
        self.gate = threading.Event()
        if is_open:
            self.gate.set()
        self.poison: float | None = None
        self._begun = threading.Condition()

    def __call__(
        self, name: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        with self._begun:
            self.batches.append(inputs["x"])
            self._begun.notify_all()
        assert self.gate.wait(WAIT_S)
        if self.poison is not None and self.poison in inputs["x"][:, 0]:
            raise ServingError("INVALID_ARGUMENT", "poisoned row")
        return {alias: inputs["x"].sum(axis=1) for alias in outputs}

    def wait_until_begun(self, num_calls: int) -> None:
        """Wait until so many calls were begun."""
        with self._begun:
            assert self._begun.wait_for(lambda: len(self.batches) >= num_calls, WAIT_S)

    @property
    def sizes(self) -> list[int]:
        """Rows of each call."""
        return [len(batch) for batch in self.batches]
