"""Whether a classifier is right as often as it says: confidence against accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from esc_tf.errors import DataError


@dataclass(frozen=True)
class CalibrationBin:
    """The clips whose confidence lies in one interval.

    Attributes:
        lower: the interval's lower edge, which belongs to it only where it is 0.
        upper: its upper edge, which belongs to it.
        num_clips: how many clips fall into it.
        confidence: their mean confidence; None without clips.
        accuracy: the share of them that is classified rightly; None without clips.
    """

    lower: float
    upper: float
    num_clips: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """Confidence against accuracy over all clips.

    Attributes:
        bins: equally wide intervals of confidence from 0 to 1.
        expected_error: mean distance between confidence and accuracy of the bins, each weighted
            by its number of clips (expected calibration error, ECE), from 0 to 1.
        confidence: mean confidence of all clips.
        accuracy: the share of clips that is classified rightly.
    """

    bins: tuple[CalibrationBin, ...]
    expected_error: float
    confidence: float
    accuracy: float


def measure_calibration(
    label_ids: np.ndarray, probabilities: np.ndarray, num_bins: int = 10
) -> Calibration:
    """Measure how well the largest probability of each clip foretells that it is right.

    ``ECE = sum_b n_b / n |accuracy_b - confidence_b|`` over equally wide bins of confidence.

    Args:
        label_ids: ``(clips,)`` the true class of each clip.
        probabilities: ``(clips, classes)``; the largest is the prediction and its confidence.
        num_bins: number of bins.

    Raises:
        DataError: there are no clips.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.

    >>> measure_calibration(np.array([0, 0]), np.array([[0.9, 0.1], [0.2, 0.8]])).expected_error
    0.45
    """
    probabilities = np.asarray(probabilities, np.float64)
    if not len(probabilities):
        raise DataError("there is no clip whose confidence could be measured")
    confidence = probabilities.max(axis=1)
    is_right = probabilities.argmax(axis=1) == np.asarray(label_ids)
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    # side="left": a confidence that equals an edge falls into the bin below it.
    places = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, num_bins - 1)
    bins, error = [], 0.0
    for place in range(num_bins):
        inside = places == place
        count = int(inside.sum())
        mean = float(confidence[inside].mean()) if count else None
        right = float(is_right[inside].mean()) if count else None
        if mean is not None and right is not None:
            error += count / len(confidence) * abs(right - mean)
        bins.append(
            CalibrationBin(float(edges[place]), float(edges[place + 1]), count, mean, right)
        )
    return Calibration(
        bins=tuple(bins),
        expected_error=float(error),
        confidence=float(confidence.mean()),
        accuracy=float(is_right.mean()),
    )
