"""One layer of a reading as figures ask for it: its features in order, and those to be shown."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from esc_tf.interpretation.explorer import METHOD_TITLES
from esc_tf.interpretation.explorer_data import order_clips
from esc_tf.interpretation.figures.canvas import format_hz, shorten
from esc_tf.interpretation.reading import ReadClip, Reading

_NUM_CLIPS = 3
_LONGEST_CLASS = 18


class LayerView:
    """A layer of a reading.

    Features keep their numbers, from 0, in all figures. Where they are ordered, it is by frequency
    of the pattern that the reading's first method (NMF) found, in the figures of all methods alike.

    Args:
        reading: what was read.
        layer: of its layers.

    Attributes:
        filters: method → W ``(bins, K)``.
        activations: H ``(clips, K, frames)``, on the disk.
    """

    def __init__(self, reading: Reading, layer: str) -> None:
        self.reading = reading
        self.layer = layer
        self.filters = {method: reading.filters(layer, method) for method in reading.methods}
        self.activations = reading.activations(layer)

    @property
    def num_features(self) -> int:
        """K."""
        return int(self.activations.shape[1])

    @cached_property
    def heard(self) -> list[int]:
        """Rows of the clips that are not silent."""
        return [row for row, clip in enumerate(self.reading.clips) if not clip.is_silent]

    @cached_property
    def shown_clips(self) -> list[int]:
        """Rows of a few clips of different classes, as the explorer's page chooses them."""
        return order_clips(self.reading.clips, 1)[:_NUM_CLIPS]

    @cached_property
    def pooled(self) -> np.ndarray:
        """Mean activations of the clips in ``heard``, float64 ``(clips, K)``."""
        return np.stack(
            [self.activations[row].mean(axis=1, dtype=np.float64) for row in self.heard]
        )

    @cached_property
    def by_share(self) -> list[int]:
        """Features that make something of the spectrograms, those that make most of them first.

        What they make is a share of the whole, a mean over the methods.
        """
        loudness = self.pooled.mean(axis=0)
        total = np.zeros(self.num_features)
        for filters in self.filters.values():
            parts = loudness * filters.sum(axis=0, dtype=np.float64)
            total += parts / (parts.sum() or 1.0)
        return [int(k) for k in np.argsort(-total, kind="stable") if total[k] > 0]

    @cached_property
    def centres(self) -> np.ndarray:
        """Mean bin of each feature's pattern, weighted by it, ``(K,)``; NaN of empty patterns.

        NMF leaves the patterns of many features empty where others say the same.
        """
        first = next(iter(self.filters.values())).astype(np.float64)
        weight = first.sum(axis=0)
        moment = np.arange(len(first)) @ first
        return np.divide(moment, weight, out=np.full_like(moment, np.nan), where=weight > 0)

    def choose_features(self, most: int) -> list[int]:
        """The features that make most of the spectrograms, from low to high patterns.

        Those whose pattern is empty come last.
        """
        places = np.nan_to_num(self.centres, nan=np.inf)
        return sorted(self.by_share[:most], key=lambda feature: float(places[feature]))

    def name_feature(self, feature: int) -> str:
        """Number and, of a pattern that is not empty, its middle: ``17 · 1.2 kHz``."""
        centre = self.centres[feature]
        if not np.isfinite(centre):
            return f"{feature}"
        hz = np.interp(
            centre, np.arange(len(self.reading.frequencies_hz)), self.reading.frequencies_hz
        )
        return f"{feature} · {format_hz(float(hz))}"


def name_method(method: str) -> str:
    """A method's title, as the explorer's page has it."""
    return METHOD_TITLES.get(method, method)


def describe_clip(clip: ReadClip) -> str:
    """A clip's true class and what the model says of it, in two short lines."""
    true = shorten(clip.true, _LONGEST_CLASS)
    if not clip.predicted:
        return true
    wrong = f"taken for {shorten(clip.predicted, _LONGEST_CLASS)}"
    return f"{true}\n{'rightly named' if clip.predicted == clip.true else wrong}"
