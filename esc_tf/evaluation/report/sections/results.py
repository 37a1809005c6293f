"""How good the run is: measures, learning curves, classes, ROC, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from esc_tf.evaluation.calibration import Calibration, measure_calibration
from esc_tf.evaluation.metrics import SEGMENT_COLUMNS, SUMMARY_MEASURES, find_confusions
from esc_tf.evaluation.report.figures.classes import (
    PER_CLASS_MEASURES,
    draw_class_bars,
    draw_confusion_matrix,
    draw_reliability,
    draw_roc,
)
from esc_tf.evaluation.report.figures.learning import draw_curves
from esc_tf.evaluation.report.findings import Findings
from esc_tf.evaluation.report.markup import (
    Html,
    Section,
    element,
    figure,
    grid,
    heading,
    inline,
    join,
    notice,
    number,
    paragraph,
    table,
)
from esc_tf.evaluation.run_files import RunFiles

_MOST_CONFUSIONS = 10
# A difference between confidence and accuracy that is not worth a word.
_SMALLEST_GAP = 0.005
# A confusion matrix of more classes scrolls on a narrow screen instead of shrinking.
_MOST_CLASSES_TO_SHRINK = 12
_PARTS = ("validation", "test")


def headline(run: RunFiles, calibration: Calibration | None) -> Html:
    """The few numbers that everybody asks for first."""
    items: list[tuple[str, Html]] = []
    part = run.measured_part
    if part is not None and run.metrics is not None:
        measured = run.metrics[part]
        items += [
            (f"{part} accuracy", number(measured["accuracy"])),
            ("macro F1", number(measured["macro_f1"])),
            ("ROC AUC, micro", number(measured["roc_auc_micro"])),
            (f"{part} clips", number(measured["num_clips"])),
        ]
    if calibration is not None:
        items.append(("calibration error", number(calibration.expected_error)))
    if not items:
        return Html("")
    cells = [element("div", element("dt", name), element("dd", value)) for name, value in items]
    return element("dl", join(cells), class_="headline")


def measures_section(run: RunFiles) -> Section:
    """The summary measures of every measured part."""
    metrics = run.metrics or {}
    measured_epochs = _find_measured(metrics)
    columns = _add_segments(measured_epochs)
    if not columns:
        text = "Nothing was measured: the run is not finished, or it kept no clips to measure on."
        return Section("measures", "Measures", paragraph(text))
    rows: list[list[object]] = [
        ["clips", *(number(measured["num_clips"]) for measured in columns.values())]
    ]
    rows += [
        [title, *(number(measured[key]) for measured in columns.values())]
        for key, title in SUMMARY_MEASURES
    ]
    caption = f"Weights of epoch {metrics['selected_epoch']} of {metrics['trained_epochs']}"
    if len(measured_epochs) > sum(part in metrics for part in _PARTS):
        caption += " unless said otherwise"
    body = [table(caption, ["measure", *columns], rows)]
    if len(columns) > len(measured_epochs):
        body.append(
            paragraph(
                "The model hears segments. Of a clip the class counts whose mean probability over "
                "its segments is largest; under “majority” the class that most of its segments are "
                "taken for. Everything below is about clips by the first of these votes."
            )
        )
    absent = {name for measured in columns.values() for name in measured["absent_classes"]}
    if absent:
        body.append(
            paragraph(
                f"Averages over classes leave out those without clips: {', '.join(sorted(absent))}."
            )
        )
    return Section("measures", "Measures", join(body))


def _find_measured(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Heading → measures, of the selected weights and of other epochs that were measured."""
    found = {f"{part} clips": metrics[part] for part in _PARTS if part in metrics}
    epochs = {metrics.get("selected_epoch")}
    for key in ("test_best", "test_last"):
        measured = metrics.get(key)
        if measured is not None and measured["epoch"] not in epochs:
            epochs.add(measured["epoch"])
            found[f"test clips, epoch {measured['epoch']}"] = measured
    return found


