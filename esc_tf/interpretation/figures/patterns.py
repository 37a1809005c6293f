"""The spectral patterns that features stand for, by every method, and how training found them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from esc_tf.evaluation.report.sections.network import choose_evenly
from esc_tf.interpretation.figures.canvas import (
    AMOUNTS,
    INK,
    LINE_STYLES,
    SERIES,
    label_bands,
    set_title,
    write_png,
)
from esc_tf.interpretation.figures.layer_view import LayerView, name_method
from esc_tf.interpretation.reading import PLAIN_NMF

_NUM_LINES = 4
_NUM_PANELS = 12
_NUM_COLUMNS = 4
_MOST_EPOCHS = 12


def draw_transfer_functions(view: LayerView, path: Path) -> Path | None:
    """Draw W over frequency by every method: all columns as a map, a few as lines."""
    features = view.choose_features(view.num_features)
    if not features:
        return None
    num_empty = int(np.isnan(view.centres[features]).sum())
    marked = choose_evenly(view.choose_features(2 * _NUM_LINES), _NUM_LINES)
    frequencies_hz = view.reading.frequencies_hz

    def paint(figure: Figure) -> None:
        set_title(
            figure,
            f"{view.layer}: patterns W of the {len(features)} features that fire, each over its "
            f"own largest value; by NMF {num_empty} are empty, at the right",
        )
        grid = figure.subplots(2, len(view.filters), sharey="row", height_ratios=[1.5, 1])
        grid = grid.reshape(2, len(view.filters))
        for column, (method, filters) in enumerate(view.filters.items()):
            scaled = _scale_columns(filters)
            upper: Axes = grid[0, column]
            image = upper.imshow(
                scaled[:, features], origin="lower", aspect="auto", cmap=AMOUNTS, vmin=0, vmax=1
            )
            upper.set_title(name_method(method))
            upper.set_xlabel("feature, low patterns first")
            upper.set_xticks([])
            label_bands(upper, frequencies_hz, name=column == 0)
            lower: Axes = grid[1, column]
            for index, feature in enumerate(marked):
                lower.plot(
                    scaled[:, feature],
                    color=SERIES[index],
                    linestyle=LINE_STYLES[index],
                    label=f"feature {view.name_feature(feature)}",
                )
            lower.grid(True, axis="y")
            lower.set_ylim(0.0, 1.04)
            label_bands(lower, frequencies_hz, along="x")
            if column == 0:
                lower.set_ylabel("share of its\nlargest value")
                handles = lower.get_legend_handles_labels()
        bar = figure.colorbar(image, ax=list(grid[0]), pad=0.01, aspect=14)
        bar.set_label("share of the\nlargest value")
        bar.outline.set_visible(False)
        figure.legend(*handles, loc="outside lower center", ncols=len(marked))

    return write_png(paint, path, width_in=2.7 * len(view.filters) + 1.2, height_in=5.2)


def draw_patterns(view: LayerView, path: Path) -> Path | None:
    """Draw the patterns that all methods find for the same features side by side.

    Behind them in grey, the component of the floor (plain NMF) that is most like the first
    method's pattern, by the cosine between them, which stands in the title.
    """
    features = view.choose_features(_NUM_PANELS)
    if not features:
        return None
    scaled = {method: _scale_columns(filters) for method, filters in view.filters.items()}
    floor, _ = view.reading.plain_nmf(view.layer)
    first = next(iter(scaled.values()))
    alike = _normalize(floor).T @ _normalize(first[:, features])
    num_columns = min(_NUM_COLUMNS, len(features))
    num_rows = -(-len(features) // num_columns)

    def paint(figure: Figure) -> None:
        set_title(
            figure,
            f"{view.layer}: the {len(features)} features that explain most, their patterns by "
            "each method, over their largest value",
        )
        grid = figure.subplots(num_rows, num_columns, sharey=True, squeeze=False)
        handles: Any = ((), ())
        for place, axes in enumerate(grid.flat):
            if place >= len(features):
                axes.set_axis_off()
                continue
            feature, match = features[place], int(alike[:, place].argmax())
            nearest = _scale_columns(floor[:, [match]])[:, 0]
            axes.fill_between(
                np.arange(len(nearest)), nearest, color="#dfe2e6", label=name_method(PLAIN_NMF)
            )
            for index, (method, columns) in enumerate(scaled.items()):
                axes.plot(
                    columns[:, feature],
                    color=SERIES[index % len(SERIES)],
                    linestyle=LINE_STYLES[index % len(LINE_STYLES)],
                    label=name_method(method),
                )
            axes.set_title(
                f"feature {view.name_feature(feature)} · cosine {alike[match, place]:.2f}"
            )
            axes.set_ylim(0.0, 1.04)
            label_bands(
                axes,
                view.reading.frequencies_hz,
                along="x",
                name=place + num_columns >= len(features),
            )
            handles = axes.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=3)
        figure.supylabel("share of the largest value", fontsize=9)

    return write_png(paint, path, width_in=2.7 * num_columns + 0.4, height_in=1.75 * num_rows + 1.3)


def draw_training(view: LayerView, method: str, path: Path) -> Path | None:
    """Draw how a transform came to its filters: maps of W at kept epochs, loss, some filters.

    Returns:
        None for a method that keeps no history.
    """
    history = view.reading.history(view.layer, method)
    features = view.choose_features(view.num_features)
    if history is None or not features:
        return None
    shown = choose_evenly(list(range(len(history.epochs))), _MOST_EPOCHS)
    marked = choose_evenly(view.choose_features(2 * _NUM_LINES), 3)
    highest = float(np.percentile(history.filters[-1][:, features], 99.5)) or 1.0
    colors = mpl.colormaps["viridis_r"](np.linspace(0.05, 1.0, len(shown)))

    def paint(figure: Figure) -> None:
        set_title(
            figure,
            f"{view.layer}: patterns W while the transform \u201c{name_method(method)}\u201d is "
            "trained; each column a feature, low patterns first",
        )
        upper, lower = figure.subfigures(2, 1, height_ratios=[1.2, 1])
        maps = upper.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axes, index in zip(maps, shown, strict=True):
            image = axes.imshow(
                history.filters[index][:, features],
                origin="lower", aspect="auto", cmap=AMOUNTS, vmin=0.0, vmax=highest,
            )  # fmt: skip
            epoch = int(history.epochs[index])
            axes.set_title("start" if epoch == 0 else f"epoch {epoch}" if index == shown[-1]
                           else f"{epoch}")  # fmt: skip
            axes.set_xticks([])
            label_bands(axes, view.reading.frequencies_hz, name=index == shown[0])
        bar = upper.colorbar(image, ax=list(maps), pad=0.01, aspect=14)
        bar.set_label("W")
        bar.outline.set_visible(False)
        panels = lower.subplots(1, 1 + len(marked))
        loss: Axes = np.ravel(panels)[0]
        loss.plot(np.arange(1, len(history.losses) + 1), history.losses, color=INK)
        loss.set_yscale("log")
        loss.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
        loss.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
        loss.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
        loss.set(xlabel="epoch", ylabel="loss (its spectrogram\nhas a mean of 1)")
        loss.grid(True)
        for axes, feature in zip(np.ravel(panels)[1:], marked, strict=True):
            for color, index in zip(colors, shown, strict=True):
                axes.plot(history.filters[index][:, feature], color=color, linewidth=1.2)
            axes.set_title(f"feature {view.name_feature(feature)}")
            axes.set_ylim(bottom=0.0)
            axes.grid(True, axis="y")
            label_bands(axes, view.reading.frequencies_hz, along="x")
        np.ravel(panels)[min(1, len(marked))].set_ylabel("W (dark: later epochs)")

    return write_png(paint, path, width_in=11.5, height_in=5.4)


def _scale_columns(filters: np.ndarray) -> np.ndarray:
    """Every column over its largest value; empty ones stay 0."""
    largest = filters.max(axis=0, keepdims=True)
    return np.divide(filters, largest, out=np.zeros_like(filters), where=largest > 0)


def _normalize(columns: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(columns, axis=0, keepdims=True)
    return np.divide(columns, length, out=np.zeros_like(columns), where=length > 0)
