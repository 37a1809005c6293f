"""Which signatures ``:classify`` and ``:regress`` can call, by their inputs and outputs.

As in TensorFlow Serving without ``--enable_signature_method_name_check``, a signature's method name
does not count.
"""

from __future__ import annotations

from serving.errors import ServingError
from serving.signatures import Signature, TensorSpec

INPUTS = "inputs"
CLASSES = "classes"
SCORES = "scores"
REGRESSION_OUTPUTS = "outputs"


def check_classify_signature(signature: Signature) -> None:
    """Checks that a signature takes ``inputs`` and gives ``classes``, ``scores`` or both.

    Raises:
        ServingError: INVALID_ARGUMENT where it does not.
    """
    _check_one_input(signature)
    if len(signature.outputs) not in (1, 2):
        raise _error(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if INPUTS not in signature.inputs:
        raise _error(f"No classification inputs found in SignatureDef: {show_signature(signature)}")
    if not {CLASSES, SCORES} & signature.outputs.keys():
        raise _error(
            "Expected classification signature outputs to contain at least one of "
            f'"{CLASSES}" or "{SCORES}". Signature was: {show_signature(signature)}'
        )


def check_regress_signature(signature: Signature) -> None:
    """Checks that a signature takes ``inputs`` and gives ``outputs``, and nothing else.

    Raises:
        ServingError: INVALID_ARGUMENT where it does not.
    """
    _check_one_input(signature)
    if len(signature.outputs) != 1:
        raise _error("Expected one output Tensor.")
    if INPUTS not in signature.inputs:
        raise _error(f"No regression inputs found in SignatureDef: {show_signature(signature)}")
    if REGRESSION_OUTPUTS not in signature.outputs:
        raise _error(f"No regression outputs found in SignatureDef: {show_signature(signature)}")


def _check_one_input(signature: Signature) -> None:
    if len(signature.inputs) != 1:
        raise _error("Expected one input Tensor.")


def show_signature(signature: Signature) -> str:
    """A signature in protobuf's text format, as messages about it show it."""
    blocks = [
        f"{field} {{\n{_show_tensor(spec)}}}\n"
        for field, specs in (("inputs", signature.inputs), ("outputs", signature.outputs))
        for _, spec in sorted(specs.items())
    ]
    return f'{"".join(blocks)}method_name: "{signature.method_name}"\n'


def _show_tensor(spec: TensorSpec) -> str:
    if spec.shape is None:
        shape = "      unknown_rank: true\n"
    else:
        sizes = (-1 if size is None else size for size in spec.shape)
        shape = "".join(f"      dim {{\n        size: {size}\n      }}\n" for size in sizes)
    return (
        f'  key: "{spec.alias}"\n  value {{\n    name: "{spec.name}"\n    dtype: {spec.dtype}\n'
        f"    tensor_shape {{\n{shape}    }}\n  }}\n"
    )


def _error(message: str) -> ServingError:
    return ServingError("INVALID_ARGUMENT", message)
