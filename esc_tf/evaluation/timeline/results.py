"""What a timeline leaves: three files beside each other, and a few lines to read at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from esc_tf.errors import RequestError
from esc_tf.evaluation.timeline.figure import format_time, write_figure
from esc_tf.evaluation.timeline.tables import describe_timeline, write_csv, write_json
from esc_tf.evaluation.timeline.timeline import Timeline

SUFFIXES = (".csv", ".json", ".png")


def plan_results(paths: Sequence[Path], folder: Path, replace: bool) -> list[Path]:
    """Where the results of each recording go: ``folder/NAME``, without a suffix.

    Args:
        paths: the recordings.
        folder: where all results go.
        replace: whether there may be results already.

    Raises:
        RequestError: two recordings would write the same files, or a file is there already; all
            such are listed.
    """
    targets: dict[Path, Path] = {}
    problems = []
    for path in paths:
        target = folder / path.stem
        if target in targets:
            problems.append(
                f"{targets[target]} and {path} would both write {target}.csv; give them to two "
                "calls with an --out each"
            )
        targets.setdefault(target, path)
    for target in targets:
        there = [f"{target}{suffix}" for suffix in SUFFIXES if Path(f"{target}{suffix}").exists()]
        if there and not replace:
            verb = "is" if len(there) == 1 else "are"
            problems.append(
                f"{', '.join(there)} {verb} there already; add --force to replace, or name another "
                "--out"
            )
    if problems:
        raise RequestError(problems)
    return [folder / path.stem for path in paths]


def write_results(
    timeline: Timeline, target: Path, recording: str, threshold: float
) -> dict[str, str]:
    """Write ``NAME.csv``, ``NAME.json`` and ``NAME.png``, each whole or not at all.

    Args:
        timeline: of a recording.
        target: path of the files without a suffix.
        recording: the recording's file, as the user named it.
        threshold: probability from which a class is worth a row in the figure.

    Returns:
        Kind → path.

    Raises:
        OSError: a file could not be written.
    """
    files = {suffix[1:]: Path(f"{target}{suffix}") for suffix in SUFFIXES}
    write_csv(timeline, files["csv"])
    write_json(timeline, files["json"], recording)
    write_figure(timeline, files["png"], Path(recording).name, threshold)
    return {kind: str(path) for kind, path in files.items()}


def rank_classes(timeline: Timeline, top_k: int) -> list[dict[str, Any]]:
    """The classes that lead most windows, and then those with the highest probabilities.

    Returns:
        At most ``top_k`` dicts of ``label``, ``share_led`` (of the windows), ``highest`` (its best
        probability) and ``highest_at_s`` (the middle of the window that has it).
    """
    return [
        {
            "label": timeline.label_names[index],
            "share_led": int(timeline.num_led[index]) / timeline.num_windows,
            "highest": float(timeline.highest[index]),
            "highest_at_s": round(timeline.find_middle_s(int(timeline.highest_at[index])), 3),
        }
        for index in timeline.find_shown(-1.0, top_k)
    ]


def summarize(
    timeline: Timeline, recording: str, top_k: int, files: dict[str, str]
) -> dict[str, Any]:
    """The facts, the leading classes and the files, as JSON can hold them."""
    return {
        **describe_timeline(timeline, recording),
        "classes": rank_classes(timeline, top_k),
        "written": files,
    }


def format_summary(summary: dict[str, Any]) -> str:
    """The same as lines for a reader."""
    windows = "1 window" if summary["num_windows"] == 1 else f"{summary['num_windows']} windows"
    facts = f"{format_time(summary['duration_s'])} in {windows} of {summary['window_s']:g} s"
    if summary["num_windows"] > 1:
        facts += f" every {summary['hop_s']:g} s"
    if summary["padded_to_s"] is not None:
        facts += f", each padded to {summary['padded_to_s']:g} s"
    padded_from_s = summary["last_window_padded_from_s"]
    if padded_from_s is not None:
        which = "the last" if summary["num_windows"] > 1 else "it"
        facts += f"; {which} holds {padded_from_s:.3g} s and is padded"
    rows = []
    for item in summary["classes"]:
        share = item["share_led"]
        leads = f"leads {share:6.1%} of the time" if share else "never leads"
        peak = f"highest {item['highest']:.2f} at {format_time(item['highest_at_s']):<9}"
        rows.append(f"  {leads:<25} {peak} {item['label']}")
    if summary["num_other"]:
        share = summary["num_other"] / summary["num_windows"]
        limit = summary["other_threshold"]
        rows.append(f"  {share:.1%} of the time none of the classes: all below {limit:.2f}")
    files = f"  wrote {', '.join(summary['written'].values())}"
    return "\n".join([f"{summary['file']}: {facts}", *rows, files])
