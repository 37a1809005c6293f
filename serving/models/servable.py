"""One loaded version of a model: checks a call as Serving does, and runs it.

No TensorFlow here: ``serving.models.saved_model`` makes servables of SavedModels.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from serving.errors import ServingError
from serving.signatures import DEFAULT_SIGNATURE_NAME, Signature

Arrays = dict[str, np.ndarray]
#: Runs a signature: its name, inputs by alias, aliases of the outputs wanted → outputs by alias.
Execute = Callable[[str, Mapping[str, np.ndarray], Sequence[str]], Arrays]


class Batcher(Protocol):
    """Runs calls of one servable together with others; see ``serving.batching``."""

    def run(
        self,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        deadline: float | None,
    ) -> Arrays: ...

    def close(self) -> None: ...


@dataclasses.dataclass
class Servable:
    """One loaded version of a model.

    Args:
        model_name: as in ``/v1/models/NAME``.
        version: its number.
        signatures: what it can be called for, by name.
        signature_defs: TensorFlow's own messages of them, for the metadata.
        execute: runs a signature; safe to call from several threads.
        defaults: inputs that a call may leave out, by signature and alias.
        release: gives back what the model holds; called once, after the last call.
        batcher: runs calls together; None runs each alone.
    """

    model_name: str
    version: int
    signatures: Mapping[str, Signature]
    signature_defs: Mapping[str, Any]
    execute: Execute
    defaults: Mapping[str, Mapping[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    release: Callable[[], None] = lambda: None
    batcher: Batcher | None = None

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str] | None = None,
        deadline: float | None = None,
    ) -> Arrays:
        """Run a signature. Blocks; safe to call from several threads.

        Args:
            signature_name: empty for ``serving_default``.
            inputs: arrays by alias; strings as an array of dtype object that holds bytes.
            outputs: aliases of those wanted; None or empty for all.
            deadline: on the clock of ``time.monotonic``; None for no limit.

        Returns:
            Outputs by alias, in the order of ``outputs`` or by name.

        Raises:
            ServingError: FAILED_PRECONDITION for an unknown signature; INVALID_ARGUMENT for inputs
                or outputs that the signature does not have, or that the graph refuses;
                DEADLINE_EXCEEDED when the time is over; with batching also what
                ``serving.batching`` raises.
        """
        signature = self._find(signature_name)
        given = {**self.defaults.get(signature.name, {}), **inputs}
        _check_inputs(signature, given, len(inputs))
        wanted = _choose_outputs(signature, outputs)
        check_deadline(deadline)
        if self.batcher is not None:
            return self.batcher.run(signature, given, wanted, deadline)
        results = self.execute(signature.name, given, wanted)
        check_deadline(deadline)
        return results

    def close(self) -> None:
        """Free the model. No call may be running, and none may follow."""
        if self.batcher is not None:
            self.batcher.close()
        self.release()

    def _find(self, name: str) -> Signature:
        name = name or DEFAULT_SIGNATURE_NAME
        if name not in self.signatures:
            raise ServingError("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        return self.signatures[name]


def check_deadline(deadline: float | None) -> None:
    """Refuse to go on when the time of a call is over.

    Raises:
        ServingError: DEADLINE_EXCEEDED.
    """
    if deadline is not None and time.monotonic() >= deadline:
        raise make_timeout()


def make_timeout() -> ServingError:
    """Make the error of a call that ran longer than it may."""
    return ServingError("DEADLINE_EXCEEDED", "Timed out waiting for notification")


def _check_inputs(signature: Signature, given: Mapping[str, np.ndarray], num_sent: int) -> None:
    expected, sent = set(signature.inputs), set(given)
    if expected == sent:
        return
    raise ServingError(
        "INVALID_ARGUMENT",
        f"input size does not match signature: {num_sent}!={len(expected)} len({_braces(sent)}) != "
        f"len({_braces(expected)}). Sent extra: {_braces(sent - expected)}. Missing but required: "
        f"{_braces(expected - sent)}.",
    )


def _choose_outputs(signature: Signature, outputs: Sequence[str] | None) -> tuple[str, ...]:
    if not outputs:
        return tuple(sorted(signature.outputs))
    for place, alias in enumerate(outputs):
        if alias not in signature.outputs:
            raise ServingError(
                "INVALID_ARGUMENT",
                f"output tensor alias not found in signature: {alias} Outputs expected to be in "
                f"the set {_braces(signature.outputs)}.",
            )
        if alias in outputs[:place]:
            raise ServingError("INVALID_ARGUMENT", f"duplicate output tensor alias: {alias}")
    return tuple(outputs)


def _braces(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
