"""A model's scores read through a label map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def map_scores(scores: np.ndarray, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """The best score of each group of labels.

    Args:
        scores: ``(..., labels)``.
        groups: positions of each class's labels, of ``LabelMap.find_labels``.

    Returns:
        ``(..., classes)``.

    >>> map_scores(np.array([0.1, 0.7, 0.2, 0.4]), [[0, 2], [1]]).tolist()
    [0.2, 0.7]
    """
    return np.stack([scores[..., list(group)].max(axis=-1) for group in groups], axis=-1)
