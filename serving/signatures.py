"""What a SavedModel's signature takes and gives, without TensorFlow's own messages."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

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
