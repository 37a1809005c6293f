"""What a network is made of: parameters, weights, activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from esc_tf.evaluation.report.figures.drawing import INK, SERIES, draw_svg, encode_png

_NUM_BINS = 60
# Pixels between the maps of a montage, and about how wide a map is: small ones are enlarged, so
# that the gap stays a gap.
_GAP = 2
_MAP_WIDTH = 108


def draw_part_shares(parts: Sequence[Mapping[str, Any]], key: str) -> str:
    """Draw each part's share of the parameters and of the multiply-adds, in percent."""
    names = [part["name"] for part in parts]
    quantities = (("trainable_parameters", "parameters"), ("multiply_adds", "multiply-adds"))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        places = np.arange(len(names))
        for index, (quantity, title) in enumerate(quantities):
            values = np.array([part[quantity] for part in parts], np.float64)
            percent = 100.0 * values / max(values.sum(), 1.0)
            bars = axes.barh(
                places + 0.4 * (index - 0.5),
                percent,
                height=0.36,
                color=SERIES[index],
                label=f"share of {title}",
            )
            axes.bar_label(bars, [f"{value:.1f} %" for value in percent], padding=3, fontsize=8)
        axes.set_yticks(places, names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0.0, 115.0)
        axes.set_xticks([0, 25, 50, 75, 100])
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        axes.set_xlabel("percent")
        figure.legend(loc="outside upper left", ncols=2)

    return draw_svg(paint, width_in=4.1, height_in=0.9 + 0.4 * max(len(names), 2), key=key)


def draw_weight_histogram(weights: np.ndarray, key: str) -> str:
    """Draw how the values of one layer's weights are distributed; zero is marked."""
    weights = np.asarray(weights, np.float32).ravel()

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        counts, edges = np.histogram(weights, bins=min(_NUM_BINS, max(weights.size, 1)))
        axes.stairs(counts, edges, fill=True, color=SERIES[0])
        axes.axvline(0.0, color=INK, linewidth=0.6)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.grid(False)

    return draw_svg(paint, width_in=2.2, height_in=1.1, key=key)


def choose_channels(feature_map: np.ndarray, num_channels: int) -> list[int]:
    """The channels that vary most over a clip, in their own order.

    Args:
        feature_map: ``(time, frequency, channel)``.
        num_channels: how many at most.
    """
    spread = np.asarray(feature_map, np.float32).std(axis=(0, 1))
    return sorted(np.argsort(-spread, kind="stable")[:num_channels].tolist())


def draw_feature_maps(feature_map: np.ndarray, channels: Sequence[int], num_columns: int) -> str:
    """Lay channels side by side as one image, each from its own smallest to its largest value.

    Args:
        feature_map: ``(time, frequency, channel)``.
        channels: which, from left to right and then down; low frequencies lie at the bottom of
            each, time runs to the right.
        num_columns: channels beside each other.

    Returns:
        A ``data:`` URI.
    """
    enlarged = max(1, _MAP_WIDTH // feature_map.shape[0])
    width, height = (enlarged * size for size in feature_map.shape[:2])
    num_rows = -(-len(channels) // num_columns)
    shape = (num_rows * (height + _GAP) - _GAP, num_columns * (width + _GAP) - _GAP)
    montage = np.full(shape, np.nan, np.float32)
    for place, channel in enumerate(channels):
        values = np.asarray(feature_map[:, ::-1, channel], np.float32).T
        extent = values.max() - values.min()
        values = (values - values.min()) / (extent if extent > 0 else 1.0)
        top = place // num_columns * (height + _GAP)
        left = place % num_columns * (width + _GAP)
        values = values.repeat(enlarged, axis=0).repeat(enlarged, axis=1)
        montage[top : top + height, left : left + width] = values
    return encode_png(montage, lowest=0.0, highest=1.0)
