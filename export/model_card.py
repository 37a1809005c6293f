"""``model_card.json``: what a model is, what it was made from, and how well its files do."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

import esc_tf
from esc_tf.evaluation.metrics import SUMMARY_MEASURES
from esc_tf.evaluation.time_grids import measure_time_grids
from esc_tf.tasks.classifier import Classifier
from esc_tf.training.run_directory import find_commit
from export.source import ExportSource

NUM_CHANNELS = 1
_SECTIONS_OF_DATA = ("name", "classes", "test_fold", "validation")
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class CardText:
    """What only a person can say of a model, and the files' metadata say too.

    Attributes:
        description: what the model is for.
        author: who made it.
        licence: under which licence it may be used; that of the training data may bind it too.
        version: number of this export.
    """

    description: str
    author: str | None = None
    licence: str | None = None
    version: int = 1


def describe_model(model: Classifier) -> str:
    """One sentence about a classifier, for want of a better one."""
    audio = model.audio
    kind = "one class a clip" if model.output_kind == "softmax" else "any number of classes a clip"
    return (
        f"Environmental sounds: {len(model.label_names)} classes, {kind}, from "
        f"{audio['duration_s']:g} s of mono audio at {audio['sample_rate_hz']} Hz."
    )


def build_model_card(
    source: ExportSource,
    text: CardText,
    num_samples: int,
    activations: Sequence[str],
    files: Mapping[str, str],
    verification: Mapping[str, Any],
) -> dict[str, Any]:
    """Collect the facts.

    Args:
        source: the model and its run.
        text: what a person says of it.
        num_samples: length of its clips.
        activations: names that the files give.
        files: format → path below the bundle.
        verification: as ``Verifier.verify`` returns it.
    """
    model, audio = source.model, source.model.audio
    return {
        "name": source.name,
        "description": text.description,
        "author": text.author,
        "licence": text.licence,
        "version": text.version,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "exported_by": {"esc_tf": esc_tf.__version__, "commit": find_commit()},
        "labels": list(model.label_names),
        "scores": model.output_kind,
        "other_threshold": model.other_threshold,
        "input": {
            "sample_rate_hz": audio["sample_rate_hz"],
            "channels": NUM_CHANNELS,
            "duration_s": audio["duration_s"],
            "samples": num_samples,
            "full_scale": 1.0,
            "shorter_clips": audio["pad"],
            "longer_clips": audio["crop"],
        },
        "parameters": sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
        "activations": list(activations),
        "activation_times": _describe_times(model, activations),
        "training": _describe_training(source),
        "metrics": _summarize_metrics(source.metrics),
        "evaluation": verification["evaluation"] | {"accuracy": verification["model"]["accuracy"]},
        "files": {
            name: {"path": path, **_summarize_entry(verification["formats"][name])}
            for name, path in files.items()
        },
    }


def _describe_times(model: Classifier, activations: Sequence[str]) -> dict[str, dict[str, float]]:
    """Where in a clip the frames of each activation lie that has time, in seconds."""
    grids = measure_time_grids(model)
    return {name: asdict(grids[name]) for name in activations if name in grids}


def _describe_training(source: ExportSource) -> dict[str, Any]:
    """What the run's record says; of a file alone, the digest by which to find it again."""
    path = source.path / "model.keras" if source.path.is_dir() else source.path
    facts = source.facts
    found: dict[str, Any] = {"model_sha256": digest_file(path)}
    if source.experiment is not None:
        experiment = source.experiment
        data = experiment.data.model_dump(mode="json")
        found |= {
            "experiment": experiment.name,
            "seed": experiment.seed,
            "data": {key: data[key] for key in _SECTIONS_OF_DATA if key in data},
            "clips": source.metrics.get("clips"),
            "epochs": source.metrics.get("trained_epochs"),
            "model": experiment.model.model_dump(mode="json"),
            "front_end": experiment.front_end.model_dump(mode="json"),
        }
    for key in ("started", "commit", "versions", "fine_tuning"):
        if key in facts:
            found[key] = facts[key]
    return found


def _summarize_metrics(metrics: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The measures of whole parts, without those of each class."""
    keys = ("num_clips", *(key for key, _ in SUMMARY_MEASURES))
    return {
        part: {key: metrics[part][key] for key in keys if metrics[part].get(key) is not None}
        for part in ("validation", "test")
        if part in metrics
    }


def _summarize_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    keys = (
        "size_bytes", "relative_error", "agreement", "accuracy", "latency_ms", "latency_threads"
    )  # fmt: skip
    return {key: entry[key] for key in keys if key in entry}


def digest_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
