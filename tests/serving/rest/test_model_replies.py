"""Bodies of replies about a model: status and metadata."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from serving.rest.responses import format_metadata, format_status

ROOT = Path(__file__).resolve().parents[3]


@dataclasses.dataclass(frozen=True)
class Status:
    version: int
    state: str
    error_code: str = "OK"
    error_message: str = ""


def test_status_to_the_byte() -> None:
    assert format_status([Status(123, "AVAILABLE")]).decode() == (
        '{\n "model_version_status": [\n  {\n   "version": "123",\n   "state": "AVAILABLE",\n'
        '   "status": {\n    "error_code": "OK",\n    "error_message": ""\n   }\n  }\n ]\n}\n'
    )


def test_status_has_the_newest_version_first() -> None:
    failed = Status(10, "END", "NOT_FOUND", 'no "saved_model.pb" in é')
    got = json.loads(format_status([Status(2, "AVAILABLE"), failed, Status(1, "UNLOADING")]))
    versions = got["model_version_status"]
    assert [status["version"] for status in versions] == ["10", "2", "1"]
    assert versions[0]["state"] == "END"
    assert versions[0]["status"] == {
        "error_code": "NOT_FOUND",
        "error_message": 'no "saved_model.pb" in é',
    }


def test_metadata() -> None:
    meta_graph = pytest.importorskip("tensorflow.core.protobuf.meta_graph_pb2")
    types = pytest.importorskip("tensorflow.core.framework.types_pb2")
    signature = meta_graph.SignatureDef(method_name="tensorflow/serving/predict")
    waveform = signature.inputs["waveform"]
    waveform.name, waveform.dtype = "serving_default_waveform:0", types.DT_FLOAT
    waveform.tensor_shape.dim.add(size=-1)
    waveform.tensor_shape.dim.add(size=80_000)
    scores = signature.outputs["scores"]
    scores.name, scores.dtype = "StatefulPartitionedCall:0", types.DT_FLOAT
    scores.tensor_shape.unknown_rank = True
    empty = meta_graph.SignatureDef()
    body = format_metadata("net", 7, {"serving_default": signature, "init": empty}).decode()
    assert json.loads(body) == {
        "model_spec": {"name": "net", "signature_name": "", "version": "7"},
        "metadata": {
            "signature_def": {
                "signature_def": {
                    "init": {"inputs": {}, "outputs": {}, "method_name": "", "defaults": {}},
                    "serving_default": {
                        "inputs": {
                            "waveform": {
                                "dtype": "DT_FLOAT",
                                "tensor_shape": {
                                    "dim": [
                                        {"size": "-1", "name": ""},
                                        {"size": "80000", "name": ""},
                                    ],
                                    "unknown_rank": False,
                                },
                                "name": "serving_default_waveform:0",
                            }
                        },
                        "outputs": {
                            "scores": {
                                "dtype": "DT_FLOAT",
                                "tensor_shape": {"dim": [], "unknown_rank": True},
                                "name": "StatefulPartitionedCall:0",
                            }
                        },
                        "method_name": "tensorflow/serving/predict",
                        "defaults": {},
                    },
                }
            }
        },
    }
    # three messages printed one by one and put together, as TensorFlow Serving does
    start = '{\n"model_spec":{\n "name": "net",\n "version": "7",\n "signature_name": ""\n}\n,\n'
    assert body.startswith(
        start + '"metadata": {"signature_def": {\n "signature_def": {\n  "init": {'
    )
    assert body.endswith("\n }\n}\n}\n}\n")


def test_the_dialect_loads_no_tensorflow() -> None:
    folder = ROOT / "serving" / "rest"
    modules = [f"serving.rest.{path.stem}" for path in folder.glob("[a-z]*.py")]
    assert len(modules) > 10
    code = f"import sys, {', '.join(modules)}; print(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "serving" in loaded
    assert loaded & {"tensorflow", "keras", "starlette", "uvicorn", "grpc", "google"} == set()
