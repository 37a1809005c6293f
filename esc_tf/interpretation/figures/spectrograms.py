"""A layer's activations over time, and the spectrograms that are rebuilt from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from esc_tf.interpretation.figures.canvas import (
    AMOUNTS,
    label_bands,
    set_title,
    show_over_time,
    write_png,
)
from esc_tf.interpretation.figures.layer_view import (
    LayerView,
    describe_clip,
    name_method,
)
from esc_tf.interpretation.reading import PLAIN_NMF

_MOST_FEATURES = 40
_MOST_LABELS = 8
_PANEL_WIDTH_IN, _PANEL_HEIGHT_IN = 2.5, 1.75


def draw_activations(view: LayerView, path: Path) -> Path | None:
    """Draw what each feature adds to the spectrogram over time, by every method.

    The activations themselves are the network's, the same for all methods; a method says how much
    each of them weighs: ``H[k, t] · Σ_f W[f, k]``, here as a share of what all features add to the
    clip. One scale for all.
    """
    rows, features = view.shown_clips, view.choose_features(_MOST_FEATURES)
    if not rows or not features:
        return None
    parts: dict[tuple[int, str], np.ndarray] = {}
    for row in rows:
        h = np.asarray(view.activations[row], np.float64)
        for method, filters in view.filters.items():
            added = h * filters.sum(axis=0, dtype=np.float64)[:, np.newaxis]
            whole = added.sum(axis=0).max()
            parts[row, method] = 100.0 * added[features] / (whole if whole > 0 else 1.0)
    highest = max(float(np.percentile(part, 99.5)) for part in parts.values()) or 1.0
    labelled = sorted(set(np.linspace(0, len(features) - 1, _MOST_LABELS).round().astype(int)))

    def paint(figure: Figure) -> None:
        set_title(
            figure,
            f"{view.layer}: what each feature adds over time, the {len(features)} of "
            f"{view.num_features} that add most, low patterns at the bottom",
        )
        grid = figure.subplots(
            len(rows), len(view.filters), sharex=True, sharey=True, squeeze=False
        )
        for place, row in enumerate(rows):
            for axes, method in zip(grid[place], view.filters, strict=True):
                image = show_over_time(
                    axes,
                    parts[row, method],
                    view.reading.frame_times_s,
                    cmap=AMOUNTS,
                    vmin=0.0,
                    vmax=highest,
                )
                if place == 0:
                    axes.set_title(name_method(method))
            grid[place, 0].set_yticks(
                labelled, [view.name_feature(features[index]) for index in labelled], fontsize=7.5
            )
            clip = view.reading.clips[row]
            grid[place, 0].set_ylabel(f"{describe_clip(clip)}\n\nfeature · middle by NMF")
        for axes in grid[-1]:
            axes.set_xlabel("time (s)")
        bar = figure.colorbar(image, ax=grid, pad=0.01, aspect=30)
        bar.set_label("percent of what all add\nin the clip's fullest frame")
        bar.outline.set_visible(False)

    return write_png(
        paint,
        path,
        width_in=_PANEL_WIDTH_IN * len(view.filters) + 2.4,
        height_in=(_PANEL_HEIGHT_IN + 0.25) * len(rows) + 0.8,
    )


def draw_predictions(view: LayerView, path: Path) -> Path | None:
    """Draw the spectrogram of some clips beside what every method, and the floor, make of it."""
    reading, rows = view.reading, view.shown_clips
    if not rows:
        return None
    floor, floor_activations = reading.plain_nmf(view.layer)
    num_frames = len(reading.frame_times_s)

    def predict(row: int, method: str) -> np.ndarray:
        if method == PLAIN_NMF:
            return floor @ floor_activations[:, row * num_frames : (row + 1) * num_frames]
        return view.filters[method] @ np.asarray(view.activations[row])

    methods = [*view.filters, PLAIN_NMF]

    def paint(figure: Figure) -> None:
        set_title(figure, f"{view.layer}: the spectrogram, and what is rebuilt from the features")
        grid = figure.subplots(len(rows), 1 + len(methods), sharex=True, sharey=True, squeeze=False)
        for place, row in enumerate(rows):
            target = np.asarray(reading.spectrogram(row))
            highest = float(np.percentile(target, 99.8)) or 1.0
            look = {"cmap": "viridis", "vmin": 0.0, "vmax": highest}
            image = show_over_time(grid[place, 0], target, reading.frame_times_s, **look)
            for axes, method in zip(grid[place, 1:], methods, strict=True):
                found = predict(row, method)
                show_over_time(axes, found, reading.frame_times_s, **look)
                error = np.linalg.norm(target - found) / np.linalg.norm(target)
                title = f"error {error:.2f}"
                axes.set_title(f"{name_method(method)}\n{title}" if place == 0 else title)
            if place == 0:
                grid[place, 0].set_title("spectrogram\n")
            label_bands(grid[place, 0], reading.frequencies_hz, name=False)
            clip = reading.clips[row]
            grid[place, 0].set_ylabel(f"{describe_clip(clip)}\n\nfrequency (Hz)")
            bar = figure.colorbar(image, ax=list(grid[place]), pad=0.01, aspect=12)
            bar.set_label(_UNITS[reading.kind])
            bar.outline.set_visible(False)
        for axes in grid[-1]:
            axes.set_xlabel("time (s)")

    return write_png(
        paint,
        path,
        width_in=_PANEL_WIDTH_IN * (1 + len(methods)) + 1.4,
        height_in=(_PANEL_HEIGHT_IN + 0.3) * len(rows) + 0.8,
    )


_UNITS = {"log1p": "ln(1 + magnitude)", "magnitude": "magnitude", "power": "power"}
