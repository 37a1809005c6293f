"""Learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from esc_tf.evaluation.report.figures.drawing import INK, LINE_STYLES, SERIES, draw_svg, legend_name

_SIZE_IN = {"width_in": 3.7, "height_in": 2.7}
# So many epochs still look like points on a line.
_MOST_MARKERS = 30

History = Sequence[Mapping[str, Any]]


def draw_curves(
    curves: Sequence[tuple[str, History, str]],
    *,
    y_label: str,
    key: str,
    selected_epoch: int | None = None,
    limits: tuple[float, float] | None = None,
) -> str:
    """Draw quantities over epochs.

    Args:
        curves: (name in the legend, history, key of its lines); epochs without the key are left
            out.
        y_label: what is drawn, with its unit.
        key: unique in the page.
        selected_epoch: marked with a vertical line.
        limits: of the vertical axis; None: what is drawn.
    """

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for index, (name, history, quantity) in enumerate(curves):
            points = [(line["epoch"], line[quantity]) for line in history if quantity in line]
            if points:
                epochs, values = zip(*points, strict=True)
                axes.plot(
                    epochs,
                    values,
                    color=SERIES[index % len(SERIES)],
                    linestyle=LINE_STYLES[index % len(LINE_STYLES)],
                    marker="o" if len(points) <= _MOST_MARKERS else None,
                    markersize=2.5,
                    label=legend_name(name),
                )
        if selected_epoch is not None:
            _mark_epoch(axes, selected_epoch)
        axes.set(xlabel="epoch", ylabel=y_label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if limits is not None:
            margin = 0.03 * (limits[1] - limits[0])
            axes.set_ylim(limits[0] - margin, limits[1] + margin)
        figure.legend(loc="outside upper left", ncols=3, columnspacing=1.2)

    return draw_svg(paint, key=key, **_SIZE_IN)


def _mark_epoch(axes: Axes, epoch: int) -> None:
    axes.axvline(
        epoch, color=INK, linewidth=1.0, linestyle=(0, (1, 1)), label=f"selected: epoch {epoch}"
    )
