"""Timelines as files: a table for spreadsheets, JSON for programs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from esc_tf.evaluation.timeline.timeline import Timeline
from esc_tf.files import write_atomically


def write_csv(timeline: Timeline, path: Path) -> None:
    """Write a row a window: ``start_s``, ``end_s`` and the score of each label.

    Times are in seconds, scores have six decimals. ``end_s`` is the end of the sound: a last
    window that was padded is shorter than the others.

    Raises:
        OSError: nothing could be written; ``path`` is as it was.
    """

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("start_s", "end_s", *timeline.label_names))
            for start_s, end_s, scores in timeline.read_rows():
                times = (f"{start_s:.3f}", f"{end_s:.3f}")
                table.writerow((*times, *(f"{score:.6f}" for score in scores.tolist())))

    write_atomically(path, write)


def write_json(timeline: Timeline, path: Path, recording: str) -> None:
    """Write what ``describe_timeline`` says and ``windows``, one object a line.

    Each has ``start_s``, ``end_s`` and ``probabilities`` in the order of ``label_names``.

    Args:
        timeline: of a recording.
        path: the file to be written.
        recording: the recording's file, as the user named it.

    Raises:
        OSError: nothing could be written; ``path`` is as it was.
    """

    def write(temporary: Path) -> None:
        facts = {**describe_timeline(timeline, recording), "label_names": timeline.label_names}
        with temporary.open("w", encoding="utf-8") as file:
            # By hand, since all windows of a day in one object need a lot of memory.
            file.write(json.dumps(facts)[:-1] + ', "windows": [')
            separator = "\n"
            for start_s, end_s, scores in timeline.read_rows():
                window = {
                    "start_s": round(start_s, 6),
                    "end_s": round(end_s, 6),
                    "probabilities": [round(score, 6) for score in scores.tolist()],
                }
                file.write(separator + json.dumps(window))
                separator = ",\n"
            file.write("\n]}\n")

    write_atomically(path, write)


def describe_timeline(timeline: Timeline, recording: str) -> dict[str, Any]:
    """Facts about a timeline that JSON can hold.

    ``padded_to_s`` is the length that every window was padded to before the model heard it, or
    None; ``last_window_padded_from_s`` the seconds of sound in a last window that had to be padded
    to a whole one, or None; ``other_threshold`` the score that no label reaches in a window that is
    none of them, and ``num_other`` how many such there are; ``problem`` why the recording was not
    heard to its end, or None.
    """
    last_s = timeline.last_window_s
    return {
        "file": recording,
        "duration_s": round(timeline.duration_s, 6),
        "window_s": timeline.window_s,
        "hop_s": timeline.hop_s,
        "num_windows": timeline.num_windows,
        "padded_to_s": timeline.padded_to_s,
        "last_window_padded_from_s": round(last_s, 6) if last_s < timeline.window_s else None,
        "other_threshold": timeline.other_threshold,
        "num_other": timeline.num_other,
        "problem": timeline.problem,
    }
