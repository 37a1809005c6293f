"""Maps of what speaks for a class, laid over the network's input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.figure import Figure

from esc_tf.interpretation.figures.canvas import (
    MUTED,
    VERMILION,
    label_bands,
    set_title,
    shorten,
    show_over_time,
    write_png,
)

_MOST_COLUMNS = 4
_PANEL_WIDTH_IN, _PANEL_HEIGHT_IN, _REST_IN = 2.75, 1.9, 0.55
# Opaque enough to be seen on black, and not so much that the sound below is lost.
_STRONGEST = 0.8


@dataclass(frozen=True)
class Overlay:
    """A map over the input.

    Attributes:
        title: what it shows.
        values: ``(time, frequency)`` of the input, non-negative.
    """

    title: str
    values: np.ndarray


_INPUT = Overlay("the network's input", np.zeros((0, 0)))


def draw_overlays(
    features: np.ndarray,
    overlays: Sequence[Sequence[Overlay]],
    path: Path,
    *,
    frame_times_s: Sequence[float] | np.ndarray,
    frequencies_hz: Sequence[float] | np.ndarray | None,
    title: str,
) -> Path:
    """Draw the input alone, and every map over it.

    Each map is coloured from 0 to its own largest value; one that is 0 everywhere says so.

    Args:
        features: ``(time, frequency)``.
        overlays: in groups, e.g. of one class each; a group is a row where it fits into one.
        path: the PNG file.
        frame_times_s: centre of each frame of the input.
        frequencies_hz: centre of each of its bands; None: they are numbered.
        title: of the whole.
    """
    panels, num_columns = _arrange(overlays)
    num_rows = len(panels) // num_columns
    lowest, highest = np.percentile(features, [2.0, 99.8])
    colors = ListedColormap([to_rgba(VERMILION, alpha) for alpha in np.linspace(0, _STRONGEST, 64)])

    def paint(figure: Figure) -> None:
        set_title(figure, title)
        grid = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False)
        for place, (axes, overlay) in enumerate(zip(grid.flat, panels, strict=True)):
            if overlay is None:
                axes.set_axis_off()
                continue
            show_over_time(axes, features.T, frame_times_s, cmap="Greys", vmin=lowest, vmax=highest)
            axes.set_title(overlay.title)
            if overlay is not _INPUT:
                _lay_over(axes, overlay.values, frame_times_s, colors)
            # Where no other picture stands to the left, or below.
            is_first = place % num_columns == 0 or panels[place - 1] is None
            below = panels[place + num_columns :: num_columns]
            if frequencies_hz is not None:
                label_bands(axes, frequencies_hz, name=is_first)
            elif is_first:
                axes.set_ylabel("band")
            axes.tick_params(labelleft=is_first)
            if all(panel is None for panel in below):
                axes.set_xlabel("time (s)")
                axes.tick_params(labelbottom=True)
        scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(0.0, 1.0), colors)
        # As high as one row, beside the first.
        bar = figure.colorbar(
            scale, ax=grid, pad=0.01, aspect=12, shrink=1.0 / num_rows, anchor=(0.0, 1.0)
        )
        bar.set_label("share of the\nmap's largest value")
        bar.outline.set_visible(False)

    return write_png(
        paint,
        path,
        width_in=_PANEL_WIDTH_IN * num_columns + 0.9,
        height_in=_PANEL_HEIGHT_IN * num_rows + _REST_IN,
    )


def _arrange(groups: Sequence[Sequence[Overlay]]) -> tuple[list[Overlay | None], int]:
    """Panels row by row, None for an empty place, and the number of columns."""
    most = max((len(group) for group in groups), default=0)
    if most < _MOST_COLUMNS:
        rows: list[Overlay | None] = []
        for place, group in enumerate(groups or [[]]):
            rows += [None if place else _INPUT, *group, *[None] * (most - len(group))]
        return rows, 1 + most
    panels: list[Overlay | None] = [_INPUT, *(overlay for group in groups for overlay in group)]
    # Few enough columns that the last row is not almost empty.
    num_columns = -(-len(panels) // -(-len(panels) // _MOST_COLUMNS))
    return panels + [None] * (-len(panels) % num_columns), num_columns


def _lay_over(
    axes: Axes, values: np.ndarray, frame_times_s: Sequence[float] | np.ndarray, colors: Any
) -> None:
    largest = float(values.max())
    if largest > 0:
        show_over_time(axes, values.T / largest, frame_times_s, cmap=colors, vmin=0.0, vmax=1.0)
        return
    axes.text(
        0.5, 0.5, "nothing speaks for it", transform=axes.transAxes, ha="center",
        bbox={"facecolor": "white", "edgecolor": MUTED, "pad": 3.0},
    )  # fmt: skip


def describe_prediction(true: str, predicted: str, probability: float) -> str:
    """What a clip is and what the model says, in a line.

    >>> describe_prediction("dog", "rooster", 0.634)
    'true class dog, predicted rooster at 63.4 %'
    """
    share = f"{100 * probability:.1f} %"
    return f"true class {shorten(true)}, predicted {shorten(predicted)} at {share}"
