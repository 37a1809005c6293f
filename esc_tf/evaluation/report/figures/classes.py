"""What a classifier gets right and wrong, class by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from esc_tf.evaluation.calibration import Calibration
from esc_tf.evaluation.report.figures.drawing import (
    GRID,
    INK,
    LINE_STYLES,
    MUTED,
    SERIES,
    draw_svg,
    legend_name,
)

PER_CLASS_MEASURES = ("precision", "recall", "f1")
# So many classes are told apart by colour and line, the rest stays in the background.
_NUM_MARKED_CLASSES = 3
_MOST_CLASSES_WITH_COUNTS = 25


def draw_confusion_matrix(matrix: Sequence[Sequence[int]], names: Sequence[str], key: str) -> str:
    """Draw counts of true (rows) against predicted classes (columns).

    Colours are shares of the true class, so that a rare class is seen as well as a frequent one.
    """
    counts = np.asarray(matrix)
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    colors = colormaps["cividis"]
    cell_in = 0.38 if len(names) <= 12 else 0.32 if len(names) <= _MOST_CLASSES_WITH_COUNTS else 0.2
    label_in = 0.09 * max(len(name) for name in names) + 0.3
    side_in = max(len(names) * cell_in, 2.0) + label_in

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.pcolormesh(
            np.ma.masked_equal(shares, 0.0),
            cmap=colors,
            vmin=0.0,
            vmax=1.0,
            edgecolors=GRID,
            linewidth=0.5,
        )
        if len(names) <= _MOST_CLASSES_WITH_COUNTS:
            for row, column in zip(*np.nonzero(counts), strict=True):
                # Black on the bright half of the colours, white on the dark one.
                color = "#000000" if shares[row, column] > 0.55 else "#ffffff"
                place = (column + 0.5, row + 0.5)
                text = str(counts[row, column])
                axes.text(*place, text, color=color, ha="center", va="center", fontsize=8)
        places = np.arange(len(names)) + 0.5
        size = 8.5 if cell_in > 0.3 else 7.5
        axes.set_xticks(places, names, rotation=90, fontsize=size)
        axes.set_yticks(places, names, fontsize=size)
        axes.tick_params(length=0)
        axes.grid(False)
        axes.set(xlabel="predicted class", ylabel="true class", aspect="equal")
        axes.set_xlim(0, len(names))
        axes.set_ylim(len(names), 0)

    return draw_svg(paint, width_in=side_in, height_in=side_in, key=key)


def draw_class_bars(per_class: Sequence[Mapping[str, Any]], key: str) -> str:
    """Draw precision, recall and F1 of each class; a measure that is not defined has no bar."""
    names = [row["label_name"] for row in per_class]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        places = np.arange(len(names))
        for index, measure in enumerate(PER_CLASS_MEASURES):
            values = [row[measure] for row in per_class]
            axes.barh(
                places + 0.27 * (index - 1),
                [0.0 if value is None else value for value in values],
                height=0.24,
                color=SERIES[index],
                label="F1" if measure == "f1" else measure,
            )
        axes.set_yticks(places, names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0.0, 1.0)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        figure.legend(loc="outside upper left", ncols=3)

    height_in = 0.8 + 0.42 * max(len(names), 2)
    return draw_svg(paint, width_in=4.1, height_in=height_in, key=key)


def draw_roc(
    label_ids: np.ndarray, probabilities: np.ndarray, per_class: Sequence[Mapping[str, Any]],
    micro_area: float | None, key: str,
) -> str:  # fmt: skip
    """Draw the ROC curve of each class against the rest and that of all decisions pooled.

    The classes with the smallest areas stand out, the others are thin lines behind them.

    Args:
        label_ids: ``(clips,)`` true classes.
        probabilities: ``(clips, classes)``.
        per_class: rows of ``compute_metrics`` with ``label_name`` and ``roc_auc``.
        micro_area: the area of the pooled curve.
        key: unique in the page.
    """
    one_hot = np.eye(len(per_class), dtype=np.int64)[label_ids]
    drawn = [index for index, row in enumerate(per_class) if row["roc_auc"] is not None]
    worst = sorted(drawn, key=lambda index: per_class[index]["roc_auc"])[:_NUM_MARKED_CLASSES]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        for index in drawn:
            if index not in worst:
                rates = roc_curve(one_hot[:, index], probabilities[:, index])
                axes.plot(rates[0], rates[1], color=MUTED, linewidth=0.7, alpha=0.6)
        for place, index in enumerate(worst, start=1):
            row = per_class[index]
            rates = roc_curve(one_hot[:, index], probabilities[:, index])
            axes.plot(
                rates[0],
                rates[1],
                color=SERIES[place],
                linestyle=LINE_STYLES[place],
                label=legend_name(f"{row['label_name']} ({row['roc_auc']:.3f})"),
            )
        if micro_area is not None:
            rates = roc_curve(one_hot.ravel(), probabilities.ravel())
            name = f"micro average ({micro_area:.3f})"
            axes.plot(rates[0], rates[1], color=SERIES[0], linewidth=2.4, label=name)
        axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.legend(loc="lower right", title="area under the curve", title_fontsize=8.5)

    return draw_svg(paint, width_in=4.0, height_in=4.0, key=key)


def draw_reliability(calibration: Calibration, key: str) -> str:
    """Draw accuracy over confidence, bin by bin, above the number of clips of each bin."""
    bins = calibration.bins
    centres = [(item.lower + item.upper) / 2 for item in bins]
    width = bins[0].upper - bins[0].lower

    def paint(figure: Figure) -> None:
        upper: Axes
        lower: Axes
        upper, lower = figure.subplots(2, sharex=True, height_ratios=[3, 1])
        upper.bar(
            centres,
            [item.accuracy or 0.0 for item in bins],
            width=0.92 * width,
            color=SERIES[0],
            label="accuracy of the bin",
        )
        upper.plot([0, 1], [0, 1], color=INK, linewidth=1.0, linestyle="--", label="ideal")
        filled = [item for item in bins if item.num_clips]
        upper.plot(
            [item.confidence or 0.0 for item in filled],
            [item.accuracy or 0.0 for item in filled],
            color=SERIES[1],
            marker="o",
            linestyle="none",
            label="at its mean confidence",
        )
        upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.04))
        lower.bar(centres, [item.num_clips for item in bins], width=0.92 * width, color=MUTED)
        lower.set(xlabel="confidence", ylabel="clips")
        lower.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
        figure.legend(loc="outside upper left", ncols=2)

    return draw_svg(paint, width_in=4.0, height_in=4.0, key=key)


def draw_class_dots(
    names: Sequence[str], values: Mapping[str, Sequence[float | None]], key: str
) -> str:
    """Draw one measure of each class as a dot for each run.

    Args:
        names: the classes.
        values: name of the run → its value for each class, between 0 and 1 or None.
        key: unique in the page.
    """
    markers = ("o", "s", "^", "D", "v")

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for index, (run, row) in enumerate(values.items()):
            places = [place for place, value in enumerate(row) if value is not None]
            # Side by side, so that equal values do not hide each other.
            offset = 0.5 * ((index + 0.5) / len(values) - 0.5)
            axes.plot(
                [value for value in row if value is not None],
                [place + offset for place in places],
                linestyle="none",
                marker=markers[index % len(markers)],
                color=SERIES[index % len(SERIES)],
                label=legend_name(run),
            )
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(-0.03, 1.03)
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside upper left", ncols=1)

    height_in = 0.6 + 0.18 * len(values) + 0.3 * max(len(names), 2)
    return draw_svg(paint, width_in=4.1, height_in=height_in, key=key)
