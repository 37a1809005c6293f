"""Runs one exported file in a process of its own: ``python -m export.verification_worker JOB``.

Nothing of the process that made the file is left here: neither its Keras model nor its traced
functions. So what a file lacks is missing, as it will be where it is used. A ``.tflite`` file is
run by the interpreter alone; TensorFlow is not loaded for it.

``JOB`` is a JSON file with ``path``, ``sounds`` (an .npz), ``activations`` (names), ``result`` (the
.npz to be written) and, in its place, ``wav`` (encoded files, by their names). The sounds are
``probes`` and ``evaluation``, ``(sounds, samples)`` or features, and further arrays ``fitted/…`` of
other lengths. The result has ``logits/probes`` and so on, ``activation/NAME`` of the probes, and
``facts``, JSON text: signatures, operators, latency, and the steps that failed with the reason.
"""

from __future__ import annotations

import json
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from esc_tf.errors import ExportError
from export.metadata import read_metadata

_MAX_RUNS = 30
_MAX_SECONDS = 2.0
_SAVED_MODEL_BATCH = 8
SCORES = ("logits", "probabilities")

Arrays = dict[str, np.ndarray]


def run_tflite(job: Mapping[str, Any], sounds: Arrays) -> tuple[Arrays, dict[str, Any]]:
    """Run a ``.tflite`` file on all sounds, one at a time as a device would."""
    path, names = job["path"], tuple(job["activations"])
    interpreter = build_interpreter(path, num_threads=1)
    signatures = interpreter.get_signature_list()
    arrays: Arrays = {}
    facts: dict[str, Any] = {
        "signatures": signatures,
        "operators": list_operators(Path(path).read_bytes()),
        "problems": {},
    }
    try:
        metadata = read_metadata(Path(path).read_bytes())
        facts["labels"] = list(metadata.label_names)
        facts["sample_rate_hz"] = metadata.sample_rate_hz
    except ExportError as error:
        facts["problems"]["metadata"] = str(error)
    runner = interpreter.get_signature_runner("serving_default")
    for part in ("probes", "evaluation"):
        outputs = [_run_signature(runner, sound[np.newaxis]) for sound in sounds[part]]
        for name in SCORES:
            arrays[f"{name}/{part}"] = np.concatenate([output[name] for output in outputs])
    facts["latency_ms"] = _measure_ms(lambda: _run_signature(runner, sounds["probes"][:1]))
    facts["latency_threads"] = 1
    if "activations" in signatures:
        runner = interpreter.get_signature_runner("activations")
        outputs = [_run_signature(runner, sound[np.newaxis]) for sound in sounds["probes"]]
        for name in (*SCORES, *names):
            if name in outputs[0]:
                found = np.concatenate([output[name] for output in outputs])
                arrays[f"activation/{name}"] = found
    for number, name in enumerate(job["probe_names"]):
        if not np.isfinite(arrays["logits/probes"][number]).all():
            place = _find_non_finite_tensor(path, sounds["probes"][number : number + 1])
            facts["first_not_finite"] = {"sound": name, "place": place}
            break
    return arrays, facts


