"""What all figures share: how they look, their axes of time and frequency, and the PNG file."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from esc_tf.evaluation.report.figures.sounds import choose_frequency_ticks
from esc_tf.files import write_atomically

# Okabe and Ito's colours (2008), darkened for white paper: apart for any colour vision.
BLUE, VERMILION, GREEN, PURPLE, OLIVE = "#0072b2", "#d55e00", "#00835f", "#a8478a", "#7a6200"
SERIES = (BLUE, VERMILION, GREEN, PURPLE, OLIVE)
# Beside the colours, for eyes and printers that do not tell them apart.
LINE_STYLES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
INK, MUTED, FAINT = "#16191d", "#5b636d", "#d5d9de"
# White is nothing, so that what there is stands out.
AMOUNTS = "Purples"

_DPI = 120
_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.parse_math": False,  # a class may be called $x$
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "image.interpolation": "none",
    "figure.titlesize": 10.5,
}


def write_png(
    paint: Callable[[Figure], object], path: Path, *, width_in: float, height_in: float
) -> Path:
    """Draw a figure into a PNG file.

    Args:
        paint: puts axes and their content into a figure.
        path: the file.
        width_in: width in inches of 120 pixels, at which its letters have 15.
        height_in: height in inches.

    Raises:
        OSError: nothing could be written; ``path`` is as it was.
    """
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A class may be named in letters that the font lacks; it shows boxes for them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(width_in, height_in), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        paint(figure)
        write_atomically(
            path,
            lambda temporary: figure.savefig(temporary, format="png"),
            must_survive_power_loss=False,
        )
    return path


def set_title(figure: Figure, text: str) -> None:
    """A title at the left, above all axes."""
    figure.suptitle(text, x=0.005, ha="left")


def label_bands(
    axes: Axes, frequencies_hz: Sequence[float] | np.ndarray, *, along: str = "y", name: bool = True
) -> None:
    """Label an axis that counts mel bands with their frequencies.

    Args:
        axes: whose axis runs from -0.5 to the number of bands less 0.5.
        frequencies_hz: centre of each band.
        along: ``x`` or ``y``.
        name: whether to write what the axis is.
    """
    places, names = choose_frequency_ticks(frequencies_hz)
    if along == "x":
        axes.set_xticks(places, names)
        axes.set_xlim(-0.5, len(frequencies_hz) - 0.5)
    else:
        axes.set_yticks(places, names)
        axes.set_ylim(-0.5, len(frequencies_hz) - 0.5)
    if name:
        (axes.set_xlabel if along == "x" else axes.set_ylabel)("frequency (Hz)")


def show_over_time(
    axes: Axes,
    values: np.ndarray,
    frame_times_s: Sequence[float] | np.ndarray,
    **options: Any,
) -> Any:
    """Draw an array ``(rows, frames)`` with time to the right and row 0 at the bottom.

    Args:
        axes: to draw into.
        values: the array.
        frame_times_s: centre of each frame.
        **options: of ``imshow``.
    """
    times = np.asarray(frame_times_s, np.float64)
    half = 0.5 * (times[1] - times[0]) if len(times) > 1 else 0.5
    extent = (times[0] - half, times[-1] + half, -0.5, len(values) - 0.5)
    return axes.imshow(values, origin="lower", aspect="auto", extent=extent, **options)


def format_hz(frequency_hz: float) -> str:
    """A frequency in few characters.

    >>> [format_hz(frequency_hz) for frequency_hz in (63.4, 1240.0, 12400.0)]
    ['63 Hz', '1.2 kHz', '12 kHz']
    """
    if frequency_hz < 999.5:
        return f"{frequency_hz:.0f} Hz"
    kilohertz = frequency_hz / 1000
    return f"{kilohertz:.1f} kHz" if kilohertz < 9.95 else f"{kilohertz:.0f} kHz"


def shorten(name: str, longest: int = 28) -> str:
    """A name that fits: its end is cut off, which is shown."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