def _add_segments(columns: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The same, and of clips heard in segments the majority votes and the segments themselves."""
    found: dict[str, Mapping[str, Any]] = {}
    for title, measured in columns.items():
        found[title] = measured
        for key, words in SEGMENT_COLUMNS:
            if key in measured:
                part = measured[key]
                count = part.get("num_segments", measured["num_clips"])
                kept = {"num_clips": count, "absent_classes": measured["absent_classes"]}
                found[f"{title}, {words}"] = {**part, **kept}
    return found


def learning_section(run: RunFiles) -> Section:
    """Loss, accuracy and learning rate over epochs."""
    history = run.history
    if not history:
        text = "No epoch has been finished yet."
        return Section("learning", "Learning curves", paragraph(text))
    selected = (run.metrics or {}).get("selected_epoch")
    has_validation = any("validation_loss" in line for line in history)
    last = history[-1]
    figures = []
    for quantity, unit, limits in (
        ("loss", "loss (nats)", None),
        ("accuracy", "accuracy", (0.0, 1.0)),
        ("learning_rate", "learning rate", None),
    ):
        if not any(quantity in line for line in history):
            continue
        curves = [("training", history, quantity)]
        if quantity == "learning_rate":
            curves = [("at the end of the epoch", history, quantity)]
        elif has_validation:
            curves.append(("validation", history, f"validation_{quantity}"))
        numbers = [f"{title} {last[key]:.4g}" for title, _, key in curves if key in last]
        alt = f"{unit} over {len(history)} epochs; at last {', '.join(numbers)}"
        drawing = draw_curves(
            curves, y_label=unit, key=f"curve-{quantity}", selected_epoch=selected, limits=limits
        )
        caption = f"Epoch {last['epoch']}: {', '.join(numbers)}."
        if quantity == "learning_rate":
            caption = f"Epoch {last['epoch']}: {last[quantity]:.4g}."
        figures.append(figure(drawing, alt=alt, caption=caption))
    note = (
        "Training numbers are taken while the network learns, from augmented clips and with "
        "dropout: they are not those of the finished weights on the clips as they are."
    )
    if run.phases:
        note = f"These are the epochs of the last phase, {run.phases[-1]['name']}. {note}"
    if not has_validation:
        note += " The run kept no validation clips."
    return Section("learning", "Learning curves", join([grid(figures), paragraph(note)]))


def classes_section(run: RunFiles) -> Section | None:
    """Per-class measures and the confusion matrix."""
    part = run.measured_part
    if part is None or run.metrics is None:
        return None
    measured = run.metrics[part]
    per_class = measured["per_class"]
    names = [row["label_name"] for row in per_class]
    hardest = sorted(
        (row for row in per_class if row["f1"] is not None), key=lambda row: row["f1"]
    )[:3]
    hardest_text = ", ".join(f"{row['label_name']} ({row['f1']:.2f})" for row in hardest)
    confusions = find_confusions(measured, _MOST_CONFUSIONS)
    worst = "; ".join(f"{true} taken for {taken}: {count}" for count, true, taken in confusions[:3])
    bars = figure(
        draw_class_bars(per_class, "class-bars"),
        alt=f"Precision, recall and F1 of {len(names)} classes; lowest F1: {hardest_text}",
        caption="A class that was never predicted has no precision, one without clips no recall "
        "and no F1.",
    )
    matrix = figure(
        draw_confusion_matrix(measured["confusion_matrix"], names, "confusion"),
        alt=f"Confusion matrix of {len(names)} classes; {worst or 'no confusions'}",
        caption="Numbers are clips; colours are shares of the true class, bright for all of them.",
        is_wide=len(names) > _MOST_CLASSES_TO_SHRINK,
    )
    rows = [
        [
            row["label_name"],
            number(row["num_clips"]),
            number(row["num_predicted"]),
            *(number(row[key]) for key in (*PER_CLASS_MEASURES, "roc_auc")),
        ]
        for row in per_class
    ]
    header = ["class", "clips", "predicted", "precision", "recall", "F1", "ROC AUC"]
    numbers = table(f"All classes, {part} clips", header, rows)
    found: list[object] = [paragraph(f"Lowest F1: {hardest_text}.")]
    if confusions:
        rows = [[true, taken, number(count)] for count, true, taken in confusions]
        found.append(
            table(
                "Most frequent confusions",
                ["true class", "predicted class", "clips"],
                rows,
                class_="texts",
            )
        )
    body = [
        element("div", bars, element("div", numbers, class_="prose"), class_="split"),
        heading("Confusion matrix"),
        element("div", matrix, element("div", join(found), class_="prose"), class_="split"),
    ]
    return Section("classes", "Classes", join(body))


def roc_section(run: RunFiles, findings: Findings) -> Section | None:
    """ROC curves; None where the run has no stored measures to draw them beside."""
    if run.metrics is None or findings.part not in run.metrics:
        return None
    measured = run.metrics[findings.part]
    per_class = measured["per_class"]
    drawing = draw_roc(
        findings.label_ids, findings.probabilities, per_class, measured["roc_auc_micro"], "roc"
    )
    known = [row for row in per_class if row["roc_auc"] is not None]
    text = (
        "Each class against all others. The thick line pools all decisions (micro average); the "
        f"{min(3, len(known))} classes with the smallest areas are coloured, the others grey. "
        "The areas of all classes stand in the table of the section before."
    )
    plot = figure(
        drawing,
        alt=f"ROC curves of {len(known)} classes; areas: micro {_text(measured['roc_auc_micro'])}, "
        f"macro {_text(measured['roc_auc_macro'])}",
        caption=inline(
            "Areas: micro ",
            number(measured["roc_auc_micro"]),
            ", macro ",
            number(measured["roc_auc_macro"]),
            ".",
        ),
    )
    prose = element("div", paragraph(text), class_="prose")
    return Section("roc", "ROC", element("div", plot, prose, class_="split"))


def calibration_section(calibration: Calibration) -> Section:
    """The reliability diagram and the expected calibration error."""
    gap = calibration.confidence - calibration.accuracy
    verdict = f"it is {abs(gap):.3f} {'more' if gap > 0 else 'less'} confident than it should be"
    if abs(gap) < _SMALLEST_GAP:
        verdict = "on the whole it is as confident as it should be"
    sentence = (
        f"On average the model claims a confidence of {calibration.confidence:.3f} and is right in "
        f"{calibration.accuracy:.3f} of the cases: {verdict}."
    )
    plot = figure(
        draw_reliability(calibration, "reliability"),
        alt=f"Reliability diagram: accuracy over confidence in {len(calibration.bins)} bins; "
        f"expected calibration error {calibration.expected_error:.4f}",
        caption="Bars below the dashed line: too confident; above it: too cautious. Bins with few "
        "clips say little.",
    )
    error = paragraph(
        element("strong", "Expected calibration error (ECE): "), number(calibration.expected_error)
    )
    explained = paragraph(
        "The distance between confidence and accuracy, averaged over the bins by their number of "
        "clips."
    )
    prose = element("div", error, paragraph(sentence), explained, class_="prose")
    return Section("calibration", "Calibration", element("div", plot, prose, class_="split"))


def measure_findings(findings: Findings | None) -> Calibration | None:
    """The calibration of what was found, if anything was."""
    if findings is None:
        return None
    return measure_calibration(findings.label_ids, findings.probabilities)


def describe_disagreement(run: RunFiles, findings: Findings) -> Html | None:
    """A warning if the model no longer says what the run measured."""
    if run.metrics is None or findings.part not in run.metrics:
        return None
    stored: Mapping[str, Any] = run.metrics[findings.part]
    now = float((findings.predicted_ids == findings.label_ids).mean())
    if stored["num_clips"] == len(findings.clips) and abs(now - stored["accuracy"]) < 1e-9:
        return None
    return notice(
        f"The run measured an accuracy of {stored['accuracy']:.4f} on {stored['num_clips']} clips; "
        f"computed again it is {now:.4f} on {len(findings.clips)}. The clips have changed since, "
        "or another machine rounds otherwise. Measures and classes are the run's own; ROC curves, "
        "calibration and mistakes are the new ones."
    )


def _text(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.4f}"
