"""Several runs side by side, from their files alone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from esc_tf.config import flatten_experiment
from esc_tf.evaluation.metrics import SUMMARY_MEASURES
from esc_tf.evaluation.report.figures.classes import draw_class_dots
from esc_tf.evaluation.report.figures.learning import draw_curves
from esc_tf.evaluation.report.markup import (
    Html,
    Section,
    element,
    figure,
    grid,
    join,
    notice,
    number,
    paragraph,
    table,
)
from esc_tf.evaluation.report.page import render_page
from esc_tf.evaluation.report.sections.origin import describe_origin
from esc_tf.evaluation.run_files import PAGE_FILE, RunFiles
from esc_tf.files import write_atomically

_CURVES = (
    ("loss", "training loss (nats)"),
    ("validation_loss", "validation loss (nats)"),
    ("accuracy", "training accuracy"),
    ("validation_accuracy", "validation accuracy"),
    ("learning_rate", "learning rate"),
)
# Where these differ, the runs were not measured on the same clips.
_DATA_KEYS = (
    "data.name",
    "data.classes",
    "data.test_fold",
    "data.clips_per_class_and_fold",
    "data.num_folds",
    "data.fold_seed",
    "data.source_pattern",
)


def write_comparison(runs: Sequence[RunFiles], folder: str | Path) -> Path:
    """Write a page that shows runs side by side; no model is loaded.

    Args:
        runs: at least one, in the order in which they are shown.
        folder: where ``index.html`` goes.

    Returns:
        The path of ``index.html``.

    Raises:
        OSError: the page cannot be written.
    """
    page = Path(folder) / PAGE_FILE
    text = build_comparison(runs, page.parent)
    page.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(page, lambda path: path.write_text(text, encoding="utf-8"))
    return page


def build_comparison(runs: Sequence[RunFiles], folder: Path) -> str:
    """The page as HTML; links to the runs' own reports are relative to ``folder``."""
    names = name_runs(runs)
    differences = find_differences(runs)
    notes: list[object] = [
        paragraph(f"{len(runs)} runs side by side; the best value of each row is bold.")
    ]
    apart = [key for key in _DATA_KEYS if key in differences]
    if "seed" in differences and any(run.experiment.data.name == "synthetic" for run in runs):
        apart.append("seed")  # it decides generated clips
    if len({_count_clips(run) for run in runs if run.measured_part is not None}) > 1:
        apart.append("number of clips")
    if apart:
        notes.append(
            notice(
                f"The runs were not measured on the same clips (different: {', '.join(apart)}), so "
                "their measures cannot be compared directly."
            )
        )
    unfinished = [name for name, run in zip(names, runs, strict=True) if run.metrics is None]
    if unfinished:
        notes.append(notice(f"Not finished, hence without measures: {', '.join(unfinished)}."))
    sections = [
        _measures_section(runs, names, folder),
        _curves_section(runs, names),
        _classes_section(runs, names),
        _differences_section(differences, names),
        _origins_section(runs, names),
    ]
    return render_page(
        f"Comparison of {len(runs)} runs",
        join(notes),
        [section for section in sections if section is not None],
    )


def _count_clips(run: RunFiles) -> int | None:
    if run.metrics is None or run.measured_part is None:
        return None
    return int(run.metrics[run.measured_part]["num_clips"])


def name_runs(runs: Sequence[RunFiles]) -> list[str]:
    """A name for each run: its folder's, with as many folders above as tell the runs apart."""
    parts = [run.path.resolve().parts for run in runs]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(item[-depth:]).replace("//", "/") for item in parts]
        if len(set(names)) == len(names):
            return names
    # One directory given twice.
    return [f"{run.name} ({index})" for index, run in enumerate(runs, start=1)]


def find_differences(runs: Sequence[RunFiles]) -> dict[str, list[Any]]:
    """Key of the configuration → its value in each run, where they are not all equal."""
    flat = [flatten_experiment(run.experiment) for run in runs]
    keys = list(dict.fromkeys(key for item in flat for key in item))
    found = {key: [item.get(key) for item in flat] for key in keys}
    return {
        key: values for key, values in found.items() if any(value != values[0] for value in values)
    }


