"""A call is checked as TensorFlow Serving checks it, before any graph is run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from serving.errors import ServingError
from serving.models.servable import Servable
from serving.signatures import Signature, TensorSpec

SIGNATURE = Signature(
    name="serving_default",
    method_name="tensorflow/serving/predict",
    inputs={alias: TensorSpec(alias, f"{alias}:0", "DT_FLOAT", (None,)) for alias in "ab"},
    outputs={alias: TensorSpec(alias, f"{alias}:0", "DT_FLOAT", (None,)) for alias in ("s", "p")},
)
ONE = np.ones(1)


def execute(
    name: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
) -> dict[str, np.ndarray]:
    results = {"s": inputs["a"] + inputs["b"], "p": inputs["a"] * inputs["b"]}
    return {alias: results[alias] for alias in outputs}


def make(**how: object) -> Servable:
    return Servable("m", 1, {SIGNATURE.name: SIGNATURE}, {}, execute, **how)  # type: ignore[arg-type]


def refuse(message: str, code: str, *arguments: object, **how: object) -> None:
    with pytest.raises(ServingError) as caught:
        make().run(*arguments, **how)  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.message) == (code, message)


def test_all_outputs_or_those_that_are_asked_for() -> None:
    inputs = {"a": 2 * ONE, "b": 5 * ONE}
    assert list(make().run("serving_default", inputs)) == ["p", "s"]
    assert make().run("", inputs, ["s", "p"]) == {"s": [7.0], "p": [10.0]}
    assert list(make().run("", inputs, ["p"])) == ["p"]
    assert list(make().run("", inputs, [])) == ["p", "s"]


def test_what_a_signature_does_not_have_is_refused() -> None:
    inputs = {"a": ONE, "b": ONE}
    refuse('Serving signature key "other" not found.', "FAILED_PRECONDITION", "other", inputs)
    refuse(
        "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. "
        "Missing but required: {b}.",
        "INVALID_ARGUMENT",
        "",
        {"a": ONE},
    )
    refuse(
        "input size does not match signature: 3!=2 len({a,b,c}) != len({a,b}). Sent extra: {c}. "
        "Missing but required: {}.",
        "INVALID_ARGUMENT",
        "",
        {**inputs, "c": ONE},
    )
    refuse(
        "output tensor alias not found in signature: q Outputs expected to be in the set {p,s}.",
        "INVALID_ARGUMENT",
        "",
        inputs,
        ["p", "q"],
    )
    refuse("duplicate output tensor alias: p", "INVALID_ARGUMENT", "", inputs, ["p", "s", "p"])


def test_inputs_with_a_default_may_be_left_out() -> None:
    servable = make(defaults={"serving_default": {"b": 10 * ONE}})
    assert servable.run("", {"a": ONE}, ["s"])["s"] == [11.0]
    assert servable.run("", {"a": ONE, "b": ONE}, ["s"])["s"] == [2.0]


def test_a_call_whose_time_is_over_is_not_run() -> None:
    inputs = {"a": ONE, "b": ONE}
    refuse(
        "Timed out waiting for notification",
        "DEADLINE_EXCEEDED",
        "",
        inputs,
        deadline=time.monotonic(),
    )
    assert make().run("", inputs, ["s"], deadline=time.monotonic() + 60)["s"] == [2.0]
