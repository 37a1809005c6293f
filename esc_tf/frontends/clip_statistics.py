"""Statistics of each clip's spectrogram over its valid frames alone.

Everywhere ``features`` are ``(batch, time, frequency)``, ``is_valid`` is None or a boolean
``(batch, time, 1)`` with at least one True a row, and statistics are ``(batch, 1, 1)``.
"""

from __future__ import annotations

from typing import Any

from keras import ops

_STD_OFFSET = 1e-6
# Under the root of a variance, so that the gradient at a constant spectrogram is 0 and not NaN.
_SMALLEST_VARIANCE = 1e-14
_LARGEST = 3.4e38


def maximum(features: Any, is_valid: Any = None) -> Any:
    """Largest value of each clip."""
    if is_valid is not None:
        features = ops.where(is_valid, features, -_LARGEST)
    return ops.max(features, axis=(1, 2), keepdims=True)


def minimum(features: Any, is_valid: Any = None) -> Any:
    """Smallest value of each clip."""
    if is_valid is not None:
        features = ops.where(is_valid, features, _LARGEST)
    return ops.min(features, axis=(1, 2), keepdims=True)


def mean(features: Any, is_valid: Any = None) -> Any:
    """Mean of each clip.

    The last axis first, then the one that is the last now: LiteRT sums values that lie together in
    several parts, others in float32 one by one. Over the 55,000 values of a spectrogram at once,
    most of them the same silence, that was 2e-5 off.
    """
    if is_valid is None:
        return ops.mean(ops.mean(features, axis=2), axis=1)[:, None, None]
    total = ops.sum(ops.sum(ops.where(is_valid, features, 0.0), axis=2), axis=1)[:, None, None]
    num_valid = ops.sum(ops.cast(is_valid, "float32"), axis=(1, 2), keepdims=True)
    return total / (num_valid * ops.shape(features)[2])


def standardize(features: Any, is_valid: Any = None) -> Any:
    """(x - mean) / (standard deviation + 1e-6) of each clip; a constant clip becomes 0.

    The clip's maximum is taken off first: rounding of the mean of a constant such as -100 dB
    would otherwise be blown up by a division by 1e-6.
    """
    features = features - ops.stop_gradient(maximum(features, is_valid))
    centred = features - mean(features, is_valid)
    variance = mean(ops.square(centred), is_valid)
    return centred / (ops.sqrt(ops.maximum(variance, _SMALLEST_VARIANCE)) + _STD_OFFSET)


def scale_to_unit_range(features: Any, is_valid: Any = None) -> Any:
    """(x - minimum) / (maximum - minimum) of each clip; a constant clip becomes 0."""
    lowest = minimum(features, is_valid)
    extent = maximum(features, is_valid) - lowest
    return (features - lowest) / ops.where(extent > 0.0, extent, 1.0)
