"""Where the run comes from: configuration, seed, versions, commit, devices, data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from esc_tf.config import dump_experiment
from esc_tf.evaluation.report.markup import (
    Html,
    Section,
    details,
    element,
    heading,
    join,
    paragraph,
    table,
)
from esc_tf.evaluation.run_files import RunFiles

_NOT_KNOWN = "not recorded"


def origin_section(run: RunFiles) -> Section:
    """The facts of a run and its whole configuration."""
    experiment = run.experiment
    rows = [(name, value) for name, value in describe_origin(run) if value]
    body: list[object] = [table("The run", [], rows, class_="facts")]
    metrics = run.metrics or {}
    body += [heading("Data"), table("Clips", [], _describe_data(run), class_="facts")]
    for title, key in (
        ("Files that could not be read and were skipped", "skipped_files"),
        ("Clips left out because their recording lies in another part", "dropped_for_leaks"),
    ):
        items = metrics.get(key) or []
        if items:
            lines = [
                f"{item['clip']}: {item['reason']}" if isinstance(item, Mapping) else str(item)
                for item in items
            ]
            listed = element("ul", join(element("li", line) for line in lines))
            body.append(details(f"{title} ({len(items)})", listed))
    body += [
        heading("Configuration"),
        paragraph("It repeats the run when given to the training command as a file."),
        details(
            "The whole configuration",
            element("pre", element("code", dump_experiment(experiment)), tabindex="0"),
        ),
    ]
    return Section("origin", "Where it comes from", join(body))


def describe_origin(run: RunFiles) -> list[tuple[str, str]]:
    """(name, value) of what is known of a run beside its numbers; empty values are unknown."""
    experiment, facts, metrics = run.experiment, run.facts, run.metrics or {}
    distribution: Mapping[str, Any] = facts.get("distribution") or {}
    versions: Mapping[str, Any] = facts.get("versions") or {}
    devices = ", ".join(map(str, distribution.get("devices", [])))
    hardware = ", ".join(map(str, dict.fromkeys(distribution.get("hardware", []))))
    seconds = sum(line.get("seconds", 0.0) for line in run.history)
    epochs = f"{len(run.history)} of at most {experiment.recipe.epochs}"
    if "selected_epoch" in metrics:
        epochs += f"; weights of epoch {metrics['selected_epoch']}"
    return [
        ("experiment", experiment.name),
        ("run directory", run.name),
        ("started", str(facts.get("started", ""))),
        ("resumed", ", ".join(map(_describe_resume, facts.get("resumed", [])))),
        ("command", str(facts.get("command", ""))),
        ("commit", str(facts.get("commit") or _NOT_KNOWN)),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        (
            "devices",
            f"{devices} ({hardware}), {distribution.get('strategy', '')}" if devices else "",
        ),
        ("precision", experiment.distribution.precision),
        ("seed", str(experiment.seed)),
        ("model", f"{experiment.model.name} on {experiment.front_end.name}"),
        ("epochs", epochs),
        ("training time", f"{_show_duration(seconds)} for all epochs" if run.history else ""),
    ]


def _describe_resume(resume: Mapping[str, Any]) -> str:
    commit = str(resume.get("commit") or "")[:12]
    return f"{resume.get('started', _NOT_KNOWN)}{f' at {commit}' if commit else ''}"


def _describe_data(run: RunFiles) -> list[tuple[str, object]]:
    data, metrics = run.experiment.data, run.metrics or {}
    clips: Mapping[str, int] = metrics.get("clips") or {}
    held_out = "none" if data.test_fold is None else f"fold {data.test_fold}"
    if data.validation is None:
        validation = "none"
    elif isinstance(data.validation, int):
        validation = f"fold {data.validation}"
    else:
        validation = f"{data.validation:.0%} of the other clips"
    names = run.facts.get("label_names") or []
    rows: list[tuple[str, object]] = [
        ("data set", data.name),
        ("classes", f"{len(names)}: {', '.join(map(str, names))}" if names else _NOT_KNOWN),
        ("tested on", held_out),
        ("validated on", validation),
    ]
    if clips:
        rows.append(("clips", ", ".join(f"{count} {part}" for part, count in clips.items())))
    for title, key in (
        ("skipped files", "skipped_files"),
        ("dropped for leaks", "dropped_for_leaks"),
    ):
        if key in metrics:
            rows.append((title, str(len(metrics[key]))))
    return rows


def _show_duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def introduce(run: RunFiles) -> Html:
    """One sentence that says what was run."""
    names = run.facts.get("label_names") or []
    sentence = (
        f"{run.experiment.model.name} on {run.experiment.data.name}, {len(names)} classes, "
        f"seed {run.experiment.seed}, started {run.facts.get('started', 'at an unknown time')}."
    )
    return paragraph(sentence)
