"""None of the classes: when a model should say so, and how often it fails to.

A sound is `other` when no class of it reaches a probability, the threshold. That is a rule which
any program can follow that sees a model's probabilities; energy and entropy are measured beside
it, so that it can be seen what it costs.

Sources: Hendrycks and Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution
Examples, ICLR 2017 (highest probability); Liu et al., Energy-based Out-of-distribution Detection,
NeurIPS 2020 (energy); Wang et al., Can multi-label classification networks know what they don't
know?, NeurIPS 2021 (energy of several labels).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

OTHER = "other"
"""The label of a sound that is none of a model's classes."""
RULE = "max_probability"
"""The score that decides."""


def choose_label(probabilities: Any, label_names: Sequence[str], threshold: float | None) -> str:
    """The likeliest label of probabilities ``(classes,)``, or `other` where none reaches a limit.

    >>> choose_label(np.array([0.3, 0.7]), ["dog", "rain"], 0.6)
    'rain'
    >>> choose_label(np.array([0.5, 0.5]), ["dog", "rain"], 0.6)
    'other'
    """
    best = int(np.argmax(probabilities))
    if threshold is not None and probabilities[best] < threshold:
        return OTHER
    return label_names[best]


def _max_probability(logits: np.ndarray, output: str) -> np.ndarray:
    return compute_probabilities(logits, output).max(axis=1)


def _energy(logits: np.ndarray, output: str) -> np.ndarray:
    if output == "sigmoid":
        return np.logaddexp(logits, 0.0).sum(axis=1)
    return np.logaddexp.reduce(logits, axis=1)


def _entropy(logits: np.ndarray, output: str) -> np.ndarray:
    """Minus the entropy, so that more means surer, as of the others."""
    p = np.clip(compute_probabilities(logits, output), 1e-12, 1.0)
    if output == "sigmoid":
        rest = np.clip(1.0 - p, 1e-12, 1.0)
        return np.sum(p * np.log(p) + rest * np.log(rest), axis=1)
    return np.sum(p * np.log(p), axis=1)


SCORES: dict[str, Callable[[np.ndarray, str], np.ndarray]] = {
    RULE: _max_probability,
    "energy": _energy,
    "entropy": _entropy,
}
"""(logits ``(clips, classes)``, softmax or sigmoid) → how much each is one of the classes."""


def compute_probabilities(logits: np.ndarray, output: str) -> np.ndarray:
    """Probabilities of logits ``(clips, classes)``; ``output`` is softmax or sigmoid."""
    logits = np.asarray(logits, np.float64)
    if output == "sigmoid":
        return np.exp(-np.logaddexp(0.0, -logits))
    return np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))


def find_threshold(scores: np.ndarray, accepted_share: float) -> float:
    """The highest threshold that at least a share of scores ``(clips,)`` reaches.

    >>> find_threshold(np.array([0.9, 0.2, 0.8, 0.7]), 0.75)
    0.7
    """
    ordered = np.sort(np.asarray(scores, np.float64))
    # The rounding error of, say, 0.05 * 320 must not cost a clip.
    num_refused = int(np.floor((1.0 - accepted_share) * len(ordered) + 1e-9))
    return float(ordered[min(num_refused, len(ordered) - 1)])


def measure_separation(inside: np.ndarray, outside: np.ndarray) -> float:
    """Area under the ROC: how often a score inside exceeds one outside; ties count half.

    >>> measure_separation(np.array([3.0, 2.0]), np.array([1.0, 2.0]))
    0.875
    """
    ordered = np.sort(outside)
    below = np.searchsorted(ordered, inside, side="left")
    not_above = np.searchsorted(ordered, inside, side="right")
    return float(np.mean(below + not_above) / (2.0 * len(ordered)))


