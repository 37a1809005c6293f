"""The whole way: check the model, convert it, verify every file, publish all or nothing."""

from __future__ import annotations

import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import esc_tf
from esc_tf.cards import CARD_FILE
from esc_tf.errors import ExportError
from export.bundle import (
    LABELS_FILE,
    SAVED_MODEL,
    TFLITE,
    VERIFICATION_FILE,
    Bundle,
    write_json,
)
from export.checks import check_formats, check_model, explain_conversion_error
from export.formats import TAKE_FEATURES
from export.graphs import InferenceGraphs
from export.metadata import ModelFacts, add_metadata
from export.model_card import NUM_CHANNELS, CardText, build_model_card, digest_file
from export.saved_model import write_graphs
from export.source import ExportSource
from export.tflite import convert_tflite
from export.verify import Artefact, Verifier, format_table, prepare_verification


@dataclass(frozen=True)
class ExportRequest:
    """What is to be made of a model.

    Attributes:
        formats: of ``export.formats.FORMATS``.
        text: what a person says of the model.
        activations: names that every file gives.
        min_agreement: see ``Verifier``.
    """

    formats: Sequence[str]
    text: CardText
    activations: tuple[str, ...] = ()
    min_agreement: float | None = None


def export_model(
    source: ExportSource,
    request: ExportRequest,
    bundle: Bundle,
    report: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Export a model into a bundle, which is published if every file is equal to the model.

    Args:
        source: the model and its clips.
        request: what is to be made.
        bundle: entered by the caller.
        report: takes lines for the user.

    Returns:
        What ``verification.json`` holds.

    Raises:
        ExportError: the model is broken, cannot be converted, or a file is not equal to it.
            Nothing is published, and ``bundle.failed`` holds the report of a failed verification.
    """
    model = source.model
    check_model(model, source.facts.get("label_names"))
    check_formats(model, request.formats)
    graphs = InferenceGraphs(model, request.activations)
    verifier = prepare_verification(
        source, graphs.num_samples, request.activations, request.min_agreement
    )
    artefacts = [
        _convert(name, source, graphs, request, bundle.staging, report) for name in request.formats
    ]
    verification = _verify(verifier, artefacts, source, report)
    report(format_table(verification))
    if not verification["passed"]:
        path = bundle.reject(verification)
        failed = [name for name, entry in verification["formats"].items() if not entry["passed"]]
        raise ExportError(
            f"{', '.join(failed)} {'is' if len(failed) == 1 else 'are'} not equal to the model, so "
            f"nothing was written to {bundle.out} (the report is {path}); see above what is wrong, "
            "leave the format out with --formats, or, where too few clips agree, say with "
            "--min-agreement how many will do"
        )
    files = {
        artefact.format_name: str(artefact.path.relative_to(bundle.staging))
        for artefact in artefacts
    }
    card = build_model_card(
        source, request.text, graphs.num_samples, request.activations, files, verification
    )
    labels = "".join(f"{name}\n" for name in model.label_names)
    (bundle.staging / LABELS_FILE).write_text(labels, encoding="utf-8")
    write_json(bundle.staging / VERIFICATION_FILE, verification)
    write_json(bundle.staging / CARD_FILE, card)
    bundle.publish()
    return verification


def _verify(
    verifier: Verifier,
    artefacts: Sequence[Artefact],
    source: ExportSource,
    report: Callable[[str], object],
) -> dict[str, Any]:
    verification = verifier.verify(artefacts, report)
    path = source.path / "model.keras" if source.path.is_dir() else source.path
    verification["model"]["sha256"] = digest_file(path)
    clips = source.calibration
    verification["calibration"] = {
        "clips": len(clips.names),
        "from": clips.origin,
        "generated": not clips.real,
        "seed": source.clip_seed,
    }
    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {
            "esc_tf": esc_tf.__version__,
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
        **verification,
    }


def _convert(
    name: str,
    source: ExportSource,
    graphs: InferenceGraphs,
    request: ExportRequest,
    staging: Path,
    report: Callable[[str], object],
) -> Artefact:
    """Make one file in the staging folder."""
    report(f"converting {name}")
    try:
        with _quiet_converter():
            if name == SAVED_MODEL:
                return _write_saved_model(source, graphs, request, staging)
            return _write_tflite(name, source, graphs, request, staging)
    except Exception as error:  # a converter raises almost anything
        raise explain_conversion_error(error, name, source.model) from error


@contextmanager
def _quiet_converter() -> Iterator[None]:
    """Keep off stderr what converters say to those who build them.

    Why one failed is in its error; what one did wrong, the verification finds. A user who sets
    ``TF_CPP_MIN_LOG_LEVEL`` to 0 sees all.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _write_saved_model(
    source: ExportSource, graphs: InferenceGraphs, request: ExportRequest, staging: Path
) -> Artefact:
    path = write_graphs(graphs, staging / SAVED_MODEL, request.text.version, source.name)
    return Artefact(SAVED_MODEL, path)


def _choose_calibration(source: ExportSource) -> np.ndarray:
    """The clips to calibrate with, and silence, which a muted microphone sends.

    Recordings seldom come near it, and below its range an integer network hears something else:
    logits of silence were 1.02 of their norm off in a small SE-CNN on tones, and 0.004 with it
    (0.72 and 0.56 in mn04), at the cost of 0.013 in place of 0.008 for its clips (mn04: none).
    """
    waveforms = source.calibration.waveforms
    return np.concatenate([waveforms, np.zeros_like(waveforms[:1])])


def _write_tflite(
    name: str,
    source: ExportSource,
    graphs: InferenceGraphs,
    request: ExportRequest,
    staging: Path,
) -> Artefact:
    kind = name.removeprefix(f"{TFLITE}_")
    content = convert_tflite(graphs, kind, _choose_calibration(source))
    model, text = source.model, request.text
    facts = ModelFacts(
        name=source.name,
        description=text.description,
        version=str(text.version),
        label_names=model.label_names,
        sample_rate_hz=graphs.sample_rate_hz,
        author=text.author or "",
        licence=text.licence or "",
        channels=NUM_CHANNELS,
        front_end=model.front_end.get_config() if name in TAKE_FEATURES else None,
        other_threshold=model.other_threshold,
    )
    path = staging / TFLITE / f"{source.name}_{kind}.tflite"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(add_metadata(content, facts))
    return Artefact(name, path)
