"""Grad-CAM of labelled clips on disk: pictures, arrays, and a page to look at and listen to."""

from __future__ import annotations

import base64
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from esc_tf import __version__
from esc_tf.audio.filterbanks import mel_band_centres_hz
from esc_tf.config import AudioConfig
from esc_tf.data import CachedClip, build_dataset
from esc_tf.evaluation.report.audio_snippets import encode_audio
from esc_tf.evaluation.report.findings import Findings
from esc_tf.evaluation.report.markup import (
    Html,
    Section,
    element,
    image,
    join,
    paragraph,
)
from esc_tf.evaluation.report.page import render_page
from esc_tf.evaluation.report.sections.mistakes import list_scores
from esc_tf.files import new_folder
from esc_tf.frontends.log_mel import LogMelSpectrogram
from esc_tf.interpretation.figures.canvas import shorten
from esc_tf.interpretation.figures.overlays import Overlay, describe_prediction, draw_overlays
from esc_tf.interpretation.grad_cam import GradCam
from esc_tf.tasks.classifier import Classifier

FACTS_FILE = "grad_cam.json"
PAGE_FILE = "index.html"
CONTENTS = "pictures of Grad-CAM"
_FORMAT = 1


@dataclass(frozen=True)
class Gallery:
    """What the pictures are of.

    Attributes:
        model: the classifier.
        place: where it lies, as it was named.
        grad_cam: for the layers to be shown.
        findings: what the model says of all clips.
        rows: of the clips to be shown, in order.
        settings: options of the run, for the record.
    """

    model: Classifier
    place: str
    grad_cam: GradCam
    findings: Findings
    rows: Sequence[int]
    settings: Mapping[str, Any]


def write_gallery(gallery: Gallery, folder: str | Path, replace: bool = False) -> Iterator[int]:
    """Write the pictures, clip by clip; the folder is there whole at the end or not at all.

    ``clips/ID.png`` has the maps over the input, for the predicted class and, where that is wrong,
    for the true one; ``maps/ID.npz`` the maps themselves: ``class_ids``, ``features`` and for each
    layer ``layer/NAME`` ``(classes, frames, bands)``; ``grad_cam.json`` the facts; ``index.html``
    everything in one file that needs no other.

    Args:
        gallery: what to show.
        folder: to be made.
        replace: whether one that is there may be replaced.

    Yields:
        The number of clips that are done.

    Raises:
        RequestError: there is something at ``folder`` already.
        OSError: nothing can be written there.
    """
    with new_folder(folder, FACTS_FILE, CONTENTS, replace) as partial:
        for name in ("clips", "maps"):
            (partial / name).mkdir()
        described, cards = [], []
        shown = [gallery.findings.clips[row] for row in gallery.rows]
        for done, (row, waveform, num_samples) in enumerate(_read_clips(gallery, shown), start=1):
            facts, card = _show_clip(gallery, row, waveform, num_samples, partial)
            described.append(facts)
            cards.append(card)
            yield done
        facts = {**_describe(gallery), "clips": described}
        text = json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False)
        (partial / FACTS_FILE).write_text(text, encoding="utf-8")
        (partial / PAGE_FILE).write_text(_build_page(gallery, cards), encoding="utf-8")


def _read_clips(
    gallery: Gallery, clips: Sequence[CachedClip]
) -> Iterator[tuple[int, np.ndarray, int]]:
    """Row, waveform as the model hears it, and samples before the padding."""
    if not clips:
        return
    batches = build_dataset(
        clips,
        audio=AudioConfig.model_validate(gallery.model.audio),
        num_classes=len(gallery.model.label_names),
        batch_size=1,
        training=False,
    )
    for row, batch in zip(gallery.rows, batches, strict=True):
        yield row, batch["waveform"][0].numpy(), int(batch["num_samples"][0])


