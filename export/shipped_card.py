"""What the package's own model says of itself: facts for programs, the same as text for people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from esc_tf.errors import RequestError

# A line of the credits of ESC-10 and ESC-50: clip, title, address on Freesound, author, licence.
_CREDIT = re.compile(
    r"\*\*\[(?P<clip>\d+-\d+-[A-Z])\.\w+\]\([^)]*\)\*\*:\s*clip derived from "
    r"\[(?P<title>.*)\]\((?P<url>\S+)\) by \*(?P<author>.+)\* "
    r"\(\[(?P<licence>[^\]]+)\]\((?P<licence_url>[^)]+)\)\)"
)
_MOST_CONFUSIONS = 12


@dataclass(frozen=True)
class Credit:
    """Whose recording a clip was cut from.

    Attributes:
        clip: fold, number of the recording and take: ``1-100032-A``.
        title: of the recording.
        url: where it is.
        author: who recorded it.
        licence: its name.
    """

    clip: str
    title: str
    url: str
    author: str
    licence: str


def read_credits(text: str, clip_ids: Iterable[str], source: str) -> list[Credit]:
    """Find the credits of clips in the list that comes with ESC-10 and ESC-50.

    Args:
        text: the list, Markdown.
        clip_ids: names of clips, with or without the number of their class at the end.
        source: what the list is called, for messages.

    Raises:
        RequestError: clips without a credit.
    """
    known = {
        found["clip"]: Credit(
            *(found[key] for key in ("clip", "title", "url", "author", "licence"))
        )
        for found in _CREDIT.finditer(text)
    }
    wanted = sorted({"-".join(clip_id.split("-")[:3]) for clip_id in clip_ids})
    missing = [clip for clip in wanted if clip not in known]
    if missing:
        raise RequestError(
            f"--credits: {source} says nothing of {len(missing)} of {len(wanted)} clips "
            f"({', '.join(missing[:3])}); name the list that comes with the data"
        )
    return [known[clip] for clip in wanted]


def format_credits(credits: Sequence[Credit], data: str) -> str:
    """The credits as Markdown, a line a clip."""
    lines = [
        f"# Recordings behind the model\n\nThe model was trained on these {len(credits)} clips of "
        f"{data}, each cut from a recording on Freesound.\n",
    ]
    lines += [
        f"- {item.clip}: [{item.title}]({item.url}) by {item.author}, {item.licence}"
        for item in credits
    ]
    return "\n".join(lines) + "\n"


def measure_folds(
    logits: np.ndarray, labels: np.ndarray, folds: np.ndarray, label_names: Sequence[str]
) -> dict[str, Any]:
    """Accuracies of a cross-validation and what was taken for what.

    Args:
        logits: of all test folds' clips ``(clips, classes)``.
        labels: int ``(clips,)``.
        folds: the test fold of each clip, int ``(clips,)``.
        label_names: names of the classes.

    Returns:
        ``folds`` (fold, clips, accuracy), their ``mean`` and ``standard_deviation`` (of the
        population), ``classes`` (recall of each), and ``confusions``, the most frequent first.
    """
    chosen = logits.argmax(axis=1)
    rows = [
        {
            "fold": int(fold),
            "clips": int(np.sum(folds == fold)),
            "accuracy": float(np.mean((chosen == labels)[folds == fold])),
        }
        for fold in np.unique(folds)
    ]
    accuracies = [row["accuracy"] for row in rows]
    pairs, counts = np.unique(
        np.stack([labels, chosen])[:, chosen != labels], axis=1, return_counts=True
    )
    order = np.argsort(-counts, kind="stable")[:_MOST_CONFUSIONS]
    return {
        "folds": rows,
        "mean": float(np.mean(accuracies)),
        "standard_deviation": float(np.std(accuracies)),
        "classes": {
            name: float(np.mean(chosen[labels == number] == number))
            for number, name in enumerate(label_names)
            if np.any(labels == number)
        },
        "confusions": [
            {
                "true": label_names[pairs[0, place]],
                "named": label_names[pairs[1, place]],
                "clips": int(counts[place]),
            }
            for place in order
        ],
    }


def format_card(card: Mapping[str, Any]) -> str:
    """A card as Markdown.

    Args:
        card: what ``esc_tf.ship`` collects.
    """
    heard, training, found = card["input"], card["training"], card["cross_validation"]
    calibration = card["open_set"]["calibration"]
    parts = [
        f"# {card['name']}",
        card["description"],
        f"{card['parameters']:,} parameters; {heard['duration_s']:g} s of mono audio at "
        f"{heard['sample_rate_hz']} Hz; shorter sounds are filled up ({heard['shorter_clips']}), "
        "of longer ones a part is heard, or all of them window by window.",
        "Classes: " + ", ".join(card["labels"]) + ".",
        "## Use",
        *card["use"],
        "## Data and licences",
        *card["licences"],
        "## Training",
        f"Experiment `{training['experiment']}` (`config.yaml`), seed {training['seed']}, "
        f"{training['epochs']} epochs on {training['clips']} clips"
        + (f", commit `{training['commit'][:7]}`" if training.get("commit") else "")
        + f". {card['retrain']}",
        "## Accuracy",
        f"One run for each fold as the test fold, {training['epochs_of_folds']} epochs each, which "
        "never hears that fold; neither does its teacher. The model in this folder is trained on "
        "all of these folds, so it has no test clips of its own.",
        _format_table(
            ("fold", "clips", "accuracy"),
            [(row["fold"], row["clips"], f"{row['accuracy']:.2%}") for row in found["folds"]]
            + [("mean", "", f"{found['mean']:.2%} (± {found['standard_deviation']:.2%})")],
        ),
        "By class: "
        + ", ".join(f"{name} {recall:.1%}" for name, recall in found["classes"].items())
        + ".",
        "Known confusions: "
        + (
            "; ".join(
                f"{item['true']} called {item['named']} ({item['clips']})"
                for item in found["confusions"]
            )
            or "none in these folds"
        )
        + ".",
        "## None of the classes",
        f"A sound of which no class reaches {calibration['threshold']:.4f} is called `other`. The "
        f"threshold was chosen so that {calibration['accepted_share']:.0%} of the "
        f"{calibration['clips']} clips of the test folds are named: {calibration['accepted']:.2%} "
        f"are, {calibration['accuracy_of_accepted']:.2%} of these rightly.",
        _format_alarms(card["open_set"]),
        (
            "Other sounds of such kinds were trained on (`augment.outlier`)"
            if card["open_set"]["trained_on_outliers"]
            else "No sound of such kinds was trained on"
        )
        + "; speech, music and other everyday sounds were neither trained on nor measured, and may "
        "be given the name of a class.",
        "## Limits",
        *(f"- {limit}" for limit in card["limits"]),
        "",
    ]
    return "\n\n".join(parts).replace("\n\n- ", "\n- ").rstrip() + "\n"


def _format_alarms(report: Mapping[str, Any]) -> str:
    columns = {"cross-validation": report["outside"], **report["shipped"]}
    some = report["outside"]
    rows = []
    for kind in some["kinds"]:
        found = [entry["kinds"][kind]["false_alarms_per_hour"] for entry in columns.values()]
        rows.append((kind, *(f"{per_hour:.1f}" for per_hour in found)))
    return (
        f"False alarms an hour of sounds that are none of the classes, windows of "
        f"{some['window_s']:g} s every {some['hop_s']:g} s "
        f"({3600 / some['hop_s']:.0f} windows an hour):\n\n"
        + _format_table(("sounds", *columns), rows)
    )


def _format_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
