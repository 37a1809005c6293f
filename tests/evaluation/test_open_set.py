"""Scores, threshold and counts of `other`, against SciPy, scikit-learn and counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats
from sklearn.metrics import roc_auc_score

from esc_tf.evaluation import open_set


def draw_logits(count: int, seed: int, spread: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, spread, (count, 5))


def test_scores_of_one_label_a_clip() -> None:
    logits = draw_logits(50, 0)
    probabilities = special.softmax(logits, axis=1)
    scores = {name: score(logits, "softmax") for name, score in open_set.SCORES.items()}
    np.testing.assert_allclose(scores["max_probability"], probabilities.max(axis=1), rtol=1e-12)
    np.testing.assert_allclose(scores["energy"], special.logsumexp(logits, axis=1), rtol=1e-12)
    np.testing.assert_allclose(-scores["entropy"], stats.entropy(probabilities, axis=1), rtol=1e-9)


def test_scores_of_several_labels_a_clip() -> None:
    logits = draw_logits(50, 1)
    probabilities = special.expit(logits)
    scores = {name: score(logits, "sigmoid") for name, score in open_set.SCORES.items()}
    np.testing.assert_allclose(scores["max_probability"], probabilities.max(axis=1), rtol=1e-12)
    expected = np.log1p(np.exp(logits)).sum(axis=1)
    np.testing.assert_allclose(scores["energy"], expected, rtol=1e-12)
    each = stats.entropy(np.stack([probabilities, 1.0 - probabilities]), axis=0).sum(axis=1)
    np.testing.assert_allclose(-scores["entropy"], each, rtol=1e-9)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_logits_of_any_size_have_finite_scores(output: str) -> None:
    logits = np.array([[1e4, -1e4, 0.0], [0.0, 0.0, 0.0], [-1e4, -1e4, -1e4]])
    for score in open_set.SCORES.values():
        assert np.isfinite(score(logits, output)).all()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 0.95, 1.0])
def test_the_threshold_is_the_highest_that_accepts_the_share(share: float) -> None:
    for count in (1, 7, 20, 320):
        scores = np.random.default_rng(count).random(count)
        threshold = open_set.find_threshold(scores, share)
        assert np.mean(scores >= threshold) >= share - 1e-12
        higher = scores[scores > threshold]
        if len(higher):
            assert np.mean(scores >= higher.min()) < max(share, 1e-9)


def test_a_share_that_is_a_number_of_clips_is_met_to_the_clip() -> None:
    # 0.05 * 320 is 16.000000000000014 in floating point, and 0.95 * 320 is 304.
    scores = np.arange(320) / 320
    assert np.sum(scores >= open_set.find_threshold(scores, 0.95)) == 304


def test_separation_is_the_area_under_the_roc() -> None:
    rng = np.random.default_rng(0)
    inside = rng.integers(0, 20, 300) / 20  # with many ties
    outside = rng.integers(-5, 12, 200) / 20
    truth = np.r_[np.ones(300), np.zeros(200)]
    expected = roc_auc_score(truth, np.r_[inside, outside])
    assert open_set.measure_separation(inside, outside) == pytest.approx(expected, abs=1e-12)


def test_calibration_counts_what_it_says() -> None:
    logits = draw_logits(200, 2)
    labels = np.where(np.arange(200) % 4 == 0, 0, logits.argmax(axis=1))
    found = open_set.calibrate(logits, labels, "softmax", 0.9)
    highest = special.softmax(logits, axis=1).max(axis=1)
    accepted = highest >= found["threshold"]
    right = logits.argmax(axis=1) == labels
    assert found["clips"] == 200
    assert np.sum(accepted) == 180 and found["accepted"] == 0.9
    assert found["accuracy"] == right.mean()
    assert found["accuracy_of_accepted"] == right[accepted].mean()


def test_false_alarms_are_windows_that_get_a_name() -> None:
    sure, unsure = np.array([9.0, 0.0, 0.0]), np.zeros(3)
    outside = {"hum": np.stack([sure, unsure, unsure, unsure]), "hiss": np.stack([unsure] * 2)}
    found = open_set.measure_outside(outside, "softmax", 0.5, window_s=5.0, hop_s=2.5)
    assert (found["window_s"], found["hop_s"]) == (5.0, 2.5)
    hum, hiss = found["kinds"]["hum"], found["kinds"]["hiss"]
    assert (hum["windows"], hum["false_alarms"]) == (4, 1)
    assert hum["false_alarms_per_hour"] == 360.0  # a quarter of a window every 2.5 s
    assert hum["highest"] == pytest.approx(special.softmax(sure).max())
    assert (hiss["false_alarms"], hiss["false_alarms_per_hour"]) == (0, 0.0)


def test_scores_are_compared_at_the_same_share_of_clips() -> None:
    inside, outside = draw_logits(100, 3, 6.0), {"a": draw_logits(80, 4, 1.0)}
    found = open_set.compare_scores(inside, outside, "softmax", 0.95)
    assert set(found) == set(open_set.SCORES)
    for name, score in open_set.SCORES.items():
        ours, theirs = score(inside, "softmax"), score(outside["a"], "softmax")
        limit = np.sort(ours)[5]
        assert found[name]["false_alarm_share"]["a"] == np.mean(theirs >= limit)
        truth = np.r_[np.ones(100), np.zeros(80)]
        assert found[name]["auroc"]["mean"] == pytest.approx(
            roc_auc_score(truth, np.r_[ours, theirs])
        )


@pytest.mark.parametrize(
    ("probabilities", "threshold", "label"),
    [
        ([0.7, 0.2, 0.1], None, "dog"),
        ([0.7, 0.2, 0.1], 0.7, "dog"),
        ([0.2, 0.6, 0.2], 0.7, "other"),
        ([0.2, 0.6, 0.2], 0.0, "rain"),
    ],
)
def test_a_label_has_to_reach_the_threshold(probabilities, threshold, label) -> None:
    names = ["dog", "rain", "siren"]
    assert open_set.choose_label(np.array(probabilities), names, threshold) == label
