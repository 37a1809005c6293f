"""What a model says of a recording over time, kept on disk, so that its length does not matter."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

# Windows that are in memory at a time when scores are read back.
_CHUNK_WINDOWS = 1024


class Timeline:
    """The scores of a recording's windows, in a nameless file; a context manager.

    Window ``i`` starts at ``i * hop_samples``. The windows share whole samples, so that times
    neither drift nor depend on rounding.

    Args:
        label_names: what the scores belong to.
        sample_rate_hz: rate in which lengths are counted.
        window_samples: length of a window.
        hop_samples: samples between the starts of two windows.
        other_threshold: a window of which no label has this score is none of them; None: unknown.
        folder: where the scores lie meanwhile, 4 bytes each; the file vanishes with the process.

    Attributes:
        num_windows: how many there are so far.
        num_samples: length of what was heard of the recording.
        problem: why that is less than the recording, or None.
        input_samples: length that each window is padded to before the model hears it;
            ``window_samples`` if it is not.
        highest: best score of each label, float32 ``(labels,)``.
        highest_at: the window it has it in, int ``(labels,)``.
        num_led: windows in which each label is the best, int ``(labels,)``, those of no label
            among them.
        num_other: windows that are none of the labels.
    """

    def __init__(
        self,
        label_names: Sequence[str],
        *,
        sample_rate_hz: int,
        window_samples: int,
        hop_samples: int,
        other_threshold: float | None = None,
        folder: str | Path | None = None,
    ) -> None:
        self.label_names = tuple(label_names)
        self.sample_rate_hz = sample_rate_hz
        self.window_samples = window_samples
        self.hop_samples = hop_samples
        self.other_threshold = other_threshold
        self.num_windows = self.num_other = 0
        self.num_samples = 0
        self.problem: str | None = None
        self.input_samples = window_samples
        self.highest = np.full(len(label_names), -np.inf, np.float32)
        self.highest_at = np.zeros(len(label_names), np.int64)
        self.num_led = np.zeros(len(label_names), np.int64)
        self._file = tempfile.TemporaryFile(  # noqa: SIM115 - the timeline is the context
            dir=folder, prefix="esc_tf.partial"
        )

    def __enter__(self) -> Timeline:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    @property
    def duration_s(self) -> float:
        """Length in seconds of what was heard."""
        return self.num_samples / self.sample_rate_hz

    @property
    def window_s(self) -> float:
        """Length of a window in seconds."""
        return self.window_samples / self.sample_rate_hz

    @property
    def hop_s(self) -> float:
        """Seconds between the starts of two windows."""
        return self.hop_samples / self.sample_rate_hz

    @property
    def padded_to_s(self) -> float | None:
        """The length in seconds that every window is padded to, or None."""
        if self.input_samples == self.window_samples:
            return None
        return self.input_samples / self.sample_rate_hz

    @property
    def last_window_s(self) -> float:
        """Seconds of the recording in the last window; less than a window where it was padded."""
        start = (self.num_windows - 1) * self.hop_samples
        return min(self.window_samples, self.num_samples - start) / self.sample_rate_hz

    def find_middle_s(self, index: int) -> float:
        """Time in seconds of the middle of the sound in a window."""
        start = index * self.hop_samples
        end = min(start + self.window_samples, self.num_samples)
        return (start + end) / 2 / self.sample_rate_hz

    def append(self, scores: np.ndarray) -> None:
        """Add the scores ``(windows, labels)`` of the next windows."""
        scores = np.ascontiguousarray(scores, np.float32)
        if not len(scores):
            return
        best = scores.max(axis=0)
        is_higher = best > self.highest
        self.highest_at[is_higher] = (self.num_windows + scores.argmax(axis=0))[is_higher]
        self.highest = np.maximum(self.highest, best)
        self.num_led += np.bincount(scores.argmax(axis=1), minlength=len(self.label_names))
        if self.other_threshold is not None:
            self.num_other += int(np.sum(scores.max(axis=1) < self.other_threshold))
        self._file.write(scores.tobytes())
        self.num_windows += len(scores)

    def read_scores(self, chunk_windows: int = _CHUNK_WINDOWS) -> Iterator[np.ndarray]:
        """Yield all scores in order, float32 ``(windows, labels)``, ``chunk_windows`` at a time."""
        row_bytes = 4 * len(self.label_names)
        for first in range(0, self.num_windows, chunk_windows):
            count = min(chunk_windows, self.num_windows - first)
            self._file.seek(first * row_bytes)
            content = self._file.read(count * row_bytes)
            yield np.frombuffer(content, np.float32).reshape(count, -1)

    def read_rows(self) -> Iterator[tuple[float, float, np.ndarray]]:
        """Yield start and end in seconds and scores ``(labels,)`` of each window.

        The end is that of the sound: a last window that was padded is shorter.
        """
        index = 0
        for scores in self.read_scores():
            for row in scores:
                start = index * self.hop_samples
                end = min(start + self.window_samples, self.num_samples)
                yield start / self.sample_rate_hz, end / self.sample_rate_hz, row
                index += 1

    def find_shown(self, threshold: float, most: int) -> list[int]:
        """The labels that are worth a row in a figure, those that lead most windows first.

        Args:
            threshold: a label is worth one if it ever is the best or reaches this score.
            most: how many there may be.
        """
        worth = np.flatnonzero((self.num_led > 0) | (self.highest >= threshold))
        order = np.lexsort((-self.highest[worth], -self.num_led[worth]))
        return worth[order][:most].tolist()

    def count_shown(self, threshold: float) -> int:
        """How many labels ever are the best or reach ``threshold``."""
        return int(((self.num_led > 0) | (self.highest >= threshold)).sum())

    def reduce_columns(self, labels: Sequence[int], most: int) -> tuple[np.ndarray, int]:
        """The scores of some labels in so few columns that a figure can show each.

        Args:
            labels: positions of the labels.
            most: columns that there may be.

        Returns:
            The highest scores ``(columns, labels)``, and the number of windows in a column; the
            last column may have fewer.
        """
        merged = -(-self.num_windows // most)
        columns = [
            np.maximum.reduceat(scores[:, list(labels)], np.arange(0, len(scores), merged), axis=0)
            for scores in self.read_scores(merged * max(1, _CHUNK_WINDOWS // merged))
        ]
        return np.concatenate(columns), merged
