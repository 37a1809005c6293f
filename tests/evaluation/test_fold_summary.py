"""Mean, spread and pooled tables of a cross-validation, against scikit-learn on all clips."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from esc_tf.errors import EscTfError
from esc_tf.evaluation.fold_summary import format_summary, summarize_folds
from esc_tf.evaluation.metrics import compute_metrics

_NAMES = ("dog", "rain", "siren")


def make_fold(seed: int, num_clips: int) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, num_clips)
    scores = rng.random((num_clips, 3)) + 0.5 * np.eye(3)[labels]
    return labels, scores, compute_metrics(labels, scores, _NAMES)


def make_folds() -> tuple[dict[int, Any], np.ndarray, np.ndarray]:
    folds = {fold: make_fold(fold, 20 + fold) for fold in (2, 1, 4)}
    metrics = {
        fold: {"test_last": {"epoch": 9, **found}, "test_best": {"epoch": fold, **found}}
        for fold, (_, _, found) in folds.items()
    }
    labels = np.concatenate([item[0] for item in folds.values()])
    predicted = np.concatenate([item[1].argmax(axis=1) for item in folds.values()])
    return metrics, labels, predicted


def test_spread_is_that_of_a_sample() -> None:
    metrics, _, _ = make_folds()
    result = summarize_folds(metrics)
    assert result["folds"] == [1, 2, 4]
    accuracies = [metrics[fold]["test_last"]["accuracy"] for fold in (1, 2, 4)]
    spread = result["last"]["summary"]["accuracy"]
    assert spread["mean"] == pytest.approx(statistics.mean(accuracies))
    assert spread["std"] == pytest.approx(statistics.stdev(accuracies))
    assert (spread["min"], spread["max"]) == (min(accuracies), max(accuracies))
    assert [row["accuracy"] for row in result["last"]["per_fold"]] == accuracies
    assert [row["epoch"] for row in result["best"]["per_fold"]] == [1, 2, 4]


def test_pooled_is_what_all_clips_together_give() -> None:
    metrics, labels, predicted = make_folds()
    pooled = summarize_folds(metrics)["last"]["pooled"]
    expected = sklearn_metrics.confusion_matrix(labels, predicted)
    np.testing.assert_array_equal(pooled["confusion_matrix"], expected)
    assert pooled["num_clips"] == len(labels)
    assert pooled["accuracy"] == pytest.approx(np.mean(labels == predicted))
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(labels, predicted)
    for key, values in (("precision", precision), ("recall", recall), ("f1", f1)):
        assert [row[key] for row in pooled["per_class"]] == pytest.approx(list(values))
    assert pooled["balanced_accuracy"] == pytest.approx(recall.mean())
    assert pooled["macro_f1"] == pytest.approx(f1.mean())


def test_best_is_left_out_unless_every_fold_has_it() -> None:
    metrics, _, _ = make_folds()
    del metrics[4]["test_best"]
    result = summarize_folds(metrics)
    assert "best" not in result
    assert "best validation" not in format_summary(result)


def test_one_fold_has_no_spread_and_a_class_without_clips_no_recall() -> None:
    labels, scores, _ = make_fold(0, 10)
    labels[:] = 0
    test = {"epoch": 1, **compute_metrics(labels, scores, _NAMES)}
    result = summarize_folds({3: {"test_last": test}})
    assert result["last"]["summary"]["accuracy"]["std"] is None
    assert result["last"]["summary"]["roc_auc_macro"] is None
    assert result["last"]["pooled"]["per_class"][1]["recall"] is None
    row = next(line for line in format_summary(result).splitlines() if line.startswith("std"))
    assert row.split() == ["std", "-", "-", "-", "-"]


def test_text_has_every_fold_and_the_mean() -> None:
    metrics, _, _ = make_folds()
    result = summarize_folds(metrics)
    text = format_summary(result)
    mean = result["last"]["summary"]["accuracy"]["mean"]
    assert f"mean                   {mean:.4f}" in text
    assert text.count("confusion matrix of all folds") == 2


def test_refusals() -> None:
    with pytest.raises(EscTfError, match="no fold has been tested"):
        summarize_folds({})
    labels, scores, found = make_fold(1, 10)
    other = compute_metrics(labels, scores, ("cat", "rain", "siren"))
    tests = {1: {"epoch": 1, **found}, 2: {"epoch": 1, **other}}
    with pytest.raises(EscTfError, match="fold 2 knows other classes than fold 1"):
        summarize_folds({fold: {"test_last": test} for fold, test in tests.items()})
