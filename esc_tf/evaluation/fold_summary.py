"""What the folds of a cross-validation say together: mean, spread, pooled confusions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from esc_tf.errors import EscTfError
from esc_tf.evaluation.metrics import SUMMARY_MEASURES

# Measures of ``compute_metrics`` that are one number a fold.
MEASURES = tuple(key for key, _ in SUMMARY_MEASURES)
# Which weights: the block of metrics.json that holds their test measures, and words for them.
SELECTIONS = {"last": ("test_last", "last epoch"), "best": ("test_best", "best validation")}


def summarize_folds(metrics: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Put the test measures of several folds together.

    Args:
        metrics: fold → what its run's ``metrics.json`` holds.

    Returns:
        A dict that JSON can hold: ``folds``, and for each of ``last`` and ``best`` (left out unless
        every fold has it) a dict of

        - ``per_fold``: list of ``fold``, ``epoch``, ``num_clips`` and the ``MEASURES``;
        - ``summary``: measure → ``mean``, ``std`` (of the sample, divisor n - 1; None for one
          fold), ``min``, ``max`` over the folds; None where a fold has no such number;
        - ``pooled``: the clips of all folds together: ``num_clips``, ``accuracy``,
          ``balanced_accuracy``, ``macro_f1``, ``per_class`` (``precision``, ``recall``, ``f1``,
          counts) and ``confusion_matrix``. Scores of different networks are not of one scale, so
          there is no pooled ROC.

    Raises:
        EscTfError: there are no folds, or their classes differ.
    """
    if not metrics:
        raise EscTfError("no fold has been tested yet; there is nothing to summarise")
    folds = sorted(metrics)
    result: dict[str, Any] = {"folds": folds}
    for key, (block, _) in SELECTIONS.items():
        if all(block in metrics[fold] for fold in folds):
            result[key] = _summarize({fold: metrics[fold][block] for fold in folds})
    return result


def _summarize(tests: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    names = {fold: [row["label_name"] for row in test["per_class"]] for fold, test in tests.items()}
    first = min(names)
    for fold, found in names.items():
        if found != names[first]:
            raise EscTfError(
                f"fold {fold} knows other classes than fold {first}; name them in data.classes"
            )
    return {
        "per_fold": [
            {"fold": fold, **{key: test[key] for key in ("epoch", "num_clips", *MEASURES)}}
            for fold, test in sorted(tests.items())
        ],
        "summary": {
            measure: _spread([test[measure] for test in tests.values()]) for measure in MEASURES
        },
        "pooled": _pool(
            np.sum([test["confusion_matrix"] for test in tests.values()], axis=0), names[first]
        ),
    }


def _spread(values: Sequence[float | None]) -> dict[str, float | None] | None:
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return None
    return {
        "mean": float(np.mean(numbers)),
        "std": float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None,
        "min": min(numbers),
        "max": max(numbers),
    }


def _pool(matrix: np.ndarray, label_names: Sequence[str]) -> dict[str, Any]:
    """Measures from counts alone; rows are true classes, columns predicted ones."""
    rows = []
    for index, name in enumerate(label_names):
        hits, count, taken = matrix[index, index], matrix[index].sum(), matrix[:, index].sum()
        rows.append(
            {
                "label_id": index,
                "label_name": name,
                "num_clips": int(count),
                "num_predicted": int(taken),
                "precision": float(hits / taken) if taken else None,
                "recall": float(hits / count) if count else None,
                "f1": float(2 * hits / (count + taken)) if count else None,
            }
        )
    present = [row for row in rows if row["num_clips"]]
    return {
        "num_clips": int(matrix.sum()),
        "accuracy": float(np.trace(matrix) / matrix.sum()),
        "balanced_accuracy": float(np.mean([row["recall"] for row in present])),
        "macro_f1": float(np.mean([row["f1"] for row in present])),
        "per_class": rows,
        "confusion_matrix": matrix.tolist(),
    }


def format_summary(result: Mapping[str, Any]) -> str:
    """The summary as text: a table of the folds, the pooled classes and confusions.

    Args:
        result: of ``summarize_folds``.
    """
    parts = [
        _format_selection(result[key], words)
        for key, (_, words) in SELECTIONS.items()
        if key in result
    ]
    return "\n\n".join(parts)


def _format_selection(block: Mapping[str, Any], words: str) -> str:
    shown = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc_macro")
    lines = [
        f"test folds, weights of the {words}",
        f"{'fold':<6}{'epoch':>6}{'clips':>7}{'accuracy':>10}{'balanced':>10}{'macro F1':>10}"
        f"{'ROC AUC':>10}",
    ]
    for row in block["per_fold"]:
        cells = "".join(_cell(row[key]) for key in shown)
        lines.append(f"{row['fold']:<6}{row['epoch']:>6}{row['num_clips']:>7}{cells}")
    for statistic in ("mean", "std", "min", "max"):
        cells = "".join(_cell((block["summary"][key] or {}).get(statistic)) for key in shown)
        lines.append(f"{statistic:<19}{cells}")
    pooled = block["pooled"]
    cells = "".join(_cell(pooled[key]) for key in shown[:3])
    lines.append(f"{'pooled':<12}{pooled['num_clips']:>7}{cells}")

    width = max(len("class"), *(len(row["label_name"]) for row in pooled["per_class"]))
    lines += ["", f"{'class':<{width}}{'clips':>7}{'precision':>11}{'recall':>10}{'F1':>10}"]
    for row in pooled["per_class"]:
        cells = f" {_cell(row['precision'])}{_cell(row['recall'])}{_cell(row['f1'])}"
        lines.append(f"{row['label_name']:<{width}}{row['num_clips']:>7}{cells}")
    lines += ["", "confusion matrix of all folds (rows: true classes, columns: predicted)"]
    cell_width = max(4, len(str(pooled["num_clips"])) + 1)
    for name, counts in zip(
        (row["label_name"] for row in pooled["per_class"]), pooled["confusion_matrix"], strict=True
    ):
        lines.append(
            f"{name:<{width}}" + "".join(f"{count or '.':>{cell_width}}" for count in counts)
        )
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return f"{'-':>10}" if value is None else f"{value:>10.4f}"
