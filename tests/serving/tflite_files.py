"""Small .tflite files to be run, as the export writes them."""

from __future__ import annotations

from typing import Any

from esc_tf.tasks.classifier import Classifier
from export.graphs import InferenceGraphs
from export.metadata import ModelFacts, add_metadata
from export.tflite import convert_tflite
from tests.export.models import build_tiny

RATE_HZ, NUM_SAMPLES = 8000, 4000


def build_model(**sections: Any) -> Classifier:
    """A classifier of half a second at 8 kHz that fills shorter clips up with silence."""
    return build_tiny(audio={"pad": "silence"}, **sections)


def convert(model: Classifier, activations: tuple[str, ...] = (), **facts: Any) -> bytes:
    """A float32 file with metadata, with other values for some facts."""
    graphs = InferenceGraphs(model, activations)
    said: dict[str, Any] = {
        "name": "tiny",
        "description": "for tests",
        "version": "7",
        "label_names": tuple(model.label_names),
        "sample_rate_hz": RATE_HZ,
        "author": "the tests",
        "licence": "none",
    }
    return add_metadata(convert_tflite(graphs, "float32"), ModelFacts(**{**said, **facts}))
