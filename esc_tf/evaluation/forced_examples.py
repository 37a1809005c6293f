"""Examples of what a front end that was forced to a spectrogram has learnt, as a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from esc_tf.files import write_atomically

EXAMPLES_FILE = "forced_spectrograms.npz"


@dataclass(frozen=True)
class ForcedExamples:
    """Learnt spectrograms beside their targets, both scaled as the loss sees them.

    Attributes:
        learnt: float32 ``(examples, time, frequency)``.
        target: the same.
        clip_ids: the clip of each.
    """

    learnt: np.ndarray
    target: np.ndarray
    clip_ids: Sequence[str]

    def write(self, folder: Path) -> None:
        """Write ``forced_spectrograms.npz``, whole or not at all."""

        def write(path: Path) -> None:
            with open(path, "wb") as file:
                np.savez_compressed(
                    file,
                    learnt=self.learnt,
                    target=self.target,
                    clip_ids=np.array(list(self.clip_ids), np.str_),
                )

        write_atomically(folder / EXAMPLES_FILE, write)


def read_forced_examples(folder: Path) -> ForcedExamples | None:
    """The examples in a run directory; None where there are none."""
    path = folder / EXAMPLES_FILE
    if not path.is_file():
        return None
    with np.load(path) as stored:
        return ForcedExamples(stored["learnt"], stored["target"], stored["clip_ids"].tolist())