def calibrate(
    logits: np.ndarray, labels: np.ndarray, output: str, accepted_share: float
) -> dict[str, Any]:
    """Choose the threshold by clips of the classes that the models have not heard.

    Args:
        logits: ``(clips, classes)``.
        labels: the clips' classes, int ``(clips,)``.
        output: softmax or sigmoid.
        accepted_share: how many of the clips must not be called `other`.

    Returns:
        ``threshold``, the asked ``accepted_share``, and of the clips their number, the share that
        is ``accepted``, the ``accuracy`` of all, and of those accepted
        (``accuracy_of_accepted``).
    """
    scores = SCORES[RULE](logits, output)
    threshold = find_threshold(scores, accepted_share)
    is_accepted, is_right = scores >= threshold, logits.argmax(axis=1) == labels
    return {
        "score": RULE,
        "threshold": threshold,
        "accepted_share": accepted_share,
        "clips": len(scores),
        "accepted": float(is_accepted.mean()),
        "accuracy": float(is_right.mean()),
        "accuracy_of_accepted": float(is_right[is_accepted].mean()),
    }


def measure_outside(
    outside: Mapping[str, np.ndarray], output: str, threshold: float, window_s: float, hop_s: float
) -> dict[str, Any]:
    """How often sounds from outside are given the name of a class.

    Args:
        outside: kind → logits of its windows ``(windows, classes)``.
        output: softmax or sigmoid.
        threshold: see ``calibrate``.
        window_s: length of a window in seconds.
        hop_s: seconds between the starts of two windows.

    Returns:
        ``window_s``, ``hop_s`` and, for each of ``kinds``: ``windows``, ``false_alarms`` (windows
        that are named), ``false_alarms_per_hour`` of such sound, and ``highest`` probability.
    """
    kinds = {}
    for kind, logits in outside.items():
        scores = SCORES[RULE](logits, output)
        share = float(np.mean(scores >= threshold))
        kinds[kind] = {
            "windows": len(scores),
            "false_alarms": int(np.sum(scores >= threshold)),
            "false_alarms_per_hour": share * 3600.0 / hop_s,
            "highest": float(scores.max()),
        }
    return {"window_s": window_s, "hop_s": hop_s, "kinds": kinds}


def compare_scores(
    inside: np.ndarray,
    outside: Mapping[str, np.ndarray],
    output: str,
    accepted_share: float,
) -> dict[str, dict[str, Any]]:
    """What each score could do with the same clips accepted.

    Args:
        inside: logits of clips of the classes ``(clips, classes)``.
        outside: kind → logits ``(windows, classes)``.
        output: softmax or sigmoid.
        accepted_share: of the clips.

    Returns:
        score → ``auroc`` and ``false_alarm_share`` (of windows named at a threshold of its own) by
        kind of sound, each kind with a ``mean`` of all.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, score in SCORES.items():
        ours = score(inside, output)
        threshold = find_threshold(ours, accepted_share)
        theirs = {kind: score(logits, output) for kind, logits in outside.items()}
        shares = {kind: float(np.mean(values >= threshold)) for kind, values in theirs.items()}
        areas = {kind: measure_separation(ours, values) for kind, values in theirs.items()}
        found[name] = {
            "auroc": {**areas, "mean": float(np.mean(list(areas.values())))},
            "false_alarm_share": {**shares, "mean": float(np.mean(list(shares.values())))},
        }
    return found


def format_open_set(report: Mapping[str, Any]) -> str:
    """A report of ``esc_tf.training.open_set`` as lines for a reader."""
    lines = []
    calibration = report.get("calibration")
    if calibration is not None:
        lines.append(
            f"threshold {calibration['threshold']:.4f}: {calibration['accepted']:.2%} of "
            f"{calibration['clips']} clips are named, {calibration['accuracy_of_accepted']:.2%} of "
            f"these rightly (of all clips: {calibration['accuracy']:.2%})"
        )
    outside = report["outside"]
    lines.append(
        f"false alarms at threshold {report['threshold']:.4f}, windows of "
        f"{outside['window_s']:g} s every {outside['hop_s']:g} s:"
    )
    lines += [
        f"  {kind:<10} {entry['false_alarms_per_hour']:8.1f} an hour "
        f"({entry['false_alarms']} of {entry['windows']} windows, highest {entry['highest']:.3f})"
        for kind, entry in outside["kinds"].items()
    ]
    for name, entry in report.get("scores", {}).items():
        areas = ", ".join(f"{kind} {area:.4f}" for kind, area in entry["auroc"].items())
        lines.append(f"AUROC of {name}: {areas}")
    return "\n".join(lines)
