"""A stream of blocks cut into windows that overlap, touch, or leave gaps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np


def cut_windows(
    blocks: Iterable[np.ndarray], window_samples: int, hop_samples: int
) -> Iterator[np.ndarray]:
    """Cut a waveform that comes in blocks; window ``i`` starts at sample ``i * hop_samples``.

    There is a first window always, and each further one that holds a sample which the one before
    has not, so that the windows reach to the end: ``1 + ceil((samples - window) / hop)`` of them
    where they overlap or touch. No more than a window and a block is held.

    Args:
        blocks: float32 ``(samples,)`` each, one sample or more in all.
        window_samples: length of a window.
        hop_samples: samples between the starts of two windows; more than a window leaves gaps.

    Yields:
        Windows ``(window_samples,)``; the last one may be shorter.

    >>> blocks = np.split(np.arange(7.0), [3])
    >>> [window.tolist() for window in cut_windows(blocks, 4, 2)]
    [[0.0, 1.0, 2.0, 3.0], [2.0, 3.0, 4.0, 5.0], [4.0, 5.0, 6.0]]
    """
    held = np.zeros(0, np.float32)
    num_to_skip = num_windows = 0
    for block in blocks:
        skipped = min(num_to_skip, len(block))
        num_to_skip -= skipped
        held = np.concatenate([held, block[skipped:]])
        while len(held) >= window_samples:
            # A copy: a view would keep the whole block in memory for as long as the window.
            yield held[:window_samples].copy()
            num_windows += 1
            num_to_skip = max(hop_samples - len(held), 0)
            held = held[hop_samples:]
    num_known = max(window_samples - hop_samples, 0) if num_windows else 0
    if len(held) > num_known:
        yield held


def count_windows(num_samples: int, window_samples: int, hop_samples: int) -> int:
    """Number of windows that ``cut_windows`` makes of ``num_samples``, one or more.

    >>> count_windows(7, 4, 2)
    3
    """
    new_from = max(window_samples, hop_samples)
    if num_samples <= new_from:
        return 1
    return 1 + -(-(num_samples - new_from) // hop_samples)
