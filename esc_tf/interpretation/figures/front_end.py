"""Figures of a learned front end: kernels, their spectra, bands, movement, features by phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from esc_tf.evaluation.report.sections.network import choose_evenly
from esc_tf.frames import TimeGrid
from esc_tf.interpretation.figures.canvas import (
    AMOUNTS,
    BLUE,
    MUTED,
    VERMILION,
    format_hz,
    set_title,
    shorten,
    show_over_time,
    write_png,
)
from esc_tf.interpretation.front_end_kernels import KernelBank

_NUM_KERNELS = 12
_NUM_COLUMNS = 4
_NUM_LINES = 8
_RANGE_DB = 60.0
_LOWEST_HZ = 30.0
_TICKS_HZ = (0, 100, 250, 500, 1000, 2000, 5000, 10000, 20000)


def draw_kernels(learned: KernelBank, start: KernelBank | None, path: Path) -> Path:
    """Draw some kernels over time, spread evenly over the order of their dominant frequencies."""
    chosen = choose_evenly([int(index) for index in learned.order], _NUM_KERNELS)
    num_columns = min(_NUM_COLUMNS, len(chosen))
    num_rows = -(-len(chosen) // num_columns)
    times_ms = 1e3 * np.arange(learned.kernels.shape[1]) / learned.sample_rate_hz

    def paint(figure: Figure) -> None:
        text = f"{len(chosen)} of {len(learned.kernels)} kernels, low dominant frequencies first"
        if np.iscomplexobj(learned.kernels):
            text += "; real parts"
        set_title(figure, text + ("; grey: at the start" if start is not None else ""))
        grid = figure.subplots(num_rows, num_columns, sharex=True, squeeze=False)
        for axes, index in zip(grid.ravel(), chosen, strict=False):
            if start is not None:
                axes.plot(times_ms, start.kernels[index].real, color=MUTED, linewidth=0.8)
            axes.plot(times_ms, learned.kernels[index].real, color=BLUE, linewidth=0.8)
            axes.set_title(f"kernel {index}: {format_hz(learned.dominant_hz[index])}")
            axes.set_yticks([])
        for axes in grid.ravel()[len(chosen) :]:
            axes.set_axis_off()
        for axes in grid[-1]:
            axes.set_xlabel("time (ms)")

    return write_png(paint, path, width_in=9.0, height_in=0.6 + 1.5 * num_rows)


def draw_spectra(banks: Mapping[str, KernelBank], path: Path) -> Path:
    """Draw the spectra of all kernels, each bank in the order of its dominant frequencies.

    Args:
        banks: title → kernels, from the earliest on.
        path: the file.
    """

    def paint(figure: Figure) -> None:
        set_title(figure, "spectra of all kernels, each over its own largest value")
        grid = figure.subplots(1, len(banks), sharey=True, squeeze=False)[0]
        for axes, (title, bank) in zip(grid, banks.items(), strict=True):
            largest = np.maximum(bank.responses.max(axis=1, keepdims=True), 1e-30)
            levels = 20.0 * np.log10(np.maximum(bank.responses / largest, 1e-10))
            image = axes.imshow(
                levels[bank.order].T,
                origin="lower",
                aspect="auto",
                cmap=AMOUNTS,
                vmin=-_RANGE_DB,
                vmax=0.0,
                interpolation="antialiased",
                extent=(-0.5, len(levels) - 0.5, 0.0, bank.sample_rate_hz / 2e3),
            )
            axes.set(title=shorten(title), xlabel="kernel, low dominant frequencies first")
        grid[0].set_ylabel("frequency (kHz)")
        bar = figure.colorbar(image, ax=list(grid), pad=0.01, aspect=18)
        bar.set_label("level (dB)")
        bar.outline.set_visible(False)

    return write_png(paint, path, width_in=1.4 + 3.4 * len(banks), height_in=3.8)


def draw_mel_curves(
    learned: np.ndarray, start: np.ndarray, frequencies_hz: np.ndarray, path: Path
) -> Path:
    """Draw what each band answers to, learned against the start; ``(bands, frequencies)`` both.

    In decibels, since what matters behind the logarithm may lie far below a band's peak.
    """
    chosen = choose_evenly(list(range(len(learned))), _NUM_LINES)
    peaks = np.maximum(start.max(axis=1, keepdims=True), 1e-30)
    learned_db, start_db = (
        10.0 * np.log10(np.maximum(curves / peaks, 1e-12)) for curves in (learned, start)
    )
    shown = np.flatnonzero(frequencies_hz >= _LOWEST_HZ)

    def paint(figure: Figure) -> None:
        set_title(figure, "mel curves, each band over the peak that it began with")
        lines, *maps = figure.subplots(3, 1, height_ratios=[1.2, 1.0, 1.0], sharex=True)
        for index in chosen:
            lines.plot(frequencies_hz, start_db[index], color=MUTED, linewidth=0.8)
            lines.plot(frequencies_hz, learned_db[index], color=BLUE, linewidth=0.8)
        lines.plot([], [], color=MUTED, label="start")
        lines.plot([], [], color=BLUE, label="learned")
        lines.legend(loc="lower right", ncols=2, frameon=True)
        lines.set_ylim(-_RANGE_DB, 5.0)
        lines.set_ylabel(f"{len(chosen)} of {len(learned)} bands (dB)")
        for axes, levels, title in zip(
            maps, (start_db, learned_db), ("start", "learned"), strict=True
        ):
            image = axes.pcolormesh(
                frequencies_hz[shown],
                np.arange(len(levels)),
                levels[:, shown],
                cmap=AMOUNTS,
                vmin=-_RANGE_DB,
                vmax=0.0,
                shading="nearest",
                rasterized=True,
            )
            axes.set(title=title, ylabel="band")
        _set_frequency_axis(maps[-1], frequencies_hz)
        maps[-1].set_xlabel("frequency (Hz)")
        bar = figure.colorbar(image, ax=maps, pad=0.01, aspect=24)
        bar.set_label("level (dB)")
        bar.outline.set_visible(False)

    return write_png(paint, path, width_in=8.4, height_in=7.6)


def draw_answers(answers: Mapping[str, np.ndarray], tones_hz: np.ndarray, path: Path) -> Path:
    """Draw the mean of each band while one tone sounds.

    Args:
        answers: title → ``(bands, tones)``, from the earliest on.
        tones_hz: the tones' frequencies.
        path: the file.
    """

    def paint(figure: Figure) -> None:
        set_title(figure, "features while one tone sounds, mean over time")
        grid = figure.subplots(1, len(answers), sharey=True, squeeze=False)[0]
        for axes, (title, values) in zip(grid, answers.items(), strict=True):
            image = axes.pcolormesh(
                tones_hz, np.arange(len(values)), values, cmap="viridis", rasterized=True
            )
            axes.set_xscale("log")
            axes.set_xticks(*_choose_ticks(tones_hz[0], tones_hz[-1]))
            axes.minorticks_off()
            axes.set(title=shorten(title), xlabel="frequency of the tone (Hz)")
            bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=18)
            bar.outline.set_visible(False)
        grid[0].set_ylabel("band")

    return write_png(paint, path, width_in=0.6 + 3.9 * len(answers), height_in=3.8)


def draw_kernel_movement(kernels: Mapping[str, np.ndarray], start: KernelBank, path: Path) -> Path:
    """Draw how far each kernel has moved, and where to.

    Args:
        kernels: of ``compare_kernels``.
        start: the kernels that they began as.
        path: the file.
    """

    def paint(figure: Figure) -> None:
        set_title(figure, "how far each kernel is from its start")
        change, shift = figure.subplots(1, 2)
        for axes, name, text in (
            (change, "relative_change", "‖change‖ / ‖start‖"),
            (shift, "dominant_shift_hz", "shift of that frequency (Hz)"),
        ):
            axes.plot(start.dominant_hz, kernels[name], ".", color=BLUE, markersize=3)
            axes.set(xlabel="dominant frequency at the start (Hz)", ylabel=text)
        shift.axhline(0.0, color=MUTED, linewidth=0.8)

    return write_png(paint, path, width_in=8.4, height_in=3.2)


def draw_band_movement(bands: Mapping[str, np.ndarray], path: Path) -> Path:
    """Draw how far the bands of ``mel_init`` have moved.

    Args:
        bands: of ``compare_bands``.
        path: the file.
    """

    def paint(figure: Figure) -> None:
        set_title(figure, "how far each band is from its start")
        change, shift = figure.subplots(1, 2)
        numbers = np.arange(len(bands["relative_change"]))
        change.plot(numbers, bands["relative_change"], color=BLUE, label="curve, both stages")
        change.plot(
            numbers, bands["bank_relative_change"], color=VERMILION, linestyle="--",
            label="weights of the bank",
        )  # fmt: skip
        change.set(xlabel="band", ylabel="‖change‖ / ‖start‖")
        change.legend(loc="best")
        shift.plot(numbers, bands["centre_shift_hz"], color=BLUE)
        shift.axhline(0.0, color=MUTED, linewidth=0.8)
        shift.set(xlabel="band", ylabel="shift of the centre (Hz)")

    return write_png(paint, path, width_in=8.4, height_in=3.2)


def draw_features(
    features: Mapping[str, Sequence[np.ndarray]],
    grids: Mapping[str, TimeGrid],
    clips: Sequence[str],
    path: Path,
) -> Path:
    """Draw what the backbone gets of some clips after each phase.

    Args:
        features: phase → for each clip ``(time, frequency)``.
        grids: phase → the times of its frames.
        clips: what to call each clip.
        path: the file.
    """

    def paint(figure: Figure) -> None:
        set_title(figure, "features before the backbone, phase by phase; each with its own range")
        grid = figure.subplots(len(clips), len(features), sharex=True, squeeze=False)
        for column, (phase, of_clips) in enumerate(features.items()):
            for row, values in enumerate(of_clips):
                axes: Axes = grid[row, column]
                times_s = grids[phase].times_s(len(values))
                show_over_time(axes, values.T, times_s, cmap="viridis")
                extent = f"{values.min():.3g} to {values.max():.3g}"
                axes.set_title(f"{shorten(phase, 18)}: {extent}" if row == 0 else extent)
                axes.set_yticks([])
                if column == 0:
                    axes.set_ylabel(shorten(clips[row], 20))
                if row == len(clips) - 1:
                    axes.set_xlabel("time (s)")

    size: dict[str, Any] = {
        "width_in": 0.6 + 2.3 * len(features),
        "height_in": 0.9 + 1.6 * len(clips),
    }
    return write_png(paint, path, **size)


def _set_frequency_axis(axes: Axes, frequencies_hz: np.ndarray) -> None:
    axes.set_xscale("symlog", linthresh=1000.0, linscale=1.0)
    axes.set_xlim(0.0, float(frequencies_hz[-1]))
    axes.set_xticks(*_choose_ticks(0.0, float(frequencies_hz[-1])))


def _choose_ticks(lowest_hz: float, highest_hz: float) -> tuple[list[int], list[str]]:
    """Places of ticks and their labels."""
    ticks = [hz for hz in _TICKS_HZ if lowest_hz <= hz <= highest_hz]
    return ticks, [f"{hz // 1000}k" if hz >= 1000 else str(hz) for hz in ticks]
