"""Signatures to call, made of a line."""

from __future__ import annotations

from collections.abc import Mapping

from serving.signatures import Signature, TensorSpec


def make_specs(types: Mapping[str, str]) -> dict[str, TensorSpec]:
    return {
        alias: TensorSpec(alias, f"serving_default_{alias}:0", f"DT_{dtype}", None)
        for alias, dtype in types.items()
    }


def make_signatures(**inputs: str) -> dict[str, Signature]:
    """The default signature with these inputs, types without ``DT_``."""
    method = "tensorflow/serving/predict"
    signature = Signature("serving_default", method, make_specs(inputs), make_specs({"y": "FLOAT"}))
    return {signature.name: signature}
