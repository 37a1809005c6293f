"""How much of the spectrogram the layers explain, between chance and the floor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from esc_tf.interpretation.figures.canvas import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    set_title,
    shorten,
    write_png,
)
from esc_tf.interpretation.figures.layer_view import name_method
from esc_tf.interpretation.reading import PLAIN_NMF, Reading

_MOST_COLUMNS = 3
_CONTROLS = {"shuffled_time": "shuffled in time", "shuffled_clips": "of other clips"}


def draw_explained(reading: Reading, path: Path) -> Path | None:
    """Draw the reconstruction error of every layer: methods, controls with their shuffles, floor.

    Returns:
        None where the reading has no scores.
    """
    if not reading.scores:
        return None
    by_layer = {
        layer: [row for row in reading.scores if row["layer"] == layer] for layer in reading.layers
    }
    most_scores = max(len(rows) for rows in by_layer.values())
    num_columns = min(_MOST_COLUMNS, len(by_layer))
    num_rows = -(-len(by_layer) // num_columns)

    def paint(figure: Figure) -> None:
        set_title(
            figure,
            "Reconstruction error ‖V − WH‖ / ‖V‖\n"
            "blue: of the layer's activations; grey: by chance; green: the floor",
        )
        grid = figure.subplots(num_rows, num_columns, sharex=True, squeeze=False)
        for axes in list(grid.flat)[len(by_layer) :]:
            axes.set_axis_off()
        for axes, (layer, rows) in zip(grid.flat, by_layer.items(), strict=False):
            for place, row in enumerate(rows):
                color = GREEN if row["method"] == PLAIN_NMF else _choose_color(row)
                errors = row.get("errors") or []
                axes.plot(errors, np.full(len(errors), place), "|", color=MUTED, markersize=9)
                axes.plot(row["error"], place, "o", color=color, markersize=6)
                axes.annotate(
                    f"{row['error']:.3f}", (row["error"], place), xytext=(0, 6),
                    textcoords="offset points", ha="center", fontsize=7.5, color=INK,
                )  # fmt: skip
            axes.set_yticks(range(len(rows)), [_name_row(row) for row in rows])
            axes.set_ylim(len(rows) - 0.5, -0.7)
            axes.tick_params(axis="y", length=0)
            axes.grid(True, axis="x")
            axes.set_xlim(left=0.0)
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("error (0: perfect, 1: as bad as nothing)")
            axes.set_title(shorten(layer, 40))
            axes.spines["left"].set_visible(False)

    return write_png(
        paint,
        path,
        width_in=5.2 * num_columns + 0.2,
        height_in=(0.36 * most_scores + 0.8) * num_rows + 0.7,
    )


def _choose_color(row: Mapping[str, Any]) -> str:
    return BLUE if row["control"] == "none" else MUTED


def _name_row(row: Mapping[str, Any]) -> str:
    name = name_method(row["method"])
    if row["control"] == "none":
        return name
    # The line above says which method it is.
    return f"{shorten(row['method'], 24)}, H {_CONTROLS.get(row['control'], row['control'])}"
