"""Feature maps made the matrix H of a non-negative factorisation, in step with a spectrogram.

NumPy alone. A map ``(frames, bands, channels)`` of one clip becomes ``H`` ``(components, frames)``
in three steps, always in this order: made non-negative, pooled over frequency, aligned in time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np

from esc_tf.errors import RequestError
from esc_tf.registry import look_up

Pooling = Literal["mean", "max", "bands"]
"""``mean`` or ``max`` over frequency: a component a channel; ``bands``: one a channel and band."""

NegativeRule = Literal["refuse", "rectify", "split"]
"""What becomes of negative values: ``refuse`` is an error, ``rectify`` puts 0 in their place,
``split`` makes two components of each, first all positive parts, then all negative ones."""

_MAP_RANK = 3
# What rounding leaves of a ReLU on the way through other formats, of the largest value.
_ROUNDING = 1e-6


def compute_h(
    feature_map: np.ndarray,
    map_times_s: Sequence[float],
    frame_times_s: Sequence[float],
    pooling: Pooling = "mean",
    negative: NegativeRule = "refuse",
    name: str = "the activation",
) -> np.ndarray:
    """H of one clip.

    Args:
        feature_map: ``(frames, bands, channels)``, or ``(frames, channels)`` without frequency.
        map_times_s: centre of each of its frames, rising.
        frame_times_s: centres of the spectrogram's frames.
        pooling: over frequency.
        negative: what becomes of negative values; a map behind a ReLU has none.
        name: of the activation, for messages.

    Returns:
        float32 ``(components, len(frame_times_s))``, no value below 0. Components are in the order
        of the channels; with ``bands`` component ``channel * bands + band``.

    Raises:
        RequestError: the map has no time axis, values that are not finite or negative ones that
            are refused; an unknown rule.
    """
    feature_map = np.asarray(feature_map, np.float32)
    if feature_map.ndim not in (2, _MAP_RANK):
        raise RequestError(
            f"{name}: one clip's values are of shape {feature_map.shape}, which has no time; name "
            "a feature map (time, frequency, channel)"
        )
    if not np.isfinite(feature_map).all():
        raise RequestError(
            f"{name}: holds NaN or infinite values; mend the model or name another activation"
        )
    if feature_map.ndim == _MAP_RANK - 1:
        feature_map = feature_map[:, np.newaxis]
    pooled = pool_frequency(make_non_negative(feature_map, negative, name), pooling)
    return align_in_time(pooled, map_times_s, frame_times_s)


def make_non_negative(feature_map: np.ndarray, rule: NegativeRule, name: str) -> np.ndarray:
    """Apply a rule to a map ``(frames, bands, channels)``; ``split`` doubles the channels.

    Raises:
        RequestError: negative values that are refused (more than a millionth of the largest, which
            is rounding and becomes 0); no such rule.
    """
    look_up(dict.fromkeys(get_args(NegativeRule)), rule, "rule for negative activations")
    positive = np.maximum(feature_map, 0.0)
    if rule == "split":
        return np.concatenate([positive, np.maximum(-feature_map, 0.0)], axis=-1)
    lowest = feature_map.min(initial=0.0)
    if rule == "refuse" and lowest < -_ROUNDING * np.abs(feature_map).max(initial=0.0):
        raise RequestError(
            f"{name}: has negative values (down to {lowest:.3g}), and the factorisation takes none;"
            " name an activation behind a ReLU, or choose the rule `rectify` or `split`"
        )
    return positive


def pool_frequency(feature_map: np.ndarray, pooling: Pooling) -> np.ndarray:
    """A map ``(frames, bands, channels)`` → ``(components, frames)``.

    >>> pool_frequency(np.array([[[1.0, 5.0], [3.0, 7.0]]]), "mean").tolist()
    [[2.0], [6.0]]

    Raises:
        UnknownNameError: no such pooling.
    """
    poolings: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "mean": lambda values: values.mean(axis=1).T,
        "max": lambda values: values.max(axis=1).T,
        "bands": lambda values: values.transpose(2, 1, 0).reshape(-1, len(values)),
    }
    return look_up(poolings, pooling, "pooling over frequency")(feature_map)


def align_in_time(
    h: np.ndarray, map_times_s: Sequence[float], frame_times_s: Sequence[float]
) -> np.ndarray:
    """Interpolate between the frames of a map, linearly, at the frames of a spectrogram.

    Before its first and behind its last frame a map keeps its value there. Nothing becomes
    negative, and where the times are the same the values are.

    Args:
        h: ``(components, map frames)``.
        map_times_s: centres of the map's frames, rising.
        frame_times_s: centres of the spectrogram's frames.

    Returns:
        float32 ``(components, len(frame_times_s))``.

    >>> align_in_time(np.array([[0.0, 4.0]]), [1.0, 2.0], [0.0, 1.25, 2.0, 9.0]).tolist()
    [[0.0, 1.0, 4.0, 4.0]]

    Raises:
        ValueError: other numbers of times than of frames, or times that do not rise.
    """
    times = np.asarray(map_times_s, np.float64)
    if times.shape != (h.shape[1],) or (np.diff(times) <= 0).any():
        raise ValueError(f"{h.shape[1]} frames need as many rising times, not {times.shape}")
    wanted = np.asarray(frame_times_s, np.float64)
    # Place of each wanted time among the map's frames: the frame before it and the share of the
    # next one.
    places = np.interp(wanted, times, np.arange(len(times)))
    before = np.minimum(places.astype(int), max(len(times) - 2, 0))
    behind = np.minimum(before + 1, len(times) - 1)
    share = (places - before).astype(np.float32)
    return ((1 - share) * h[:, before] + share * h[:, behind]).astype(np.float32)
