"""A waveform brought to one length, in NumPy, as `esc_tf.data.length` does it in the graph."""

from __future__ import annotations

import numpy as np


def fit_waveform(
    waveform: np.ndarray, num_samples_wanted: int, pad: str, crop: str
) -> tuple[np.ndarray, int]:
    """Pad or crop a waveform to ``num_samples_wanted`` samples.

    Args:
        waveform: ``(samples,)``, at least one sample.
        num_samples_wanted: samples of the result.
        pad: where a shorter clip lies: ``end`` and ``silence`` (zeros behind it), ``center``
            (zeros on both sides, the odd one behind) or ``repeat`` (again and again, the last
            time cut off).
        crop: which part of a longer clip is kept: ``start``, or the centre.

    Returns:
        The waveform ``(num_samples_wanted,)`` and the number of its valid samples: less than
        ``num_samples_wanted`` only for ``pad="end"``.

    >>> fit_waveform(np.arange(3.0), 6, "center", "start")
    (array([0., 0., 1., 2., 0., 0.]), 6)
    """
    wanted, surplus = num_samples_wanted, max(len(waveform) - num_samples_wanted, 0)
    start = 0 if crop == "start" else surplus // 2
    waveform = waveform[start : start + wanted]
    missing = wanted - len(waveform)
    if pad == "repeat":
        return np.resize(waveform, wanted), wanted
    before = missing // 2 if pad == "center" else 0
    fitted = np.pad(waveform, (before, missing - before))
    return fitted, wanted - missing if pad == "end" else wanted
