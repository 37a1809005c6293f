"""Spectrograms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from esc_tf.evaluation.report.figures.drawing import DIVERGING, SEQUENTIAL, draw_svg

_SIZE_IN = {"width_in": 3.7, "height_in": 2.5}
_TICKS_HZ = (50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000)
# Neighbouring labels need so many bands between them, as a share of all.
_CLOSEST_TICKS = 0.07


def draw_spectrogram(
    values: np.ndarray,
    *,
    frame_step_s: float,
    band_centres_hz: Sequence[float],
    unit: str,
    key: str,
    limits: tuple[float, float] | None = None,
    is_difference: bool = False,
) -> str:
    """Draw a spectrogram with its axes and its scale.

    Args:
        values: ``(time, frequency)``.
        frame_step_s: seconds from one frame to the next.
        band_centres_hz: the frequency of each band.
        unit: of the values.
        key: unique in the page.
        limits: the values of the first and the last colour; None: the smallest and the largest.
        is_difference: colour zero neutrally and both signs alike.
    """
    values = np.asarray(values, np.float32)
    if limits is None:
        limits = (float(values.min()), float(values.max()))
        if is_difference:
            largest = max(abs(limits[0]), abs(limits[1])) or 1.0
            limits = (-largest, largest)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        image = axes.imshow(
            values.T,
            origin="lower",
            aspect="auto",
            cmap=DIVERGING if is_difference else SEQUENTIAL,
            vmin=limits[0],
            vmax=limits[1],
            extent=(0.0, len(values) * frame_step_s, -0.5, values.shape[1] - 0.5),
        )
        places, names = choose_frequency_ticks(band_centres_hz)
        axes.set_yticks(places, names)
        axes.grid(False)
        axes.set(xlabel="time (s)", ylabel="frequency (Hz)")
        bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=14)
        bar.set_label(unit)
        bar.outline.set_visible(False)

    return draw_svg(paint, key=key, **_SIZE_IN)


def choose_frequency_ticks(
    centres_hz: Sequence[float] | np.ndarray,
) -> tuple[list[int], list[str]]:
    """Bands to be labelled with their frequency, and the labels.

    Args:
        centres_hz: the frequency of each band, NaN where it has none.
    """
    centres = np.asarray(centres_hz, np.float64)
    places: list[int] = []
    names: list[str] = []
    for hz in _TICKS_HZ:
        if not np.nanmin(centres) <= hz <= np.nanmax(centres):
            continue
        place = int(np.nanargmin(np.abs(centres - hz)))
        if not places or place - places[-1] >= _CLOSEST_TICKS * len(centres):
            places.append(place)
            names.append(f"{hz // 1000}k" if hz >= 1000 else str(hz))
    return places, names
