"""A timeline as a picture: one row a class, colour for its probability, time from left to right."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from esc_tf.evaluation.timeline.timeline import Timeline
from esc_tf.files import write_atomically

MOST_ROWS = 20
# About as many as the picture has pixels across its axes, so that each can be seen.
_MOST_COLUMNS = 1000
_MOST_TICKS = 10
_WIDTH_IN, _ROW_IN, _REST_IN, _DPI = 11.0, 0.27, 1.25, 150
_LONGEST_NAME = 38
# White is nothing, so that what there is stands out, on paper as well; what no window has heard
# is grey.
_COLORMAP, _UNHEARD = "Purples", "#e4e4e4"

_SECOND, _MINUTE, _HOUR = 1.0, 60.0, 3600.0
_TICK_STEPS_S = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(_MINUTE * minutes for minutes in (1, 2, 5, 10, 15, 30)),
    *(_HOUR * hours for hours in (1, 2, 3, 6, 12, 24)),
)
_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.parse_math": False,  # a class may be called $x$
    "axes.edgecolor": "#777777",
    "axes.linewidth": 0.8,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.0,
    "xtick.color": "#777777",
    "xtick.labelcolor": "black",
}


def write_figure(timeline: Timeline, path: Path, recording: str, threshold: float) -> None:
    """Draw a timeline into a PNG file.

    Shown are the classes that ever are the most probable one or reach ``threshold``, at most
    ``MOST_ROWS``, those that lead most of the time on top; beside each row stands its highest
    probability and the middle of the window that has it. Where windows are more than columns, a
    column shows the highest probability of several, so that no short sound is lost.

    Args:
        timeline: of a recording, of any length.
        path: the file to be written.
        recording: what to call the recording in the title.
        threshold: see above.

    Raises:
        OSError: nothing could be written; ``path`` is as it was.
    """
    shown = timeline.find_shown(threshold, MOST_ROWS)
    columns, merged = timeline.reduce_columns(shown, _MOST_COLUMNS)
    height_in = _REST_IN + _ROW_IN * max(len(shown), 3)
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A class may be named in letters that the font lacks; it shows boxes for them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(_WIDTH_IN, height_in), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        edges, values = _place_columns(timeline, columns, merged)
        rows = np.arange(len(shown) + 1) - 0.5
        image = axes.pcolormesh(edges, rows, values.T, cmap=_COLORMAP, vmin=0.0, vmax=1.0)
        axes.set_facecolor(_UNHEARD)
        axes.hlines(rows[1:-1], 0.0, timeline.duration_s, colors="#cccccc", linewidth=0.6)
        axes.set_xlim(0.0, timeline.duration_s)
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.set_yticks(range(len(shown)), [_shorten(timeline.label_names[i]) for i in shown])
        _label_peaks(axes, timeline, shown)
        _label_times(axes, timeline.duration_s)
        axes.set_title(_describe(timeline, recording, threshold, len(shown), merged))
        bar = figure.colorbar(image, ax=axes, pad=0.01, fraction=0.02, aspect=10)
        bar.set_label("probability")
        bar.outline.set_visible(False)
        write_atomically(path, lambda temporary: figure.savefig(temporary, format="png"))


def format_time(seconds: float) -> str:
    """A time as a reader of a recorder's display knows it: ``0:04.5``, ``12:30`` or ``3:00:05``.

    >>> [format_time(seconds) for seconds in (4.5, 750, 10805)]
    ['0:04.5', '12:30', '3:00:05']
    """
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    tail = f".{rest % 10}" if rest % 10 and tenths < 6000 else ""
    start = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{start}:{rest // 10:02d}{tail}"


def _place_columns(
    timeline: Timeline, columns: np.ndarray, merged: int
) -> tuple[np.ndarray, np.ndarray]:
    """Edges in seconds of the columns, and their values; gaps between windows are NaN.

    A window that overlaps others is drawn around its middle, as wide as a hop; the first and the
    last one reach to the ends of the recording.
    """
    starts = np.arange(len(columns)) * merged * timeline.hop_s
    if timeline.hop_s > timeline.window_s and merged == 1:
        ends = np.minimum(starts + timeline.window_s, timeline.duration_s)
        with_gaps = np.full((2 * len(columns) - 1, columns.shape[1]), np.nan, np.float32)
        with_gaps[::2] = columns
        return np.stack([starts, ends], axis=1).ravel(), with_gaps
    edges = starts + max(timeline.window_s - timeline.hop_s, 0.0) / 2
    return np.concatenate([[0.0], edges[1:], [timeline.duration_s]]), columns


def _label_peaks(axes: Axes, timeline: Timeline, shown: list[int]) -> None:
    places = axes.secondary_yaxis("right")
    texts = []
    for label in shown:
        at_s = timeline.find_middle_s(int(timeline.highest_at[label]))
        texts.append(f"{timeline.highest[label]:.2f} at {format_time(at_s)}")
    places.set_yticks(range(len(shown)), texts)
    places.tick_params(axis="y", length=0, labelsize=8.0)
    axes.annotate(
        "highest",
        xy=(1.0, 1.0),
        xytext=(4.0, 4.0),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=8.0,
        color="#555555",
    )


def _label_times(axes: Axes, duration_s: float) -> None:
    step = next((step for step in _TICK_STEPS_S if duration_s / step <= _MOST_TICKS), None)
    if step is None:
        step = _HOUR * 24 * -(-duration_s // (_HOUR * 24 * _MOST_TICKS))
    places = np.arange(int(duration_s / step + 1e-6) + 1) * step
    if duration_s < _MINUTE:
        names, unit = [f"{place:g}" for place in places.round(3)], "s"
    elif duration_s < _HOUR:
        names, unit = [f"{int(place // 60)}:{int(place % 60):02d}" for place in places], "min:s"
    else:
        minutes = (places // 60).astype(int)
        names, unit = [f"{place // 60}:{place % 60:02d}" for place in minutes], "h:min"
    axes.set_xticks(places, names)
    axes.set_xlabel(f"time ({unit})")


def _describe(
    timeline: Timeline, recording: str, threshold: float, num_shown: int, merged: int
) -> str:
    title = f"{_shorten(recording, 60)}: {format_time(timeline.duration_s)}"
    title += f", windows of {timeline.window_s:g} s every {timeline.hop_s:g} s"
    if merged > 1:
        title += f", each column the highest of {merged}"
    num_worth = timeline.count_shown(threshold)
    if num_worth > num_shown:
        title += (
            f"\n{num_shown} of the {num_worth} classes that are the most probable at some time or "
            f"reach {threshold:g}"
        )
    if timeline.problem is not None:
        title += "\nincomplete: the recording could not be read to its end"
    return title


def _shorten(name: str, longest: int = _LONGEST_NAME) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
