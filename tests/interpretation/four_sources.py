"""One tiny model in its four forms: a .keras file, a SavedModel, a .tflite file and a server."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from export.graphs import InferenceGraphs
from export.model_card import CardText, build_model_card
from export.saved_model import write_graphs
from export.source import ClipSet, ExportSource
from export.tflite import convert_tflite
from serving.access_log import AccessLog
from serving.api import Services
from serving.app import create_app
from serving.envelope import Draining
from serving.metrics import Metrics
from serving.models.config import ModelConfig
from serving.models.manager import ModelManager
from serving.settings import ServerSettings
from tests.export.models import build_tiny
from tests.serving.page.serving_thread import serve

ACTIVATIONS = ("features", "block1", "se2", "embedding")
RATE_HZ, NUM_SAMPLES = 8000, 4000


def write_forms(folder: Path) -> Path:
    """``tiny.keras``, and the export ``bundle`` as ``python -m export`` lays it out."""
    model = build_tiny(audio={"pad": "silence"})
    path = folder / "tiny.keras"
    model.save(path)
    bundle = folder / "bundle"
    graphs = InferenceGraphs(model, ACTIVATIONS)
    write_graphs(graphs, bundle / "saved_model", name="tiny")
    (bundle / "tflite").mkdir()
    (bundle / "tflite" / "tiny.tflite").write_bytes(convert_tflite(graphs, "float32"))
    clips = ClipSet(np.zeros((1, NUM_SAMPLES), np.float32), np.zeros(1, int), ("a",), "", True)
    card = build_model_card(
        ExportSource(model, path, "tiny", clips, clips),
        CardText("for tests"),
        NUM_SAMPLES,
        ACTIVATIONS,
        {},
        {"evaluation": {}, "model": {"accuracy": None}, "formats": {}},
    )
    (bundle / "model_card.json").write_text(json.dumps(card))
    return folder


@contextlib.contextmanager
def serve_bundle(bundle: Path) -> Iterator[str]:
    """The bundle's SavedModel behind the embedded server; yields the model's address."""
    metrics = Metrics(lambda: manager.model_names)
    configs = [ModelConfig("tiny", bundle / "saved_model")]
    manager = ModelManager(configs, report=lambda line: None)
    manager.start()
    services = Services.build(manager, ServerSettings(), metrics)
    try:
        with serve(create_app(services, AccessLog("json", io.StringIO()), Draining())) as base:
            yield f"{base}/v1/models/tiny"
    finally:
        services.close()
        manager.close()
