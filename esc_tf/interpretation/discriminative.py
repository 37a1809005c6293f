"""Which hidden features tell a class from the others, and with which sign. NumPy and SciPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

STATISTIC = (
    "rank-biserial correlation of the mean activation, recordings of one class against all others"
)
TEST = "two-sided Mann-Whitney U; p-values by Benjamini-Hochberg over all classes and features"
_SIGNIFICANT_DIGITS = 6


@dataclass(frozen=True)
class ClassDifferences:
    """How each feature differs between one class and all others.

    The unit is the recording: clips that were cut from one are averaged, since they are not
    independent.

    Attributes:
        classes: names of those that are there, in order of the labels.
        folds: those in which some class can be compared with others.
        effect: ``(classes, features)``, from -1 (less in every recording of the class than in any
            other) over 0 to 1 (more in every one).
        p_value: ``(classes, features)``, two-sided, of no difference.
        adjusted_p: the same after Benjamini and Hochberg's correction for all of them.
        fold_effect: ``(classes, folds, features)``: the effect among the recordings of a fold; NaN
            where it has none of the class, or no others.
        consistent: ``(classes, features)``: 1 if the effect has the same sign in every fold that
            can tell, 0 if not, NaN if fewer than two folds can.
    """

    classes: tuple[str, ...]
    folds: tuple[int, ...]
    effect: np.ndarray
    p_value: np.ndarray
    adjusted_p: np.ndarray
    fold_effect: np.ndarray
    consistent: np.ndarray

    def describe(self) -> dict[str, Any]:
        """As ``reading.json`` has it: nested lists, null for NaN, and what the numbers are."""
        return {
            "statistic": STATISTIC,
            "test": TEST,
            "unit": "recording",
            "classes": list(self.classes),
            "folds": list(self.folds),
            "effect": _to_lists(self.effect),
            "p_value": _to_lists(self.p_value),
            "adjusted_p": _to_lists(self.adjusted_p),
            "fold_effect": _to_lists(self.fold_effect),
            "consistent": _to_lists(self.consistent, bool),
        }


def compare_classes(
    pooled: np.ndarray,
    labels: Sequence[str],
    label_names: Sequence[str],
    folds: Sequence[int],
    sources: Sequence[str],
) -> ClassDifferences:
    """Compare every class with all others, feature by feature.

    Args:
        pooled: ``(clips, features)``, e.g. mean activations.
        labels: name of each clip's class.
        label_names: the order of the classes; those without clips are left out.
        folds: of each clip.
        sources: the recording of each clip; those of one class and recording are averaged.

    Returns:
        Without classes (``(0, features)``) where all clips are of one class.
    """
    values, label_of, fold_of = _average_recordings(pooled, labels, folds, sources)
    classes = [name for name in label_names if (label_of == name).any()]
    if len(classes) < 2:
        classes = []
    inside = {fold: fold_of == fold for fold in sorted(set(fold_of.tolist()))}
    shape = (len(classes), values.shape[1])
    effect, p_value = np.zeros(shape), np.ones(shape)
    fold_effect = np.full((len(classes), len(inside), values.shape[1]), np.nan)
    for row, name in enumerate(classes):
        is_class = label_of == name
        effect[row], p_value[row] = compare_groups(values[is_class], values[~is_class])
        for column, in_fold in enumerate(inside.values()):
            first, second = values[is_class & in_fold], values[~is_class & in_fold]
            if len(first) and len(second):
                fold_effect[row, column] = compare_groups(first, second)[0]
    adjusted = p_value
    if p_value.size:
        adjusted = stats.false_discovery_control(p_value, axis=None).reshape(shape)
    return ClassDifferences(
        tuple(classes), tuple(inside), effect, p_value, adjusted, fold_effect,
        _find_consistent(fold_effect),
    )  # fmt: skip


def compare_groups(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank-biserial correlation and p-value of Mann and Whitney's test, column by column.

    Args:
        first: ``(n, features)``, at least one row.
        second: ``(m, features)``, at least one row.

    Returns:
        The effect, positive where ``first`` is larger: the share of pairs in which it is larger
        less the share in which it is smaller; and its p-value (normal approximation with
        correction for ties and continuity), 1 where all values are equal. ``(features,)`` both.

    >>> effect, _ = compare_groups(np.array([[3.0], [4.0]]), np.array([[1.0], [2.0], [3.5]]))
    >>> effect.round(3).tolist()
    [0.667]
    """
    both = np.concatenate([first, second])
    effect, p_value = np.zeros(both.shape[1]), np.ones(both.shape[1])
    varies = (both != both[0]).any(axis=0)
    if varies.any():
        found = stats.mannwhitneyu(
            first[:, varies], second[:, varies], alternative="two-sided", method="asymptotic"
        )
        effect[varies] = 2.0 * found.statistic / (len(first) * len(second)) - 1.0
        p_value[varies] = found.pvalue
    return effect, p_value


def _average_recordings(
    pooled: np.ndarray, labels: Sequence[str], folds: Sequence[int], sources: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    groups: dict[tuple[str, str, int], list[int]] = {}
    for row, key in enumerate(zip(labels, sources, folds, strict=True)):
        groups.setdefault(key, []).append(row)
    values = np.stack([pooled[rows].mean(axis=0, dtype=np.float64) for rows in groups.values()])
    return (
        values,
        np.array([label for label, _, _ in groups]),
        np.array([fold for _, _, fold in groups]),
    )


def _find_consistent(fold_effect: np.ndarray) -> np.ndarray:
    told = np.isfinite(fold_effect)
    is_positive = ((fold_effect > 0) | ~told).all(axis=1)
    is_negative = ((fold_effect < 0) | ~told).all(axis=1)
    return np.where(told.sum(axis=1) >= 2, (is_positive | is_negative).astype(float), np.nan)


def _to_lists(values: np.ndarray, kind: type = float) -> Any:
    if values.ndim:
        return [_to_lists(part, kind) for part in values]
    if not np.isfinite(values):
        return None
    return kind(float(f"{float(values):.{_SIGNIFICANT_DIGITS}g}"))
