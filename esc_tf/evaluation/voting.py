"""From what a model says of segments to what it says of their clips, by two kinds of vote."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from esc_tf.data import CachedClip, Segment
from esc_tf.evaluation.metrics import SUMMARY_MEASURES, compute_metrics
from esc_tf.evaluation.predictions import Predictions


def group_in_order(names: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Number the names in the order in which they first appear.

    Returns:
        The number of each name's group, int ``(names,)``, and the first position of each group.

    >>> group_in_order(["b", "b", "a", "b"])
    (array([0, 0, 1, 0]), array([0, 2]))
    """
    numbers: dict[Hashable, int] = {}
    groups = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)
    return groups, np.unique(groups, return_index=True)[1]


def vote_by_probability(probabilities: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The mean probability of each class over the segments of a clip.

    Args:
        probabilities: ``(segments, classes)``.
        groups: the clip of each segment, int ``(segments,)`` from 0, none left out.

    Returns:
        float64 ``(clips, classes)``.

    >>> vote_by_probability(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0, 0]))
    array([[0.75, 0.25]])
    """
    sums = np.zeros((groups.max() + 1, probabilities.shape[1]))
    np.add.at(sums, groups, probabilities)
    return sums / np.bincount(groups)[:, np.newaxis]


def vote_by_majority(probabilities: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The share of votes of each class: each segment votes for its most probable one.

    Of classes with as many votes the one with the larger sum of probabilities wins: the mean
    probability counts as one vote more, divided among the classes, which is never worth a whole
    one. So the largest number of a row is the decision, and a row of a softmax adds up to 1.

    Args:
        probabilities: ``(segments, classes)``.
        groups: as for `vote_by_probability`.

    Returns:
        float64 ``(clips, classes)``.

    >>> scores = np.array([[0.6, 0.4, 0.0], [0.6, 0.4, 0.0], [0.0, 1.0, 0.0]])
    >>> int(vote_by_majority(scores, np.array([0, 0, 0])).argmax())
    0
    >>> int(scores.mean(axis=0).argmax())
    1
    """
    votes = np.zeros((groups.max() + 1, probabilities.shape[1]))
    np.add.at(votes, (groups, probabilities.argmax(axis=1)), 1.0)
    num_segments = np.bincount(groups)[:, np.newaxis]
    return (votes + vote_by_probability(probabilities, groups)) / (num_segments + 1)


@dataclass(frozen=True)
class Votes:
    """What the segments of each clip say together, in the order of the clips.

    Attributes:
        label_ids: the clips' classes, int ``(clips,)``.
        probabilities: by `vote_by_probability`, ``(clips, classes)``.
        majority: by `vote_by_majority`, ``(clips, classes)``.
    """

    label_ids: np.ndarray
    probabilities: np.ndarray
    majority: np.ndarray


def count_votes(found: Predictions, segments: Sequence[CachedClip]) -> Votes:
    """Let the segments of each clip vote.

    Args:
        found: what is said of each of ``segments``, in their order.
        segments: whose records name the clips.
    """
    groups, first = group_in_order([segment.record.clip_id for segment in segments])
    probabilities = found.probabilities.astype(np.float64)
    return Votes(
        label_ids=found.labels.argmax(axis=1)[first],
        probabilities=vote_by_probability(probabilities, groups),
        majority=vote_by_majority(probabilities, groups),
    )


def measure_clips(
    found: Predictions, heard: Sequence[CachedClip], label_names: Sequence[str]
) -> dict[str, Any]:
    """Measure what is said of clips, whole or in segments.

    Args:
        found: what is said of each of ``heard``, in their order.
        heard: clips or segments.
        label_names: name of each class.

    Returns:
        ``compute_metrics`` of the clips. With segments these are their probability votes, and
        there are also ``majority_voting``, the summary measures of the majority votes, and
        ``segments``, those of single segments with ``num_segments``.

    Raises:
        DataError: there are no clips.
        EscTfError: a probability is not finite.
    """
    label_ids = found.labels.argmax(axis=1)
    single = compute_metrics(label_ids, found.probabilities, label_names)
    if not any(isinstance(item, Segment) for item in heard):
        return single
    votes = count_votes(found, heard)
    majority = compute_metrics(votes.label_ids, votes.majority, label_names)
    return {
        **compute_metrics(votes.label_ids, votes.probabilities, label_names),
        "majority_voting": _summarize(majority),
        "segments": {"num_segments": len(heard), **_summarize(single)},
    }


def _summarize(metrics: dict[str, Any]) -> dict[str, Any]:
    return {key: metrics[key] for key, _ in SUMMARY_MEASURES}
