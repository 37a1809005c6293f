"""Votes of segments, against counting by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from esc_tf.audio.segments import SegmentPlace
from esc_tf.data.records import CachedClip, Record, Segment
from esc_tf.evaluation.metrics import compute_metrics, format_metrics, measure_balanced_accuracy
from esc_tf.evaluation.predictions import Predictions
from esc_tf.evaluation.voting import (
    count_votes,
    group_in_order,
    measure_clips,
    vote_by_majority,
    vote_by_probability,
)

NAMES = ["a", "b", "c"]


def segment(clip_id: str, label_id: int) -> Segment:
    record = Record(clip_id, label_id, NAMES[label_id], 1, clip_id)
    return Segment(record, Path("none"), 10, clip_id, SegmentPlace(0, 10, 1.0))


def predictions(labels: list[int], probabilities: np.ndarray) -> Predictions:
    one_hot = np.eye(3, dtype=np.float32)[labels]
    return Predictions(np.arange(len(labels)), one_hot, np.log(probabilities), probabilities)


@pytest.fixture
def scores() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.dirichlet([0.5] * 3, size=400)


def test_votes_of_random_clips_are_those_of_a_plain_count(scores: np.ndarray) -> None:
    groups, first = group_in_order([f"clip{number}" for number in sorted([*range(100)] * 4)])
    assert first.tolist() == list(range(0, 400, 4))
    mean, majority = vote_by_probability(scores, groups), vote_by_majority(scores, groups)
    ties = 0
    for clip in range(100):
        rows = scores[4 * clip : 4 * clip + 4]
        np.testing.assert_allclose(mean[clip], rows.sum(axis=0) / 4)
        votes = Counter(int(row.argmax()) for row in rows)
        most = max(votes.values())
        leaders = [label for label, count in votes.items() if count == most]
        ties += len(leaders) > 1
        assert majority[clip].argmax() == max(leaders, key=lambda label: rows[:, label].sum())
        assert majority[clip].sum() == pytest.approx(1.0)
    assert ties > 10  # the rule for ties has been tried


def test_a_majority_stands_against_any_sum_of_probabilities() -> None:
    rows = np.array([[0.51, 0.49, 0.0], [0.51, 0.49, 0.0], [0.0, 1.0, 0.0]])
    groups = np.zeros(3, int)
    assert vote_by_majority(rows, groups)[0].argmax() == 0
    assert vote_by_probability(rows, groups)[0].argmax() == 1


def test_clips_may_come_in_any_order_and_have_any_number_of_segments(scores: np.ndarray) -> None:
    names = ["x", "y", "x", "z", "x"]
    labels = [2, 0, 2, 1, 2]
    heard = [segment(name, label) for name, label in zip(names, labels, strict=True)]
    votes = count_votes(predictions(labels, scores[:5]), heard)
    assert votes.probabilities.shape == votes.majority.shape == (3, 3)
    assert votes.label_ids.tolist() == [2, 0, 1]
    np.testing.assert_allclose(votes.probabilities[0], scores[[0, 2, 4]].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(votes.probabilities[1], scores[1], rtol=1e-6)


def test_measures_of_clips_and_of_segments(scores: np.ndarray) -> None:
    labels = [number % 3 for number in range(20) for _ in range(4)]
    heard = [segment(f"c{place // 4}", label) for place, label in enumerate(labels)]
    found = predictions(labels, scores[:80])
    metrics = measure_clips(found, heard, NAMES)
    groups = np.repeat(np.arange(20), 4)
    by_clip = np.array(labels)[::4]
    mean = vote_by_probability(scores[:80], groups)
    assert metrics["num_clips"] == 20
    assert metrics["accuracy"] == pytest.approx(np.mean(mean.argmax(axis=1) == by_clip))
    majority = vote_by_majority(scores[:80], groups).argmax(axis=1)
    assert metrics["majority_voting"]["accuracy"] == pytest.approx(np.mean(majority == by_clip))
    predicted = scores[:80].argmax(axis=1)
    hits = predicted == np.array(labels)
    assert metrics["segments"]["num_segments"] == 80
    assert metrics["segments"]["accuracy"] == pytest.approx(hits.mean())
    recalls = [hits[np.array(labels) == label].mean() for label in range(3)]
    assert metrics["segments"]["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    text = format_metrics(metrics).splitlines()
    assert text[0].split() == ["probability", "majority", "segments"]
    assert text[1].split() == ["clips", "20", "20", "80"]
    # Clips as they are have nothing of this.
    whole = [CachedClip(item.record, item.cache_path, 10, "") for item in heard]
    plain = measure_clips(found, whole, NAMES)
    assert plain == compute_metrics(np.array(labels), scores[:80], NAMES)


def test_balanced_accuracy_is_the_mean_recall_of_the_classes_there(scores: np.ndarray) -> None:
    labels = np.array([0] * 30 + [2] * 5)
    predicted = scores[:35].argmax(axis=1)
    expected = compute_metrics(labels, scores[:35], NAMES)["balanced_accuracy"]
    assert measure_balanced_accuracy(labels, predicted) == pytest.approx(expected)
