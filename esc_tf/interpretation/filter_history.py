"""How filters changed while they were trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FilterHistory:
    """How a method came to its filters.

    Attributes:
        losses: float64 ``(epochs,)``, the objective that was minimised: of each epoch a mean over
            its batches, each before its update.
        epochs: int ``(kept,)``: those of which the filters are kept, 0 the start, the last the end.
        filters: float32 ``(kept, bins, K)``, in the unit of the spectrogram.
    """

    losses: np.ndarray
    epochs: np.ndarray
    filters: np.ndarray