def _show_clip(
    gallery: Gallery, row: int, waveform: np.ndarray, num_samples: int, folder: Path
) -> tuple[dict[str, Any], Html]:
    findings, names = gallery.findings, gallery.model.label_names
    record, scores = findings.clips[row].record, findings.probabilities[row]
    true_id, predicted_id = int(findings.label_ids[row]), int(findings.predicted_ids[row])
    class_ids = list(dict.fromkeys((predicted_id, true_id)))
    features = np.asarray(
        gallery.model.extract_features(waveform[np.newaxis], np.array([num_samples]))
    )
    maps = gallery.grad_cam.compute(np.repeat(features, len(class_ids), axis=0), class_ids)
    file_name = quote(record.clip_id, safe="")

    line = describe_prediction(names[true_id], names[predicted_id], float(scores[predicted_id]))
    overlays = [
        [
            Overlay(
                f"{shorten(layer.name, 34)}\nfor {shorten(names[class_id], 30)}",
                gallery.grad_cam.spread(layer, maps[layer.name][place]),
            )
            for layer in gallery.grad_cam.layers
        ]
        for place, class_id in enumerate(class_ids)
    ]
    picture = draw_overlays(
        features[0, :, :, 0],
        overlays,
        folder / "clips" / f"{file_name}.png",
        frame_times_s=gallery.grad_cam.features.times_s,
        frequencies_hz=_find_frequencies(gallery.model),
        title=f"{record.clip_id}: {line}",
    )
    _shrink_colors(picture)
    arrays = {f"layer/{name}": values for name, values in maps.items()}
    arrays = {"class_ids": np.array(class_ids), "features": features[0], **arrays}
    with (folder / "maps" / f"{file_name}.npz").open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    facts = {
        "id": record.clip_id,
        "path": None if record.path is None else str(record.path),
        "fold": record.fold,
        "true": names[true_id],
        "predicted": names[predicted_id],
        "probability": float(scores[predicted_id]),
        "true_probability": float(scores[true_id]),
        "picture": f"clips/{file_name}.png",
        "arrays": f"maps/{file_name}.npz",
        "largest": {
            name: {names[class_id]: float(values[place].max())
                   for place, class_id in enumerate(class_ids)}
            for name, values in maps.items()
        },
    }  # fmt: skip
    rate_hz = gallery.model.front_end.sample_rate_hz
    encoded = base64.b64encode(picture.read_bytes()).decode("ascii")
    alt = f"Grad-CAM over the mel spectrogram of {record.clip_id}: {line}"
    heard = waveform[:num_samples]
    card = element(
        "article",
        element("h3", f"{record.clip_id} ", element("span", line)),
        image(f"data:image/png;base64,{encoded}", alt, "figure"),
        element(
            "audio",
            controls=True,
            preload="metadata",
            src=encode_audio(heard, rate_hz),
            aria_label=f"{record.clip_id}, true class {names[true_id]}",
        ),
        element("div", list_scores(scores, names, true_id), style="max-width:26rem"),
        element("p", f"fold {record.fold}, {len(heard) / rate_hz:.1f} s as the model hears it"),
        id=f"clip-{row}",
    )
    return facts, card


def _shrink_colors(path: Path) -> None:
    """A palette of 256 colours: a third of the bytes, and nobody sees it."""
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(
            256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
        )
    small.save(path, optimize=True)


def _find_frequencies(model: Classifier) -> Sequence[float] | None:
    front_end = model.front_end
    if not isinstance(front_end, LogMelSpectrogram):
        return None
    settings = front_end.settings
    return mel_band_centres_hz(
        front_end.sample_rate_hz,
        settings.n_mels,
        settings.fmin_hz,
        settings.fmax_hz,
        settings.mel_scale,
    ).tolist()


def _describe(gallery: Gallery) -> dict[str, Any]:
    findings = gallery.findings
    return {
        "format": _FORMAT,
        "model": gallery.place,
        "score": "logit",
        "label_names": list(gallery.model.label_names),
        "layers": [
            {
                "name": layer.name,
                "read_at": layer.read_at,
                "shape": list(layer.shape),
                "times_s": list(layer.times_s),
                "bands": list(layer.places),
            }
            for layer in gallery.grad_cam.layers
        ],
        "num_clips": len(findings.clips),
        "num_misclassified": len(findings.errors),
        "settings": dict(gallery.settings),
        "versions": {
            "esc_tf": __version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "python": platform.python_version(),
        },
    }


def _build_page(gallery: Gallery, cards: Sequence[Html]) -> str:
    findings, errors = gallery.findings, set(gallery.findings.errors)
    num_layers = len(gallery.grad_cam.layers)
    introduction = join(
        [
            paragraph(
                f"Model {gallery.place}. Colour shows where the maps of a layer hold what raises "
                "the class's logit: each channel weighed by the logit's mean gradient, summed, "
                "negative sums left out (Grad-CAM). Grey is the network's input, dark where it is "
                "strong. Colours run from 0 to each map's own largest value, so strengths do not "
                "compare between pictures."
            ),
            paragraph(
                f"{num_layers} {'layer' if num_layers == 1 else 'layers'}: "
                + ", ".join(layer.name for layer in gallery.grad_cam.layers)
                + ". A convolution's maps are read behind its batch norm and activation. What "
                "moves the logit through a mean over all places, as squeeze and excitation does, "
                "is not in the pictures."
            ),
        ]
    )
    wrong = [card for row, card in zip(gallery.rows, cards, strict=True) if row in errors]
    right = [card for row, card in zip(gallery.rows, cards, strict=True) if row not in errors]
    total = len(findings.clips)
    if errors:
        text = f"{len(errors)} of {total} clips were misclassified. "
        if len(wrong) < len(errors):
            text += f"Shown are {len(wrong)}, those on which the model was most certain first. "
        text += "Each is shown for the predicted class, then for the true one."
    else:
        all_of_them = "the only clip was" if total == 1 else f"all {total} clips were"
        text = f"None: {all_of_them} classified rightly."
    sections = [Section("mistakes", "Misclassified clips", join([paragraph(text), _stack(wrong)]))]
    if right:
        text = f"{len(right)} of {total - len(errors)}, each for its class."
        body = join([paragraph(text), _stack(right)])
        sections.append(Section("right", "Rightly classified clips", body))
    return render_page("Where the model looks", introduction, sections)


def _stack(cards: Sequence[Html]) -> Html:
    """Cards below each other: their pictures are wide."""
    return element("div", join(cards), class_="cards", style="grid-template-columns:minmax(0,1fr)")
