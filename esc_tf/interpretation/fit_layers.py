"""Finds what the features of one layer stand for, with every method, and what chance would find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from esc_tf.errors import RequestError
from esc_tf.interpretation.divergences import Divergence
from esc_tf.interpretation.filter_history import FilterHistory
from esc_tf.interpretation.nmf import check_activations, factorize, learn_patterns
from esc_tf.interpretation.reading import PLAIN_NMF, ReadingWriter
from esc_tf.interpretation.scores import (
    ClipGroups,
    ScoreRow,
    average_rows,
    compute_shares,
    score_classes,
    score_fit,
    score_patterns,
)
from esc_tf.interpretation.transform_training import order_by_frequency, train_transform
from esc_tf.interpretation.transforms import TRANSFORMS, LinearNoBiasSoftplus, build_transform
from esc_tf.interpretation.verdict import NMF, NO_CONTROL
from esc_tf.registry import look_up

METHODS = (NMF, *TRANSFORMS)
"""Ways to find W for given H, ``nmf`` first."""

# Of the floor's activations in frames that it was not fitted to, which are shown and not scored.
_PROJECTION_ITERATIONS = 100


@dataclass(frozen=True)
class FitSettings:
    """How W is found.

    Attributes:
        methods: of ``METHODS``; NMF is always among them, since the controls need it.
        divergence: minimised by all of them.
        smoothness: weight λ of the transforms' roughness.
        epochs: of the transforms.
        max_iterations: of NMF.
        shuffles: of H for each control, two or more.
        seed: of everything random.
    """

    methods: tuple[str, ...] = METHODS
    divergence: Divergence = "euclidean"
    smoothness: float = 1e-3
    epochs: int = 200
    max_iterations: int = 200
    shuffles: int = 5
    seed: int = 0


@dataclass(frozen=True)
class ChosenFrames:
    """The frames that W is fitted to and judged by: as many of every clip that is not silent.

    Attributes:
        rows: of the clips, ``(clips,)``.
        places: frames of each, rising, ``(clips, frames of a clip)``.
        num_frames: frames that a clip has.
    """

    rows: np.ndarray
    places: np.ndarray
    num_frames: int

    @classmethod
    def choose(
        cls, rows: np.ndarray, num_frames: int, max_frames: int, seed: int = 0
    ) -> ChosenFrames:
        """All frames of the clips, or at most ``max_frames`` of them all, drawn clip by clip.

        A clip gives one frame at least.
        """
        wanted = min(num_frames, max(max_frames // len(rows), 1))
        rng = np.random.default_rng(seed)
        drawn = [np.sort(rng.permutation(num_frames)[:wanted]) for _ in rows]
        return cls(rows, np.stack(drawn), num_frames)

    @property
    def is_all(self) -> bool:
        """Whether no frame of these clips is left out."""
        return self.places.shape[1] == self.num_frames

    def gather(
        self, maps: np.ndarray, rows: np.ndarray | None = None, places: np.ndarray | None = None
    ) -> np.ndarray:
        """Matrix ``(size, chosen frames)`` of maps ``(all clips, size, frames)``, clip by clip.

        Args:
            maps: read one clip at a time.
            rows: other clips in their places.
            places: other frames in their places.
        """
        rows = self.rows if rows is None else rows
        places = self.places if places is None else places
        taken = [np.asarray(maps[row])[:, frames] for row, frames in zip(rows, places, strict=True)]
        return np.concatenate(taken, axis=1)

    def average(self, matrix: np.ndarray) -> np.ndarray:
        """Mean over each clip's frames: ``(size, chosen frames)`` → ``(clips, size)``."""
        parts = matrix.reshape(len(matrix), len(self.rows), -1)
        return parts.mean(axis=2, dtype=np.float64).T

    def shuffle_time(self, maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """As ``gather``, with the frames of each clip in another order, all features alike."""
        orders = (rng.permutation(self.num_frames) for _ in self.rows)
        places = np.stack([order[taken] for order, taken in zip(orders, self.places, strict=True)])
        return self.gather(maps, places=places)

    def shuffle_clips(self, maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """As ``gather``, with the frames of another clip in the place of each clip's."""
        order = rng.permutation(len(self.rows))
        other = np.empty_like(order)
        other[order] = np.roll(order, 1)  # a circle through all clips: none keeps its own
        return self.gather(maps, rows=self.rows[other])


class LayerFit:
    """One layer: its W by every method, the floor, the controls.

    Args:
        layer: its name.
        spectrograms: V of all clips, ``(all clips, bins, frames)``.
        activations: H of all clips, ``(all clips, K, frames)``.
        frames: those to be fitted.
        groups: of their clips.
        settings: how.

    Raises:
        RequestError: V or H cannot be factorised; the layer is named.
    """

    def __init__(
        self,
        layer: str,
        spectrograms: np.ndarray,
        activations: np.ndarray,
        frames: ChosenFrames,
        groups: ClipGroups,
        settings: FitSettings,
    ) -> None:
        self._layer, self._settings = layer, settings
        self._spectrograms, self._maps = spectrograms, activations
        self._frames, self._groups = frames, groups
        self._v = frames.gather(spectrograms)
        with _naming(layer):
            self._h = check_activations(frames.gather(activations), self._v)

    def run(
        self,
        frequencies_hz: np.ndarray,
        writer: ReadingWriter,
        report: Callable[[str], object] = lambda line: None,
    ) -> list[ScoreRow]:
        """Fit everything, write the filters, return the rows of the table."""
        rows = []
        with _naming(self._layer):
            for method in self._settings.methods:
                report(f"{self._layer}: {method}")
                filters, history = self._fit(method, frequencies_hz)
                writer.write_filters(self._layer, method, filters, history)
                rows.append(self._score(method, NO_CONTROL, filters, self._h))
            report(f"{self._layer}: controls")
            rows += self._run_controls()
            report(f"{self._layer}: {PLAIN_NMF}")
            rows.append(self._fit_floor(writer))
        return rows

    @cached_property
    def _order(self) -> list[int]:
        return order_by_frequency(self._v, self._h)

    def _fit(
        self, method: str, frequencies_hz: np.ndarray
    ) -> tuple[np.ndarray, FilterHistory | None]:
        look_up(dict.fromkeys(METHODS), method, "method")
        settings = self._settings
        if method == NMF:
            return self._learn_patterns(self._h), None
        # Any W needs no order, and nothing else starts at random.
        options: dict[str, Any] = (
            {"seed": settings.seed}
            if TRANSFORMS[method] is LinearNoBiasSoftplus
            else {"order": self._order}
        )
        transform = build_transform(method, frequencies_hz, **options)
        history = train_transform(
            transform,
            self._v,
            self._h,
            divergence=settings.divergence,
            smoothness=settings.smoothness,
            epochs=settings.epochs,
            seed=settings.seed,
        )
        return transform.filters, history

    def _learn_patterns(self, activations: np.ndarray) -> np.ndarray:
        found = learn_patterns(
            self._v,
            activations,
            divergence=self._settings.divergence,
            max_iterations=self._settings.max_iterations,
        )
        return found.patterns

    def _run_controls(self) -> Iterator[ScoreRow]:
        """NMF with shuffled H, the best that any W does for it: no method would do better."""
        shuffles = {"shuffled_time": self._frames.shuffle_time}
        if len(self._frames.rows) > 1:
            shuffles["shuffled_clips"] = self._frames.shuffle_clips
        for control, shuffle in shuffles.items():
            rng = np.random.default_rng(self._settings.seed)
            rows = []
            for _ in range(self._settings.shuffles):
                shuffled = shuffle(self._maps, rng)
                filters = self._learn_patterns(shuffled)
                rows.append(self._score(NMF, control, filters, shuffled))
            yield average_rows(rows)

    def _fit_floor(self, writer: ReadingWriter) -> ScoreRow:
        rank = min(len(self._h), *self._v.shape)
        found = factorize(
            self._v,
            rank,
            divergence=self._settings.divergence,
            max_iterations=self._settings.max_iterations,
            seed=self._settings.seed,
        )
        whole = np.zeros((rank, len(self._spectrograms), self._frames.num_frames), np.float32)
        if self._frames.is_all:
            whole[:, self._frames.rows] = found.activations.reshape(
                rank, len(self._frames.rows), -1
            )
        else:
            for row in self._frames.rows:
                whole[:, row] = self._project(found.patterns, self._spectrograms[row])
        writer.write_plain_nmf(self._layer, found.patterns, whole.reshape(rank, -1))
        return self._score(PLAIN_NMF, NO_CONTROL, found.patterns, found.activations)

    def _project(self, patterns: np.ndarray, spectrogram: np.ndarray) -> np.ndarray:
        """H of a clip for a given W: the same problem as W for a given H, transposed."""
        found = learn_patterns(
            np.ascontiguousarray(spectrogram.T),
            np.ascontiguousarray(patterns.T),
            divergence=self._settings.divergence,
            max_iterations=_PROJECTION_ITERATIONS,
        )
        return found.patterns.T

    def _score(
        self, method: str, control: str, filters: np.ndarray, activations: np.ndarray
    ) -> ScoreRow:
        shares = compute_shares(filters, self._frames.average(activations))
        return ScoreRow(
            self._layer,
            method,
            control,
            len(activations),
            score_fit(self._v, filters, activations),
            score_patterns(filters),
            score_classes(shares, self._groups),
        )


@contextmanager
def _naming(layer: str) -> Iterator[None]:
    """Put the layer's name before what is wrong with its matrices."""
    try:
        yield
    except RequestError as error:
        raise RequestError([f"{layer}: {line}" for line in error.problems]) from None
