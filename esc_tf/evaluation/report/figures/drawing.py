"""From matplotlib to pieces of a page: SVG whose colours follow the page, small PNG images.

Nothing here touches matplotlib's global state, so that reports can be made in any process.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

# Colours that nobody chooses: each is replaced by a colour of the page's style sheet, which has
# one set for light and one for dark.
INK = "#010203"
MUTED = "#020304"
GRID = "#030405"
SERIES = ("#040501", "#040502", "#040503", "#040504", "#040505")
_PAGE_COLORS = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    **{color: f"var(--series-{index})" for index, color in enumerate(SERIES, start=1)},
}
# Beside the colours, for eyes and printers that do not tell them apart.
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))

# Perceptually even and readable with any colour vision.
SEQUENTIAL = "viridis"
DIVERGING = "PuOr_r"

_PX_PER_INCH = 96
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and scaled
    "text.parse_math": False,  # a class may be called $x$
    "font.family": "sans-serif",
    "font.size": 9.0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "image.interpolation": "none",
}


def legend_name(name: str) -> str:
    """The name of a line as a legend shows it; matplotlib would hide those that start with _."""
    return f" {name}" if name.startswith("_") else name


def draw_svg(
    paint: Callable[[Figure], object], *, width_in: float, height_in: float, key: str
) -> str:
    """Draw a figure as an ``<svg>`` element that can stand inside an HTML page.

    Args:
        paint: puts axes and their content into a figure.
        width_in: width in inches of 96 CSS pixels; the page may show it smaller.
        height_in: height in inches.
        key: unique in the page; keeps the names inside the SVG apart.
    """
    stream = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": key}):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        paint(figure)
        # Without a date, so that the same run gives the same page.
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return _make_inline(stream.getvalue(), key, width_in)


def _make_inline(svg: str, key: str, width_in: float) -> str:
    """Strip what only a file of its own needs, and let the page decide colours and fonts."""
    view_box = re.search(r'viewBox="[^"]*"', svg)
    assert view_box is not None  # matplotlib always writes one
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>|<!--.*?-->", "", svg, flags=re.DOTALL)
    opening = (
        f'<svg {view_box[0]} style="width:{width_in * _PX_PER_INCH:.0f}px" aria-hidden="true">'
    )
    svg = re.sub(r"<svg[^>]*>", opening, svg, count=1)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'\bid="([^"]*)"', rf'id="{key}-\1"', svg)
    svg = re.sub(r'href="#([^"]*)"', rf'href="#{key}-\1"', svg)
    svg = re.sub(r"url\(#([^)]*)\)", rf"url(#{key}-\1)", svg)
    svg = re.sub(r'style="[^"]*"', lambda match: _restyle(match[0]), svg)
    svg = re.sub(r"data:image/png;base64,([^\"]*)", lambda match: _shrink_png(match[1]), svg)
    return re.sub(r"\n\s*", "\n", svg).strip()


def _restyle(style: str) -> str:
    for color, name in _PAGE_COLORS.items():
        style = style.replace(color, name)
    return re.sub(r"font-family: [^;\"]*", "font-family: sans-serif", style)


def _shrink_png(encoded: str) -> str:
    """The same image with a palette: a third of the size, and a colour map has no more colours."""
    image = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    return _to_data_uri(image.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE))


def _to_data_uri(image: Image.Image, **options: Any) -> str:
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=True, **options)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def encode_png(
    values: np.ndarray,
    *,
    lowest: float | None = None,
    highest: float | None = None,
    colormap: str = SEQUENTIAL,
) -> str:
    """Colour an array and encode it as a ``data:`` URI of a PNG of 255 colours.

    Args:
        values: ``(rows, columns)``, the first row at the top; NaN becomes transparent.
        lowest: the value of the first colour; None: the smallest.
        highest: the value of the last colour; None: the largest.
        colormap: matplotlib's name of the colours.
    """
    values = np.asarray(values, np.float32)
    known = values[np.isfinite(values)]
    low = float(known.min(initial=np.inf)) if lowest is None else lowest
    high = float(known.max(initial=-np.inf)) if highest is None else highest
    extent = high - low if high > low else 1.0
    shares = np.nan_to_num(np.clip((values - low) / extent, 0.0, 1.0))
    # 0 is transparent, the other 255 places are colours.
    places = np.where(np.isfinite(values), 1 + np.round(shares * 254.0), 0).astype(np.uint8)
    colors = mpl.colormaps[colormap](np.linspace(0.0, 1.0, 255))[:, :3]
    palette = np.concatenate([np.zeros((1, 3)), colors])
    image = Image.fromarray(places, mode="L")
    image.putpalette(np.round(palette * 255.0).astype(np.uint8).tobytes())
    return _to_data_uri(image, transparency=0)
