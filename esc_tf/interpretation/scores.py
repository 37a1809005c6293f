"""How well features explain a spectrogram, what their patterns are like, and what chance does."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import BaseCrossValidator, LeaveOneGroupOut, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

_MOST_PARTS = 5


@dataclass(frozen=True)
class FitScores:
    """What a pair W, H does for V.

    Attributes:
        error: ‖V - W H‖ / ‖V‖ (Frobenius): 0 is perfect, 1 as bad as nothing.
        variance_explained: 1 - ‖V - W H‖² / ‖V - mean of each bin‖²: 0 is as good as the mean
            spectrum, 1 perfect; negative: worse than the mean spectrum.
    """

    error: float
    variance_explained: float


@dataclass(frozen=True)
class PatternScores:
    """What the columns of W are like; those of features that never fire are left out.

    Attributes:
        roughness: mean squared difference of neighbouring bins of a column, scaled so that its
            bins have a mean of 1; 0: flat. The smoother, the lower.
        sparsity: Hoyer's measure, a mean over columns: 0: all bins alike, 1: a single bin.
        num_features: columns that are not zero.
    """

    roughness: float
    sparsity: float
    num_features: int


@dataclass(frozen=True)
class Discriminability:
    """How well what each feature explains of a clip tells the clip's class.

    Both are of the clip's shares, see ``compute_shares``, under a square root, which makes
    Euclidean distances those of Hellinger.

    Attributes:
        accuracy: share of clips that a logistic regression names rightly which has not seen their
            fold; None where it cannot be trained.
        eta_squared: share of the variance that lies between classes, 0 to 1; that of random
            features is about (classes - 1) / (clips - 1).
    """

    accuracy: float | None
    eta_squared: float | None


@dataclass(frozen=True)
class ClipGroups:
    """How clips are divided to test a classifier: by fold, or where there is one, by recording.

    Attributes:
        labels: int ``(clips,)``.
        groups: int ``(clips,)``; clips of one group are tested together.
        is_by_fold: whether the groups are the data's folds, each of which is a part.
        seed: of the parts that are drawn from recordings.
    """

    labels: np.ndarray
    groups: np.ndarray
    is_by_fold: bool
    seed: int = 0

    @classmethod
    def build(
        cls, labels: Sequence[str], folds: Sequence[int], sources: Sequence[str], seed: int = 0
    ) -> ClipGroups:
        """Groups of clips with these classes, folds and recordings."""
        is_by_fold = len(set(folds)) > 1
        groups = [str(fold) for fold in folds] if is_by_fold else list(sources)
        return cls(
            np.unique(np.asarray(labels), return_inverse=True)[1],
            np.unique(np.asarray(groups), return_inverse=True)[1],
            is_by_fold,
            seed,
        )

    @property
    def num_classes(self) -> int:
        """Classes that are there."""
        return len(np.unique(self.labels))

    @property
    def guess_accuracy(self) -> float:
        """Of naming the most frequent class every time."""
        return float(np.bincount(self.labels).max() / len(self.labels))

    @property
    def chance_eta_squared(self) -> float:
        """What random features have on average."""
        return (self.num_classes - 1) / max(len(self.labels) - 1, 1)

    def describe(self) -> str:
        """The division in words; empty: the clips cannot be divided."""
        if self._choose_parts() is None:
            return ""
        if self.is_by_fold:
            return f"leave one of {len(np.unique(self.groups))} folds out"
        return f"{self._count_parts()} parts drawn class by class, recordings kept together"

    def split(self, values: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Rows to train on and rows to test, part by part; none where that cannot be done."""
        parts = self._choose_parts()
        if parts is None:
            return []
        with warnings.catch_warnings():
            # A class with fewer recordings than parts is missing from some, which is no harm.
            warnings.filterwarnings("ignore", message="The least populated class")
            found = list(parts.split(values, self.labels, self.groups))
        return [(train, test) for train, test in found if len(np.unique(self.labels[train])) > 1]

    def _count_parts(self) -> int:
        recordings = [
            len(np.unique(self.groups[self.labels == label])) for label in np.unique(self.labels)
        ]
        return min(_MOST_PARTS, *recordings) if len(recordings) > 1 else 0

    def _choose_parts(self) -> BaseCrossValidator | None:
        if self.num_classes < 2:
            return None
        if self.is_by_fold:
            return LeaveOneGroupOut()
        count = self._count_parts()
        if count < 2:
            return None
        return StratifiedGroupKFold(count, shuffle=True, random_state=self.seed)


def score_fit(spectrogram: np.ndarray, filters: np.ndarray, activations: np.ndarray) -> FitScores:
    """Compare V ``(bins, frames)`` with W ``(bins, K)`` times H ``(K, frames)``.

    >>> score_fit(np.array([[0.0, 2.0]]), np.array([[1.0]]), np.array([[1.0, 1.0]]))
    FitScores(error=0.7071067811865476, variance_explained=0.0)
    """
    wanted = spectrogram.astype(np.float64)
    missed = float(np.square(wanted - filters.astype(np.float64) @ activations).sum())
    energy = float(np.square(wanted).sum())
    spread = float(np.square(wanted - wanted.mean(axis=1, keepdims=True)).sum())
    return FitScores(
        float(np.sqrt(missed / energy)),
        1.0 - missed / spread if spread > 0 else float(missed == 0),
    )


