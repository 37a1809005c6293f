"""The report of one run: what can be shown is shown, what cannot is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from esc_tf.config import Experiment
from esc_tf.errors import EscTfError, RequestError
from esc_tf.evaluation.report.findings import Findings, classify_clips, find_clips
from esc_tf.evaluation.report.markup import Html, Section, element, join, notice
from esc_tf.evaluation.report.page import render_page
from esc_tf.evaluation.report.sections.hearing import hearing_section
from esc_tf.evaluation.report.sections.mistakes import mistakes_section
from esc_tf.evaluation.report.sections.network import (
    maps_section,
    parameters_section,
    weights_section,
)
from esc_tf.evaluation.report.sections.origin import introduce, origin_section
from esc_tf.evaluation.report.sections.phases import forcing_section, phases_section
from esc_tf.evaluation.report.sections.results import (
    calibration_section,
    classes_section,
    describe_disagreement,
    headline,
    learning_section,
    measure_findings,
    measures_section,
    roc_section,
)
from esc_tf.evaluation.run_files import PAGE_FILE, RunFiles, read_run_files
from esc_tf.files import write_atomically
from esc_tf.tasks.classifier import Classifier, load_classifier

DEFAULT_MAX_ERRORS = 24

MoreSections = Callable[[Classifier], Sequence[Section]]
"""Sections that later rooms have to say of a run's model; they stand before the run's origin."""


def write_report(
    run_path: str | Path,
    experiment: Experiment,
    facts: Mapping[str, Any],
    *,
    folder: str | Path | None = None,
    max_errors: int = DEFAULT_MAX_ERRORS,
    clip_id: str | None = None,
    more: MoreSections | None = None,
) -> Path:
    """Write the report of a run: one HTML file that needs no other.

    Everything comes from the run directory; the model runs once over the run's test clips (its
    validation clips where it has no test fold). Where the model or the clips are gone, the page
    lacks what needs them and says so.

    Args:
        run_path: the run directory.
        experiment: the configuration in its ``resolved.yaml``.
        facts: the run's facts there.
        folder: where ``index.html`` goes; None: the folder ``report`` of the run.
        max_errors: how many misclassified clips are shown at most.
        clip_id: the clip whose mel and feature maps are shown; None: the first.
        more: gives further sections.

    Returns:
        The path of ``index.html``.

    Raises:
        RequestError: ``clip_id`` is not among the clips.
        EscTfError: a file of the run is damaged.
        OSError: the page cannot be written.
    """
    run = read_run_files(run_path, experiment, facts)
    page = run.page_path if folder is None else Path(folder) / PAGE_FILE
    text = build_report(run, max_errors=max_errors, clip_id=clip_id, more=more)
    page.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(page, lambda path: path.write_text(text, encoding="utf-8"))
    return page


def build_report(
    run: RunFiles,
    *,
    max_errors: int,
    clip_id: str | None = None,
    more: MoreSections | None = None,
) -> str:
    """The page of a run as HTML; see ``write_report``."""
    model, findings, missing = _measure_again(run)
    position = _find_position(findings, clip_id)
    calibration = measure_findings(findings)
    sections: list[Section | None] = [
        forcing_section(run) or measures_section(run),
        phases_section(run),
        learning_section(run),
        classes_section(run),
    ]
    notes: list[Html] = []
    if missing:
        notes.append(_describe_missing(missing, model))
    if model is not None and findings is not None and calibration is not None:
        disagreement = describe_disagreement(run, findings)
        if disagreement is not None:
            notes.append(disagreement)
        sections += [
            roc_section(run, findings),
            calibration_section(calibration),
            mistakes_section(model, run.experiment, findings, max_errors),
            hearing_section(model, run.experiment, findings, position),
        ]
    if model is not None:
        sections += [parameters_section(model, run.experiment), weights_section(model)]
        if findings is not None:
            sections.append(maps_section(model, run.experiment, findings, position))
        if more is not None:
            sections += more(model)
    sections.append(origin_section(run))
    return render_page(
        f"{run.experiment.name} · {run.name}",
        join([introduce(run), *notes, headline(run, calibration)]),
        [section for section in sections if section is not None],
    )


def _measure_again(run: RunFiles) -> tuple[Classifier | None, Findings | None, list[str]]:
    """The model, what it says of its clips, and why something is missing."""
    if run.metrics is None:
        return None, None, ["the run is not finished (no metrics.json)"]
    try:
        model = load_classifier(run.path)
    except EscTfError as error:
        return None, None, error.problems
    if "spectrogram_forcing" in run.metrics:
        return model, None, ["the run trained a front end alone, which knows no classes"]
    if run.measured_part is None:
        return model, None, ["the run kept neither test nor validation clips"]
    try:
        clips = find_clips(run.experiment, run.measured_part)
        return model, classify_clips(model, run.experiment, run.measured_part, clips), []
    except EscTfError as error:
        return model, None, error.problems


def _describe_missing(missing: list[str], model: Classifier | None) -> Html:
    without_clips = "ROC, calibration, misclassified clips, mel spectrograms and feature maps"
    without_model = f"{without_clips}, parameters and weights"
    left_out = without_clips if model is not None else without_model
    reasons = element("ul", join(element("li", reason) for reason in missing))
    return element("div", notice(f"This page lacks {left_out}:"), reasons)


def _find_position(findings: Findings | None, clip_id: str | None) -> int:
    if clip_id is None or findings is None:
        return 0
    ids = [clip.record.clip_id for clip in findings.clips]
    if clip_id not in ids:
        raise RequestError(
            f"--clip: {clip_id} is not among the {len(ids)} {findings.part} clips "
            f"({', '.join(ids[:3])}, …)"
        )
    return ids.index(clip_id)
