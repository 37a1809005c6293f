"""Maps of what speaks for a class, laid over the network's input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
_PANEL_WIDTH_IN, _PANEL_HEIGHT_IN, _REST_IN = 2.75, 1.75, 0.55
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


def draw_overlays(
    features: np.ndarray,
    overlays: Sequence[Overlay],
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
        overlays: in order.
        path: the PNG file.
        frame_times_s: centre of each frame of the input.
        frequencies_hz: centre of each of its bands; None: they are numbered.
        title: of the whole.
    """
    num_panels = 1 + len(overlays)
    # Few enough columns that the last row is not almost empty.
    num_rows = -(-num_panels // _MOST_COLUMNS)
    num_columns = -(-num_panels // num_rows)
    lowest, highest = np.percentile(features, [2.0, 99.8])
    colors = ListedColormap([to_rgba(VERMILION, alpha) for alpha in np.linspace(0, _STRONGEST, 64)])

    def paint(figure: Figure) -> None:
        set_title(figure, title)
        grid = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False)
        panels: list[Axes] = list(grid.flat)
        for index, axes in enumerate(panels):
            if index >= num_panels:
                axes.set_axis_off()
                continue
            show_over_time(axes, features.T, frame_times_s, cmap="Greys", vmin=lowest, vmax=highest)
            overlay = overlays[index - 1] if index else None
            axes.set_title("the network's input" if overlay is None else overlay.title)
            if overlay is not None:
                largest = float(overlay.values.max())
                if largest > 0:
                    shares = overlay.values.T / largest
                    show_over_time(axes, shares, frame_times_s, cmap=colors, vmin=0.0, vmax=1.0)
                else:
                    axes.text(
                        0.5, 0.5, "nothing speaks for it", transform=axes.transAxes, ha="center",
                        bbox={"facecolor": "white", "edgecolor": MUTED, "pad": 3.0},
                    )  # fmt: skip
            if frequencies_hz is not None:
                label_bands(axes, frequencies_hz, name=index % num_columns == 0)
            elif index % num_columns == 0:
                axes.set_ylabel("band")
            if index + num_columns >= num_panels:
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


def describe_prediction(true: str, predicted: str, probability: float) -> str:
    """What a clip is and what the model says, in a line.

    >>> describe_prediction("dog", "rooster", 0.634)
    'true class dog, predicted rooster at 63.4 %'
    """
    share = f"{100 * probability:.1f} %"
    return f"true class {shorten(true)}, predicted {shorten(predicted)} at {share}"
