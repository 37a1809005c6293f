"""What is said of a model that cannot be exported: the layer, in one sentence."""

from __future__ import annotations

import numpy as np
import pytest

from esc_tf.errors import ExportError, RequestError
from export.checks import check_model, explain_conversion_error, find_non_finite_output
from tests.export.models import LABELS, break_weight, build_tiny


def test_a_sound_model_passes() -> None:
    model = build_tiny()
    check_model(model)
    check_model(model, LABELS)
    assert find_non_finite_output(model, np.zeros(4000, np.float32)) is None


def test_every_layer_with_a_bad_weight_is_named() -> None:
    model = break_weight(build_tiny(), "block1_conv1")
    model = break_weight(model, "logits", float("inf"), everywhere=True)
    with pytest.raises(ExportError) as caught:
        check_model(model)
    first, second = caught.value.problems
    assert first.startswith("layer 'block1_conv1': 1 of 72 values of its weight 'kernel'")
    assert second.startswith("layer 'logits': 48 of 48 values")


def test_the_first_layer_that_overflows_is_named() -> None:
    model = break_weight(build_tiny(), "block1_conv1", 3e38, everywhere=True)
    noise = np.random.default_rng(0).normal(0.0, 0.1, 4000).astype(np.float32)
    assert find_non_finite_output(model, noise) == "block1_conv1"


@pytest.mark.parametrize(
    ("known", "place"),
    [
        (("low", "high", "middle"), "'middle' where the run has 'high'"),
        (LABELS[:2], "3 where the run has 2"),
    ],
)
def test_labels_of_another_run(known: tuple[str, ...], place: str) -> None:
    with pytest.raises(ExportError, match="not those of resolved.yaml") as caught:
        check_model(build_tiny(), known)
    assert place in str(caught.value)


# As TensorFlow 2.21 writes it.
_LOCATED = (
    "Could not translate MLIR to FlatBuffer.<unknown>:0: error: loc(callsite(fused"
    '["Erfinv:", "functional_1/{layer}/erfinv/Erfinv@__inference_classify_531"] at callsite('
    'fused["StatefulPartitionedCall:", "StatefulPartitionedCall@__inference_signature_559"]))): '
    "'tf.Erfinv' op is neither a custom op nor a flex op\n"
    "<unknown>:0: error: failed while converting: 'main'\nCustom ops: Erfinv\nDetails:\n"
)


@pytest.mark.parametrize(
    ("layer", "wanted"),
    [
        ("block2_relu1", "layer 'block2_relu1' uses it"),
        ("block2_relu1_1", "layer 'block2_relu1' uses it"),  # its second call
        ("somewhere", "it comes from no layer of the model"),
    ],
)
def test_an_operator_without_kernel(layer: str, wanted: str) -> None:
    error = explain_conversion_error(
        RuntimeError(_LOCATED.format(layer=layer)), "tflite_int8", build_tiny()
    )
    (problem,) = error.problems
    assert problem.startswith(f"tflite_int8: TFLite has no operator Erfinv; {wanted}")


def test_operators_without_a_place() -> None:
    text = "failed while converting\nTF Select ops: EnsureShape, Erf\nDetails:\n"
    error = explain_conversion_error(RuntimeError(text), "tflite_int8", build_tiny())
    assert [problem.split(";")[0] for problem in error.problems] == [
        "tflite_int8: TFLite has no operator EnsureShape",
        "tflite_int8: TFLite has no operator Erf",
    ]


def test_other_failures() -> None:
    model = build_tiny()
    error = explain_conversion_error(ValueError("no room\nfor it"), "saved_model", model)
    assert error.problems == ["saved_model: cannot be made (ValueError: no room)"]
    error = explain_conversion_error(ValueError(""), "saved_model", model)
    assert error.problems == ["saved_model: cannot be made (ValueError: no reason given)"]
    error = explain_conversion_error(RequestError(["one", "two"]), "saved_model", model)
    assert error.problems == ["saved_model: one", "saved_model: two"]
