"""From power spectra to mel bands: a product with a matrix that is mostly zero."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

# A mel band spans few of the bins, so neighbouring bands are multiplied with the bins that they
# span alone. More groups would spare more products, but each is a copy of its bins.
_BANDS_PER_GROUP = 32


def count_used_bins(bank: np.ndarray) -> int:
    """How many of the lowest bins of a bank ``(bins, bands)`` count at all, at least one.

    >>> count_used_bins(np.array([[0.0, 0.0], [1.0, 0.5], [0.0, 0.5], [0.0, 0.0]]))
    3
    """
    used = np.flatnonzero(bank.any(axis=1))
    return int(used[-1]) + 1 if used.size else 1


class MelProjection:
    """``power @ bank``, group by group of neighbouring bands.

    Args:
        bank: float32 filter bank ``(bins, bands)``, its bins in the order of the powers.
    """

    def __init__(self, bank: np.ndarray) -> None:
        self._groups: list[tuple[int, int, np.ndarray]] = []
        for first in range(0, bank.shape[1], _BANDS_PER_GROUP):
            weights = bank[:, first : first + _BANDS_PER_GROUP]
            used = np.flatnonzero(weights.any(axis=1))
            # Bands narrower than a bin may be empty, all of a group at worst.
            low, high = (int(used[0]), int(used[-1]) + 1) if used.size else (0, 1)
            self._groups.append((low, high, np.ascontiguousarray(weights[low:high])))

    def __call__(self, power: Any) -> Any:
        """Map powers ``(batch, time, bins)`` to ``(batch, time, bands)``."""
        parts = [ops.matmul(power[..., low:high], weights) for low, high, weights in self._groups]
        return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)
