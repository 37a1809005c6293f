"""A clip keeps its rate."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from esc_tf.audio import Clip


def test_duration_comes_from_length_and_rate() -> None:
    assert Clip(np.zeros(16000, np.float32), 32000).duration_s == 0.5


def test_rate_and_samples_cannot_be_exchanged() -> None:
    clip = Clip(np.zeros(4, np.float32), 8000)
    with pytest.raises(dataclasses.FrozenInstanceError):
        clip.sample_rate_hz = 16000  # type: ignore[misc]