def _measures_section(runs: Sequence[RunFiles], names: Sequence[str], folder: Path) -> Section:
    header: list[object] = ["measure"]
    for run, name in zip(runs, names, strict=True):
        if run.page_path.is_file():
            link = os.path.relpath(run.page_path.resolve(), folder.resolve())
            header.append(element("a", name, href=Path(link).as_posix()))
        else:
            header.append(name)
    rows: list[list[object]] = []
    for part in ("test", "validation"):
        measured = [(run.metrics or {}).get(part) for run in runs]
        if not any(measured):
            continue
        rows.append(
            [f"{part} clips", *(number(item["num_clips"] if item else None) for item in measured)]
        )
        for key, title in SUMMARY_MEASURES:
            rows.append(
                [f"{part} {title}", *_mark_best([(item or {}).get(key) for item in measured])]
            )
    rows.append(["epochs trained", *(number(len(run.history)) for run in runs)])
    rows.append(
        ["epoch selected", *(number((run.metrics or {}).get("selected_epoch")) for run in runs)]
    )
    seconds = [sum(line.get("seconds", 0.0) for line in run.history) for run in runs]
    rows.append(["training minutes", *(number(value / 60.0, 1) for value in seconds)])
    return Section("measures", "Measures", table("Measures of all runs", header, rows))


def _mark_best(values: Sequence[float | None]) -> list[Html]:
    known = [value for value in values if value is not None]
    best = max(known) if len(known) > 1 and len(set(known)) > 1 else None
    return [
        element("span", number(value), class_="best")
        if value is not None and value == best
        else number(value)
        for value in values
    ]


def _curves_section(runs: Sequence[RunFiles], names: Sequence[str]) -> Section | None:
    figures = []
    for quantity, label in _CURVES:
        drawn = [
            (name, run.history, quantity)
            for name, run in zip(names, runs, strict=True)
            if any(quantity in line for line in run.history)
        ]
        if not drawn:
            continue
        last = ", ".join(f"{name} {history[-1][quantity]:.4g}" for name, history, _ in drawn)
        limits = (0.0, 1.0) if quantity.endswith("accuracy") else None
        figures.append(
            figure(
                draw_curves(drawn, y_label=label, key=f"curve-{quantity}", limits=limits),
                alt=f"{label} over epochs; at the end: {last}",
                caption=f"At the end: {last}.",
            )
        )
    return Section("learning", "Learning curves", grid(figures)) if figures else None


def _classes_section(runs: Sequence[RunFiles], names: Sequence[str]) -> Section | None:
    """F1 of the classes that all measured runs know."""
    measured = {
        name: {row["label_name"]: row["f1"] for row in run.metrics[run.measured_part]["per_class"]}
        for name, run in zip(names, runs, strict=True)
        if run.metrics is not None and run.measured_part is not None
    }
    if not measured:
        return None
    first = next(iter(measured.values()))
    labels = [label for label in first if all(label in item for item in measured.values())]
    if not labels:
        return Section("classes", "Classes", paragraph("The runs have no class in common."))
    values = {name: [item[label] for label in labels] for name, item in measured.items()}
    plot = figure(
        draw_class_dots(labels, values, "class-dots"),
        alt=f"F1 of {len(labels)} classes in {len(values)} runs",
        caption="F1 of each class; a class without clips has none.",
    )
    rows = [[label, *_mark_best([item[label] for item in measured.values()])] for label in labels]
    numbers = table("F1 of each class", ["class", *values], rows)
    return Section("classes", "Classes", element("div", plot, numbers, class_="split"))


def _differences_section(differences: Mapping[str, list[Any]], names: Sequence[str]) -> Section:
    title = "What was configured differently"
    if not differences:
        return Section("differences", title, paragraph("Nothing: the configurations are equal."))
    rows = [[key, *map(_show, values)] for key, values in differences.items()]
    return Section("differences", title, table("Keys that differ", ["key", *names], rows, "facts"))


def _show(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "–" if value is None else str(value)


def _origins_section(runs: Sequence[RunFiles], names: Sequence[str]) -> Section:
    origins = [dict(describe_origin(run)) for run in runs]
    rows = [
        [key, *(origin[key] or "–" for origin in origins)]
        for key in origins[0]
        if any(origin[key] for origin in origins)
    ]
    return Section("origin", "Where they come from", table("The runs", ["", *names], rows, "facts"))
