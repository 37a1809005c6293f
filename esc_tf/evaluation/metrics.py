"""The measures of a classifier on labelled clips; scikit-learn does the arithmetic.

A class without a clip has no recall, no F1 and no area under its ROC curve: these are None and
the class is listed under ``absent_classes``. Averages over classes run over the classes that have
clips.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn import metrics as sklearn_metrics
from sklearn.exceptions import UndefinedMetricWarning

from esc_tf.errors import DataError, EscTfError

TOP_K = 5

# The measures of a whole set, and how people read them.
SUMMARY_MEASURES = (
    ("accuracy", "accuracy"),
    ("top_5_accuracy", "top-5 accuracy"),
    ("balanced_accuracy", "balanced accuracy"),
    ("macro_f1", "macro F1"),
    ("roc_auc_macro", "ROC AUC, macro"),
    ("roc_auc_micro", "ROC AUC, micro"),
)

# Where clips were heard in segments, what stands beside the probability votes, and its heading.
SEGMENT_COLUMNS = (("majority_voting", "majority"), ("segments", "segments"))


def compute_metrics(
    label_ids: np.ndarray, probabilities: np.ndarray, label_names: Sequence[str]
) -> dict[str, Any]:
    """Measure predictions against labels.

    Args:
        label_ids: ``(clips,)`` the true class of each clip, from 0.
        probabilities: ``(clips, classes)`` the score of each class; the largest is the prediction.
        label_names: name of each class.

    Returns:
        A dict that JSON can hold:

        - ``num_clips``, ``num_classes``, ``absent_classes`` (names of classes without a clip);
        - ``accuracy``; ``top_5_accuracy``: the true class is among the five best (1.0 where there
          are five classes or fewer); ``balanced_accuracy``: mean recall; ``macro_f1``: mean F1;
        - ``roc_auc_macro``: mean over classes of the area under the ROC curve of each class
          against the rest; ``roc_auc_micro``: the area for all (clip, class) pairs pooled;
        - ``per_class``: list of ``label_id``, ``label_name``, ``num_clips``, ``num_predicted``,
          ``precision`` (None for a class never predicted), ``recall``, ``f1``, ``roc_auc``;
        - ``confusion_matrix``: counts, rows true classes, columns predicted ones.

        Quantities that are not defined are None.

    Raises:
        DataError: there are no clips.
        EscTfError: a probability is not finite.
        ValueError: shapes do not agree, or a label lies outside the classes.
    """
    label_ids, probabilities = _check_inputs(label_ids, probabilities, label_names)
    num_classes = len(label_names)
    predicted = probabilities.argmax(axis=1)
    counts = np.bincount(label_ids, minlength=num_classes)
    present = np.flatnonzero(counts)
    with warnings.catch_warnings():
        # Said in the result instead: classes never predicted, and classes without clips.
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
            label_ids, predicted, labels=np.arange(num_classes), zero_division=np.nan
        )
    one_hot = np.eye(num_classes, dtype=np.int64)[label_ids]
    roc_auc = [_roc_auc(one_hot[:, index], probabilities[:, index]) for index in range(num_classes)]
    f1 = np.where(counts > 0, f1, np.nan)
    return {
        "num_clips": len(label_ids),
        "num_classes": num_classes,
        "absent_classes": [
            name for name, count in zip(label_names, counts, strict=True) if not count
        ],
        "accuracy": float(sklearn_metrics.accuracy_score(label_ids, predicted)),
        "top_5_accuracy": _top_k_accuracy(label_ids, probabilities),
        "balanced_accuracy": float(recall[present].mean()),
        "macro_f1": float(f1[present].mean()),
        "roc_auc_macro": _mean_of_defined(roc_auc),
        "roc_auc_micro": _roc_auc(one_hot.ravel(), probabilities.ravel()),
        "per_class": [
            {
                "label_id": index,
                "label_name": label_names[index],
                "num_clips": int(counts[index]),
                "num_predicted": int((predicted == index).sum()),
                "precision": _number_or_none(precision[index]),
                "recall": _number_or_none(recall[index]),
                "f1": _number_or_none(f1[index]),
                "roc_auc": roc_auc[index],
            }
            for index in range(num_classes)
        ],
        "confusion_matrix": sklearn_metrics.confusion_matrix(
            label_ids, predicted, labels=np.arange(num_classes)
        ).tolist(),
    }


def measure_balanced_accuracy(label_ids: np.ndarray, predicted_ids: np.ndarray) -> float:
    """The mean recall of the classes that there are.

    Args:
        label_ids: ``(clips,)`` the true classes, one clip or more.
        predicted_ids: ``(clips,)``.

    >>> measure_balanced_accuracy(np.array([0, 0, 0, 2]), np.array([0, 0, 1, 2]))
    0.8333333333333333
    """
    hits = label_ids == predicted_ids
    return float(np.mean([hits[label_ids == label].mean() for label in np.unique(label_ids)]))


def _check_inputs(
    label_ids: np.ndarray, probabilities: np.ndarray, label_names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    label_ids = np.asarray(label_ids)
    # float64: scikit-learn ranks scores, and ties must be ties for it as they are for us.
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if label_ids.size == 0:
        raise DataError("there is no clip to evaluate; check data.classes and the fold")
    expected = (len(label_ids), len(label_names))
    if label_ids.ndim != 1 or probabilities.shape != expected:
        raise ValueError(
            f"probabilities have shape {probabilities.shape}; {label_ids.shape} labels and "
            f"{len(label_names)} class names need {expected}"
        )
    if not np.issubdtype(label_ids.dtype, np.integer):
        raise ValueError(f"label_ids must be integers, not {label_ids.dtype}")
    if label_ids.min() < 0 or label_ids.max() >= len(label_names):
        raise ValueError(
            f"label_ids lie in {label_ids.min()}..{label_ids.max()}, outside "
            f"0..{len(label_names) - 1}"
        )
    broken = int((~np.isfinite(probabilities)).any(axis=1).sum())
    if broken:
        raise EscTfError(
            f"the model's probabilities are not finite for {broken} of {len(label_ids)} clips; "
            "its weights are unusable, train again with a lower recipe.optimizer.learning_rate"
        )
    return label_ids, probabilities


def _top_k_accuracy(label_ids: np.ndarray, probabilities: np.ndarray) -> float:
    # Ties go to the first class, as with argmax. scikit-learn's own top-k lets the last win, so
    # that top-5 could lie below accuracy.
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP_K]
    return float((best == label_ids[:, np.newaxis]).any(axis=1).mean())


def _roc_auc(is_member: np.ndarray, scores: np.ndarray) -> float | None:
    if is_member.min() == is_member.max():
        return None
    return float(sklearn_metrics.roc_auc_score(is_member, scores))


def _mean_of_defined(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _number_or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def format_metrics(metrics: dict[str, Any]) -> str:
    """The measures as text: the summary, a row for each class, the most frequent confusions.

    Args:
        metrics: of ``compute_metrics``, or with segments of ``measure_clips``.
    """
    columns = [metrics, *(metrics[key] for key, _ in SEGMENT_COLUMNS if key in metrics)]
    lines = []
    if len(columns) > 1:
        titles = ["probability", *(title for _, title in SEGMENT_COLUMNS)]
        lines.append(" " * 20 + "".join(f"{title:>12}" for title in titles))
    width = 8 if len(columns) == 1 else 12
    counts = [column.get("num_segments", metrics["num_clips"]) for column in columns]
    lines.append(f"{'clips':<20}" + "".join(f"{count:>{width}}" for count in counts))
    for key, title in SUMMARY_MEASURES:
        cells = (_cell(column[key], width) for column in columns)
        lines.append(f"{title:<20}{''.join(cells)}")

    width = max(len("class"), *(len(row["label_name"]) for row in metrics["per_class"]))
    lines += ["", f"{'class':<{width}}  clips  precision  recall      F1  ROC AUC"]
    for row in metrics["per_class"]:
        lines.append(
            f"{row['label_name']:<{width}}  {row['num_clips']:>5}  {_cell(row['precision'], 9)}  "
            f"{_cell(row['recall'], 6)}  {_cell(row['f1'], 6)}  {_cell(row['roc_auc'], 7)}"
        )
    if any(row["precision"] is None for row in metrics["per_class"]):
        lines.append("-: not defined, since the class was never predicted or has no clips")
    if metrics["absent_classes"]:
        lines.append(
            f"{len(metrics['absent_classes'])} of {metrics['num_classes']} classes have no clips "
            "here; averages run over the others"
        )

    confusions = find_confusions(metrics)
    if confusions:
        lines += ["", "most frequent confusions"]
        lines += [f"{count:>5}  {true} taken for {taken}" for count, true, taken in confusions]
    return "\n".join(lines)


def find_confusions(metrics: dict[str, Any], num_rows: int = 5) -> list[tuple[int, str, str]]:
    """The most frequent (count, true class, predicted class), the largest count first."""
    names = [row["label_name"] for row in metrics["per_class"]]
    found = [
        (count, names[true], names[taken])
        for true, row in enumerate(metrics["confusion_matrix"])
        for taken, count in enumerate(row)
        if true != taken and count
    ]
    return sorted(found, key=lambda item: -item[0])[:num_rows]


def _cell(value: float | None, width: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width}.4f}"