def score_patterns(filters: np.ndarray) -> PatternScores:
    """Describe the columns of W ``(bins, K)``, of two bins or more.

    Source of the sparsity: Hoyer 2004, (√n - ‖w‖₁ / ‖w‖₂) / (√n - 1).

    >>> found = score_patterns(np.array([[1.0, 0.0, 0.0], [1.0, 2.0, 0.0]]))
    >>> found.roughness, round(found.sparsity, 6), found.num_features
    (2.0, 0.5, 2)
    """
    alive = filters[:, filters.any(axis=0)].astype(np.float64)
    num_bins, num_features = alive.shape
    if not num_features:
        return PatternScores(0.0, 0.0, 0)
    columns = alive / alive.mean(axis=0)
    roughness = float(np.square(np.diff(columns, axis=0)).mean())
    ratios = columns.sum(axis=0) / np.linalg.norm(columns, axis=0)
    sparsity = (np.sqrt(num_bins) - ratios) / (np.sqrt(num_bins) - 1.0)
    return PatternScores(roughness, float(np.clip(sparsity, 0.0, 1.0).mean()), num_features)


def compute_shares(filters: np.ndarray, pooled: np.ndarray) -> np.ndarray:
    """The part of each clip's rebuilt spectrogram that each feature makes.

    ``share[c, k] = Σ_f W[f, k] · Σ_t H_c[k, t] / Σ_k …``: it depends on the method by how much
    each pattern weighs.

    Args:
        filters: W, ``(bins, K)``.
        pooled: mean activations ``(clips, K)``.

    Returns:
        float64 ``(clips, K)``, each row with a sum of 1; of zeros where nothing is explained.
    """
    parts = pooled.astype(np.float64) * filters.sum(axis=0, dtype=np.float64)
    whole = parts.sum(axis=1, keepdims=True)
    return np.divide(parts, whole, out=np.zeros_like(parts), where=whole > 0)


def score_classes(shares: np.ndarray, groups: ClipGroups) -> Discriminability:
    """How well shares ``(clips, K)`` tell the classes; see ``Discriminability``."""
    if groups.num_classes < 2:
        return Discriminability(None, None)
    values = np.sqrt(shares)
    deviations = values - values.mean(axis=0)
    total = float(np.square(deviations).sum())
    between = sum(
        int(rows.sum()) * float(np.square(deviations[rows].mean(axis=0)).sum())
        for rows in (groups.labels == label for label in np.unique(groups.labels))
    )
    return Discriminability(_test_classifier(values, groups), between / total if total > 0 else 0.0)


def _test_classifier(values: np.ndarray, groups: ClipGroups) -> float | None:
    num_right = num_tested = 0
    for train, test in groups.split(values):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
        with warnings.catch_warnings():
            # What is not quite at its optimum after 500 steps is measured as it is.
            warnings.simplefilter("ignore", ConvergenceWarning)
            classifier.fit(values[train], groups.labels[train])
        num_right += int((classifier.predict(values[test]) == groups.labels[test]).sum())
        num_tested += len(test)
    return num_right / num_tested if num_tested else None


@dataclass(frozen=True)
class ScoreRow:
    """A row of the table: a layer and method, with H as it is, or shuffled as a control.

    Numbers of a control are means over its shuffles.

    Attributes:
        layer: its name.
        method: ``nmf``, a transform, or ``plain_nmf``, the floor.
        control: ``none``; ``shuffled_time``: each clip's frames in another order;
            ``shuffled_clips``: each clip with the activations of another.
        rank: features, silent ones included.
        fit: error and variance explained.
        patterns: roughness and sparsity of W, features that fire.
        classes: discriminability.
        errors: of a control, the error of each shuffle.
    """

    layer: str
    method: str
    control: str
    rank: int
    fit: FitScores
    patterns: PatternScores
    classes: Discriminability
    errors: tuple[float, ...] = ()

    @property
    def error_std(self) -> float | None:
        """Standard deviation of the errors of a control's shuffles; None: fewer than two."""
        return float(np.std(self.errors, ddof=1)) if len(self.errors) > 1 else None

    def describe(self) -> dict[str, Any]:
        """As ``reading.json`` has it: one flat row."""
        return {
            "layer": self.layer,
            "method": self.method,
            "control": self.control,
            "rank": self.rank,
            **asdict(self.fit),
            **asdict(self.patterns),
            **asdict(self.classes),
            "error_std": self.error_std,
            "errors": list(self.errors),
        }


def average_rows(rows: Sequence[ScoreRow]) -> ScoreRow:
    """One row of a control's shuffles, all of the same layer, method and control."""

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    def mean_of(parts: Sequence[Any]) -> dict[str, Any]:
        fields = asdict(parts[0])
        return {name: mean([getattr(part, name) for part in parts]) for name in fields}

    first = rows[0]
    patterns = mean_of([row.patterns for row in rows])
    return ScoreRow(
        first.layer,
        first.method,
        first.control,
        first.rank,
        FitScores(**mean_of([row.fit for row in rows])),
        PatternScores(**{**patterns, "num_features": first.patterns.num_features}),
        Discriminability(**mean_of([row.classes for row in rows])),
        tuple(row.fit.error for row in rows),
    )
