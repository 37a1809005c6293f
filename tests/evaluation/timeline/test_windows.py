"""Windows cut from a stream are slices of the whole."""

from __future__ import annotations

import numpy as np
import pytest

from esc_tf.evaluation.timeline.windows import count_windows, cut_windows


def test_windows_are_slices_wherever_the_blocks_end() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        length, window, hop = (int(rng.integers(1, most)) for most in (60, 20, 30))
        sound = np.arange(length, dtype=np.float32)
        blocks = np.split(sound, np.sort(rng.integers(0, length + 1, rng.integers(0, 6))))
        windows = list(cut_windows(blocks, window, hop))
        assert len(windows) == count_windows(length, window, hop)
        for index, found in enumerate(windows):
            np.testing.assert_array_equal(found, sound[index * hop : index * hop + window])
            assert len(found) == window or index == len(windows) - 1
        # Nothing is left out but the gaps, and no window holds what the one before held whole.
        heard = np.zeros(length, bool)
        for index in range(len(windows)):
            part = slice(index * hop, index * hop + window)
            assert not heard[part].all()
            heard[part] = True
        assert all(heard[place] or place % hop >= window for place in range(length))


@pytest.mark.parametrize(
    ("length", "window", "hop", "expected"),
    [(1, 10, 1, 1), (10, 10, 1, 1), (11, 10, 1, 2), (20, 10, 10, 2), (21, 10, 10, 3), (9, 2, 8, 2)],
)
def test_how_many_there_are(length: int, window: int, hop: int, expected: int) -> None:
    assert count_windows(length, window, hop) == expected


def test_a_window_does_not_hold_on_to_its_block() -> None:
    (window, *_) = cut_windows([np.zeros(100_000, np.float32)], 10, 10)
    assert window.base is None
