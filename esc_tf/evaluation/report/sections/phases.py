"""A training in phases, phase by phase, and a front end forced to a spectrogram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from esc_tf.evaluation.forced_examples import read_forced_examples
from esc_tf.evaluation.report.figures.drawing import encode_png
from esc_tf.evaluation.report.figures.learning import draw_curves
from esc_tf.evaluation.report.markup import (
    Html,
    Section,
    element,
    figure,
    grid,
    heading,
    image,
    join,
    number,
    paragraph,
    table,
)
from esc_tf.evaluation.run_files import RunFiles, read_history

_MOST_EXAMPLES = 4
_BALANCED = "validation_balanced_accuracy"


def phases_section(run: RunFiles) -> Section | None:
    """What each phase measured, its curves, and what was forced; None for one plain training."""
    if not run.phases:
        return None
    histories = [read_history(run.path / phase["folder"]) for phase in run.phases]
    header = ["phase", "front end", "epochs", "selected", "validation", "test", "squared error"]
    rows = [
        [
            phase["name"],
            phase["front_end"],
            number(phase["trained_epochs"]),
            number(phase["selected_epoch"]),
            number(_find_balanced(phase, "validation")),
            number(_find_balanced(phase, "test")),
            number(phase.get("spectrogram_forcing", {}).get("validation", {}).get("mse")),
        ]
        for phase in run.phases
    ]
    text = (
        "Each phase begins with the selected weights of the one before. Measures are balanced "
        "accuracies, of single segments where the model hears segments; the squared error is that "
        "of a front end forced to a spectrogram, on validation clips, in units of half the "
        "target's range."
    )
    body: list[object] = [paragraph(text), table("Phases", header, rows)]
    figures = []
    curves, done = [], 0
    for phase, history in zip(run.phases, histories, strict=True):
        # One phase after the other on one axis.
        moved = [{**line, "epoch": line["epoch"] + done} for line in history]
        curves.append((phase["name"], moved, _BALANCED))
        done += len(history)
    if any(_BALANCED in line for history in histories for line in history):
        drawing = draw_curves(curves, y_label="balanced accuracy", key="phases", limits=(0.0, 1.0))
        names = ", ".join(phase["name"] for phase in run.phases)
        figures.append(
            figure(
                drawing,
                alt=f"Validation balanced accuracy over {done} epochs of the phases {names}",
                caption=f"Validation, {done} epochs of all phases one after the other.",
            )
        )
    for phase, history in zip(run.phases, histories, strict=True):
        if "spectrogram_forcing" in phase:
            figures.append(_draw_error(history, f"phase-{phase['name']}"))
    body.append(grid(figures))
    for phase in run.phases:
        examples = _show_examples(run.path / phase["folder"])
        if examples is not None:
            body += [heading(f"Forced in phase {phase['name']}"), examples]
    return Section("phases", "Phases", join(body))


def forcing_section(run: RunFiles) -> Section | None:
    """The error over epochs and learnt spectrograms; None where nothing was forced."""
    forced = (run.metrics or {}).get("spectrogram_forcing")
    if forced is None:
        return None
    parts = [part for part in ("validation", "test") if part in forced]
    rows = [[part, number(forced[part]["mse"])] for part in parts]
    body = [
        table("Mean squared error, in units of half the target's range", ["clips", "error"], rows),
        grid([_draw_error(run.history, "forcing")]),
        _show_examples(run.path) or Html(""),
    ]
    return Section("forcing", "Spectrogram forcing", join(body))


def _find_balanced(phase: Mapping[str, Any], part: str) -> float | None:
    measured = phase.get(part)
    if measured is None:
        return None
    found: float = measured.get("segments", measured)["balanced_accuracy"]
    return found


def _draw_error(history: Sequence[Mapping[str, Any]], key: str) -> Html:
    curves = [("training", history, "loss"), ("validation", history, "validation_loss")]
    drawing = draw_curves(curves, y_label="mean squared error", key=f"error-{key}")
    last = history[-1] if history else {}
    text = f"The front end's squared error over {len(history)} epochs"
    if "validation_loss" in last:
        text += f"; at last {last['validation_loss']:.4g} on validation clips"
    return figure(drawing, alt=text, caption=f"{text}.")


def _show_examples(folder: Path) -> Html | None:
    """Learnt spectrograms, each below its target and in the target's colours."""
    found = read_forced_examples(folder)
    if found is None:
        return None
    cards = []
    for place, name in enumerate(found.clip_ids[:_MOST_EXAMPLES]):
        lowest, highest = float(found.target[place].min()), float(found.target[place].max())
        pictures = []
        for kind, values in (("target", found.target), ("learnt", found.learnt)):
            source = encode_png(values[place, :, ::-1].T, lowest=lowest, highest=highest)
            pictures.append(image(source, f"{kind} spectrogram of {name}", "mel"))
        caption = element("figcaption", f"{name}: target above, learnt below")
        cards.append(element("figure", join(pictures), caption))
    return grid(cards, "cards")
