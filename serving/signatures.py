"""What a SavedModel's signature takes and gives, without TensorFlow's own messages."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

from serving.errors import ServingError

#: The signature that a request without ``signature_name`` means.
DEFAULT_SIGNATURE_NAME = "serving_default"


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """One input or output of a signature.

    Args:
        alias: key in the signature, the name that requests and replies use.
        name: tensor in the graph, such as ``serving_default_waveform:0``.
        dtype: TensorFlow's name of the type, such as ``DT_FLOAT`` or ``DT_STRING``.
        shape: sizes, None for one that is not fixed; None as a whole for an unknown rank.
    """

    alias: str
    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


@dataclasses.dataclass(frozen=True)
class Signature:
    """One entry point of a SavedModel.

    Args:
        name: key in the SavedModel, such as ``serving_default``.
        method_name: what it can be called for, such as ``tensorflow/serving/predict``.
        inputs: specs by alias.
        outputs: specs by alias.
    """

    name: str
    method_name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


def check_input_names(signature: Signature, names: Collection[str]) -> None:
    """Checks that a request has the inputs of a signature, by their names.

    Args:
        signature: what is called.
        names: inputs of the request.

    Raises:
        ServingError: INVALID_ARGUMENT in TensorFlow Serving's words when there are too many, too
            few, or others.
    """
    required = set(signature.inputs)
    given = set(names)
    if len(given) != len(required):
        raise ServingError(
            "INVALID_ARGUMENT",
            f"input size does not match signature: {len(given)}!={len(required)} "
            f"len({_join(given)}) != len({_join(required)}). "
            f"Sent extra: {_join(given - required)}. "
            f"Missing but required: {_join(required - given)}.",
        )
    for alias in sorted(required - given):
        raise ServingError(
            "INVALID_ARGUMENT",
            f"Signature input alias: {alias}(feed name: {signature.inputs[alias].name}) not found "
            "in request and no default value provided. Inputs expected to be in the request "
            f"{_join(given)}, or default input alias set: ",
        )


def _join(names: Collection[str]) -> str:
    return f"{{{','.join(sorted(names))}}}"
