"""The misclassified clips, to be heard and seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from esc_tf.config import Experiment
from esc_tf.evaluation.report.audio_snippets import encode_audio
from esc_tf.evaluation.report.figures.drawing import encode_png
from esc_tf.evaluation.report.findings import Findings, Sound, read_sounds
from esc_tf.evaluation.report.markup import (
    Html,
    Section,
    element,
    grid,
    image,
    join,
    number,
    paragraph,
)
from esc_tf.tasks.classifier import Classifier

_NUM_SCORES = 3


def mistakes_section(
    model: Classifier, experiment: Experiment, findings: Findings, max_errors: int
) -> Section:
    """Every misclassified clip, or the most confident ``max_errors`` of them."""
    errors, title = findings.errors, "Misclassified clips"
    total = len(findings.clips)
    if not errors:
        text = f"None: all {total} {findings.part} clips were classified rightly."
        return Section("mistakes", title, paragraph(text))
    shown = errors[:max_errors]
    count = f"{len(errors)} of {total} {findings.part} clips were misclassified. "
    if len(shown) < len(errors):
        count += f"Shown are the {len(shown)} on which the model was most certain of its error. "
    else:
        count += "All are shown, the most confident error first. "
    count += (
        "What plays is what the network heard, without its padding, at the experiment's rate; the "
        "picture is the network's input, low frequencies at the bottom."
    )
    sounds = read_sounds([findings.clips[position] for position in shown], experiment)
    cards = [
        _build_card(model, findings, position, sound, experiment.audio.sample_rate_hz)
        for position, sound in zip(shown, sounds, strict=True)
    ]
    return Section("mistakes", title, join([paragraph(count), grid(cards, "cards")]))


def _build_card(
    model: Classifier, findings: Findings, position: int, sound: Sound, rate_hz: int
) -> Html:
    record = findings.clips[position].record
    scores = findings.probabilities[position]
    predicted = model.label_names[int(scores.argmax())]
    features = model.extract_features(sound.waveform[np.newaxis], np.array([sound.num_samples]))
    features = np.asarray(features)[0]
    heard = sound.waveform[: sound.num_samples]
    parts: list[object] = [
        element(
            "h3",
            element("span", "true "),
            record.label_name,
            Html("<br>"),
            element("span", "predicted "),
            predicted,
            element("span", f" at {scores.max():.1%}"),
        )
    ]
    if features.ndim == 3:
        alt = f"Mel spectrogram of {record.clip_id}, a {record.label_name} taken for {predicted}"
        parts.append(image(encode_png(features[:, ::-1, 0].T), alt, "mel"))
    parts += [
        element(
            "audio",
            controls=True,
            preload="metadata",
            src=encode_audio(heard, rate_hz),
            aria_label=f"{record.clip_id}, true class {record.label_name}",
        ),
        list_scores(scores, model.label_names, record.label_id),
        element("p", f"clip {record.clip_id}, fold {record.fold}, {len(heard) / rate_hz:.1f} s"),
    ]  # fmt: skip
    return element("article", join(parts), id=f"mistake-{position}")


def list_scores(scores: np.ndarray, label_names: Sequence[str], label_id: int) -> Html:
    """The most probable classes with their probabilities, the true class among them.

    Args:
        scores: ``(classes,)``.
        label_names: of the classes.
        label_id: the true class.
    """
    best = np.argsort(-scores, kind="stable")[:_NUM_SCORES].tolist()
    if label_id not in best:
        best.append(label_id)
    return element(
        "ol",
        join(
            element(
                "li",
                element("span", label_names[index], " (true)" if index == label_id else ""),
                _draw_meter(float(scores[index])),
                element("span", number(float(scores[index]), 3), class_="value"),
            )
            for index in best
        ),
    )


def _draw_meter(share: float) -> Html:
    return element(
        "span",
        element("span", style=f"width:{100 * share:.1f}%"),
        class_="meter",
        aria_hidden="true",
    )
