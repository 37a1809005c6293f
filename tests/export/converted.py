"""Models converted once for all tests of TFLite files, and what the files compute."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from esc_tf.tasks import Classifier
from export.graphs import InferenceGraphs
from export.tflite import convert_tflite
from tests.export.models import build_tiny

ACTIVATIONS = ("features", "block1", "block2", "se2", "embedding", "head_dense1")
NUM_SAMPLES = 4_000


def make_clips(num_clips: int, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    """Noise of many colours and levels, so that clips differ."""
    rng = np.random.default_rng(7)
    noise = rng.standard_normal((num_clips, num_samples))
    spectrum = np.fft.rfft(noise) * np.arange(1, num_samples // 2 + 2) ** rng.uniform(
        -1.0, 0.5, (num_clips, 1)
    )
    noise = np.fft.irfft(spectrum, num_samples)
    noise /= np.abs(noise).max(axis=1, keepdims=True)
    return (noise * rng.uniform(0.01, 1.0, (num_clips, 1))).astype(np.float32)


@functools.cache
def find_model() -> Classifier:
    """The tiny SE-CNN."""
    return build_tiny()


@functools.cache
def convert_tiny(kind: str) -> bytes:
    """Its file, with some activations."""
    graphs = InferenceGraphs(find_model(), ACTIVATIONS)
    return convert_tflite(graphs, kind, make_clips(16))


def run_file(content: bytes, clips: np.ndarray, signature: str = "serving_default") -> dict:
    """Outputs of a signature, clip after clip; integers as what they mean."""
    runner = Interpreter(model_content=content).get_signature_runner(signature)
    ((name, given),) = runner.get_input_details().items()
    details = runner.get_output_details()
    outputs = []
    for clip in clips:
        output = runner(**{name: to_integers(clip[np.newaxis], given)})
        outputs.append({key: to_numbers(value, details[key]) for key, value in output.items()})
    return {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}


def to_integers(values: np.ndarray, detail: dict) -> np.ndarray:
    """What a tensor takes for some numbers."""
    if detail["dtype"] == np.float32:
        return values
    scale, zero_point = detail["quantization"]
    limits = np.iinfo(detail["dtype"])
    steps = np.round(values / scale) + zero_point
    return np.clip(steps, limits.min, limits.max).astype(detail["dtype"])


def to_numbers(values: np.ndarray, detail: dict) -> np.ndarray:
    """What the contents of a tensor mean."""
    if detail["dtype"] == np.float32:
        return values
    scale, zero_point = detail["quantization"]
    return ((values.astype(np.float64) - zero_point) * scale).astype(np.float32)


def list_signatures(content: bytes) -> dict[str, Any]:
    return Interpreter(model_content=content).get_signature_list()


def read(content: bytes) -> Any:
    """The file as objects."""
    return flatbuffer_utils.read_model_from_bytearray(bytearray(content))


def list_types(content: bytes) -> list[tuple[str, str]]:
    """Operator and type of its first output, in the order of computation."""
    model = read(content)
    titles = {number: name for name, number in vars(schema.BuiltinOperator).items()}
    types = {number: name for name, number in vars(schema.TensorType).items()}
    (graph,) = model.subgraphs
    return [
        (
            titles[model.operatorCodes[step.opcodeIndex].builtinCode],
            types[graph.tensors[step.outputs[0]].type],
        )
        for step in graph.operators
    ]


def relative_errors(found: Any, wanted: Any) -> np.ndarray:
    """Of each row, by its norm; all of them finite."""
    found, wanted = (np.asarray(values).reshape(len(values), -1) for values in (found, wanted))
    assert found.shape == wanted.shape
    assert np.isfinite(found).all() and np.isfinite(wanted).all()
    return np.linalg.norm(found - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