def build_interpreter(path: str, **options: Any) -> Any:
    """An interpreter of a ``.tflite`` file: LiteRT's, or TensorFlow's where that is missing."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter
    return Interpreter(model_path=str(path), **options)


def list_operators(content: bytes) -> dict[str, int]:
    """Operator → how often it is in a ``.tflite`` file; others than built-in ones as ``custom:…``.

    TensorFlow's own operators ("Flex") are custom ones for the interpreter.
    """
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError:
        from tensorflow.lite.python import schema_py_generated as schema

    titles = {
        number: name
        for name, number in vars(schema.BuiltinOperator).items()
        if not name.startswith("_")
    }
    model = schema.Model.GetRootAsModel(content, 0)
    names = []
    for index in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(index)
        # The older field has room for 127 operators alone.
        title = titles[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        custom = code.CustomCode()
        names.append(f"custom:{custom.decode()}" if custom else title)
    counts: dict[str, int] = {}
    for part in range(model.SubgraphsLength()):
        graph = model.Subgraphs(part)
        for index in range(graph.OperatorsLength()):
            name = names[graph.Operators(index).OpcodeIndex()]
            counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


def _run_signature(runner: Any, sound: np.ndarray) -> Arrays:
    """Call a signature of one input; integers in and out become the numbers that they mean."""
    ((name, detail),) = runner.get_input_details().items()
    outputs = runner(**{name: _quantize(sound, detail)})
    details = runner.get_output_details()
    return {key: _dequantize(value, details[key]) for key, value in outputs.items()}


def _quantize(values: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    if not np.issubdtype(detail["dtype"], np.integer):
        return values.astype(detail["dtype"])
    limits = np.iinfo(detail["dtype"])
    steps = np.round(values / scale) + zero_point
    return np.clip(steps, limits.min, limits.max).astype(detail["dtype"])


def _dequantize(values: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    if not np.issubdtype(detail["dtype"], np.integer):
        return np.asarray(values, np.float32)
    return ((values.astype(np.float32) - zero_point) * scale).astype(np.float32)


def _find_non_finite_tensor(path: str, sound: np.ndarray) -> str:
    """Name of the first tensor, in order of computation, that is not finite."""
    try:
        from ai_edge_litert.interpreter import OpResolverType
    except ImportError:
        import tensorflow as tf

        OpResolverType = tf.lite.experimental.OpResolverType

    interpreter = build_interpreter(
        path,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    (detail,) = interpreter.get_input_details()
    interpreter.set_tensor(detail["index"], _quantize(sound, detail))
    interpreter.invoke()
    names = {item["index"]: item["name"] for item in interpreter.get_tensor_details()}
    for operator in interpreter._get_ops_details():
        for index in (*operator["inputs"], *operator["outputs"]):
            try:
                values = interpreter.get_tensor(index)
            except ValueError:  # an optional input that is not there
                continue
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                return f"{names[index]} ({operator['op_name']})"
    return "the logits"


def run_saved_model(job: Mapping[str, Any], sounds: Arrays) -> tuple[Arrays, dict[str, Any]]:
    """Run every signature of a SavedModel."""
    import tensorflow as tf

    loaded = tf.saved_model.load(job["path"])
    signatures = loaded.signatures
    facts: dict[str, Any] = {"signatures": {}, "problems": {}}
    for key, function in signatures.items():
        facts["signatures"][key] = {
            "inputs": sorted(function.structured_input_signature[1]),
            "outputs": sorted(function.structured_outputs),
        }
    arrays: Arrays = {}

    def call(key: str, value: Any) -> Arrays:
        (name,) = facts["signatures"][key]["inputs"]
        outputs = signatures[key](**{name: tf.constant(value)})
        return {name: value.numpy() for name, value in outputs.items()}

    def classify() -> None:
        for part in ("probes", "evaluation", *(key for key in sounds if key.startswith("fitted/"))):
            for name, found in _in_batches(
                lambda batch: call("serving_default", batch), sounds[part]
            ).items():
                arrays[f"{name}/{part}"] = found

    def activate() -> None:
        outputs = _in_batches(lambda batch: call("activations", batch), sounds["probes"])
        for name in (*SCORES, *job["activations"]):
            arrays[f"activation/{name}"] = outputs[name]

    def embed() -> None:
        outputs = _in_batches(lambda batch: call("embedding", batch), sounds["probes"])
        arrays["embedding"] = outputs["embedding"]

    def read_wav() -> None:
        # Of different lengths in one batch.
        files = [Path(path).read_bytes() for path in job["wav"]]
        arrays["logits/wav"] = call("wav_bytes", files)["logits"]

    def answer_examples() -> None:
        examples = [_encode_example(sound) for sound in sounds["probes"]]
        outputs = call("classify", examples)
        arrays["classify/scores"] = outputs["scores"]
        arrays["classify/classes"] = np.char.decode(outputs["classes"].astype(bytes), "utf-8")

    def list_labels() -> None:
        outputs = {key: value.numpy() for key, value in signatures["labels"]().items()}
        (labels,) = outputs.values()
        facts["labels"] = [label.decode() for label in labels.reshape(-1)]

    steps = {
        "serving_default": classify,
        "activations": activate,
        "embedding": embed,
        "wav_bytes": read_wav,
        "classify": answer_examples,
        "labels": list_labels,
    }
    for key, step in steps.items():
        try:
            step()
        except Exception as error:  # of any kind: each step is to be judged by itself
            facts["problems"][key] = _shorten(error)
    first = sounds["probes"][:1]
    if "serving_default" not in facts["problems"]:
        facts["latency_ms"] = _measure_ms(lambda: call("serving_default", first))
        facts["latency_threads"] = None  # as many as there are
    if not all(np.isfinite(value).all() for key, value in arrays.items() if "logits" in key):
        places = [
            name
            for name in job["activations"]
            if f"activation/{name}" in arrays
            and not np.isfinite(arrays[f"activation/{name}"]).all()
        ]
        facts["first_not_finite"] = {"sound": "", "place": places[0] if places else "the logits"}
    return arrays, facts


def _encode_example(waveform: np.ndarray) -> bytes:
    import tensorflow as tf

    feature = tf.train.Feature(float_list=tf.train.FloatList(value=waveform))
    features = tf.train.Features(feature={"waveform": feature})
    return tf.train.Example(features=features).SerializeToString()


def _in_batches(call: Callable[[np.ndarray], Arrays], values: np.ndarray) -> Arrays:
    parts = [call(batch) for batch in _split(values)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _split(values: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(values), _SAVED_MODEL_BATCH):
        yield values[start : start + _SAVED_MODEL_BATCH]


def _measure_ms(call: Callable[[], object]) -> float:
    """Median of some runs, in ms."""
    call()
    spent: list[float] = []
    while len(spent) < _MAX_RUNS and (len(spent) < 3 or sum(spent) < _MAX_SECONDS):
        started = time.perf_counter()
        call()
        spent.append(time.perf_counter() - started)
    return float(np.median(spent) * 1e3)


def _shorten(error: BaseException) -> str:
    """The reason in one line; of a graph's error, with the place in the graph."""
    text = str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reasons = [line for line in lines if re.match(r"\w*Error: ", line)]
    if reasons:
        reason = reasons[-1]
    else:
        reason = f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
    node = re.search(r"Detected at node (\S+)", text)
    return reason[:400] + (f" at {node[1]}" if node else "")


def save_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by their names into an ``.npz``."""
    np.savez(path, **arrays)  # type: ignore[arg-type]  # any name but file and allow_pickle


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job that the one argument names."""
    (name,) = sys.argv[1:] if argv is None else argv
    job = json.loads(Path(name).read_text(encoding="utf-8"))
    with np.load(job["sounds"]) as stored:
        sounds = {key: stored[key] for key in stored.files}
    run = run_tflite if job["path"].endswith(".tflite") else run_saved_model
    try:
        arrays, facts = run(job, sounds)
    except Exception as error:  # it is said in the report, with what the library said
        arrays, facts = {}, {"failed": _shorten(error), "traceback": traceback.format_exc()}
    save_arrays(job["result"], {"facts": np.array(json.dumps(facts)), **arrays})
    return 0


if __name__ == "__main__":
    sys.exit(main())
