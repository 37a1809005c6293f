"""A model whose scores can be computed by hand: how loud a window is, and its last sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE_HZ = 8000
LABELS = ("quiet", "loud", "first, or last")


class LoudnessModel:
    """Three scores a window: 1 - mean |x|, mean |x|, and the last sample.

    Args:
        any_length: whether it says so.
        pad: how its training padded.
    """

    label_names = LABELS

    def __init__(self, any_length: bool = True, pad: str = "silence") -> None:
        self.any_length = any_length
        self.audio = {"sample_rate_hz": RATE_HZ, "duration_s": 4.0, "pad": pad}
        self.shapes: list[tuple[int, ...]] = []
        self.num_samples: list[int] = []

    def predict_on_batch(self, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
        waveform = inputs["waveform"]
        self.shapes.append(waveform.shape)
        self.num_samples += inputs["num_samples"].tolist()
        loudness = np.abs(waveform).mean(axis=1)
        scores = np.stack([1 - loudness, loudness, np.abs(waveform[:, -1])], axis=1)
        return {"probabilities": scores.astype(np.float32)}


def write_steps(path: Path, levels: list[float], step_s: float = 1.0) -> Path:
    """A 16-bit recording of constant levels, each for ``step_s`` seconds."""
    sound = np.repeat(np.asarray(levels, np.float32), int(step_s * RATE_HZ))
    soundfile.write(path, sound, RATE_HZ, subtype="PCM_16")
    return path
