"""What a run's front end has learned, on disk: numbers, arrays, figures and a page of them."""

from __future__ import annotations

import base64
import json
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

import esc_tf
from esc_tf.config import Experiment
from esc_tf.errors import DataError, EscTfError
from esc_tf.evaluation.report.findings import Sound, read_sounds
from esc_tf.evaluation.report.markup import (
    Html,
    Section,
    heading,
    image,
    join,
    notice,
    paragraph,
)
from esc_tf.evaluation.report.page import render_page
from esc_tf.files import new_folder
from esc_tf.frontends import MelInit, list_sublayers
from esc_tf.interpretation.figures import front_end as figures
from esc_tf.interpretation.front_end_kernels import (
    KernelBank,
    choose_tones,
    compare_bands,
    compare_kernels,
    compute_mel_curves,
    measure_tone_answers,
    read_kernels,
)
from esc_tf.interpretation.front_end_phases import (
    PhaseFrontEnd,
    choose_clips,
    correlate,
    extract_features,
    find_start,
    load_front_ends,
)

FACTS_FILE = "front_end.json"
ARRAYS_FILE = "arrays.npz"
PAGE_FILE = "index.html"
CONTENTS = "an analysis of a front end"
NUM_CLIPS = 4
_TITLE = "What the front end has learned"
_ANCHOR = "front-end"
_FORMAT = 1


@dataclass
class _Findings:
    """What goes into the folder."""

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)


def write_analysis(
    phases: Sequence[PhaseFrontEnd],
    experiment: Experiment,
    folder: str | Path,
    *,
    num_clips: int = NUM_CLIPS,
    replace: bool = False,
    report: Callable[[str], object] = print,
) -> Path:
    """Write the analysis; the folder is there whole at the end or not at all.

    ``front_end.json`` has the numbers, ``arrays.npz`` the arrays behind the figures, ``*.png`` the
    figures and ``index.html`` all of them in one file that needs no other.

    Args:
        phases: of ``load_front_ends``.
        experiment: the run's configuration, by which its clips are found.
        folder: to be made.
        num_clips: clips whose features are shown, one of a class each.
        replace: whether an analysis that is there may be replaced.
        report: takes lines for the user.

    Returns:
        The page.

    Raises:
        RequestError: there is something at ``folder`` already.
        OSError: nothing can be written there.
    """
    with new_folder(folder, FACTS_FILE, CONTENTS, replace) as partial:
        found = _analyze(phases, experiment, partial, num_clips, report)
        text = json.dumps(_to_json(found.facts), indent=1, ensure_ascii=False, allow_nan=False)
        (partial / FACTS_FILE).write_text(text, encoding="utf-8")
        np.savez_compressed(partial / ARRAYS_FILE, **found.arrays)  # type: ignore[arg-type]
        page = render_page(_TITLE, _introduce(found), found.sections)
        (partial / PAGE_FILE).write_text(page, encoding="utf-8")
    return Path(folder).expanduser() / PAGE_FILE


def show_in_report(run_path: Path, experiment: Experiment) -> Section:
    """The analysis as a section of a run's report; where a model cannot be read it says so.

    Args:
        run_path: a run directory whose front end has weights.
        experiment: its configuration.
    """
    try:
        phases = load_front_ends(run_path)
        with tempfile.TemporaryDirectory() as folder:
            found = _analyze(phases, experiment, Path(folder), NUM_CLIPS, report=lambda line: None)
    except EscTfError as error:
        return Section(_ANCHOR, _TITLE, notice(f"Not shown: {'; '.join(error.problems)}."))
    parts = [_introduce(found)]
    for section in found.sections:
        parts += [heading(section.title), section.body]
    return Section(_ANCHOR, _TITLE, join(parts))


def _analyze(
    phases: Sequence[PhaseFrontEnd],
    experiment: Experiment,
    folder: Path,
    num_clips: int,
    report: Callable[[str], object],
) -> _Findings:
    """Measure, and draw into a folder that is there."""
    last, start = phases[-1], find_start(phases)
    found = _Findings(_describe(phases, start))
    if list_sublayers(last.front_end):
        _add_kernels(found, last, start, folder)
    if isinstance(last.front_end, MelInit) and start is not None:
        _add_bands(found, last.front_end, start.front_end, folder)
    _add_answers(found, phases, start, experiment.num_samples, folder)
    _add_features(found, phases, start, experiment, num_clips, folder, report)
    return found


def _describe(phases: Sequence[PhaseFrontEnd], start: PhaseFrontEnd | None) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "front_end": keras.saving.serialize_keras_object(phases[-1].front_end)["config"],
        "class": type(phases[-1].front_end).__name__,
        "start": None if start is None else start.name,
        "phases": [
            {"name": phase.name, "class": type(phase.front_end).__name__} for phase in phases
        ],
        "versions": {
            "esc_tf": esc_tf.__version__,
            "keras": keras.__version__,
            "python": platform.python_version(),
        },
    }


def _add_kernels(
    found: _Findings, last: PhaseFrontEnd, start: PhaseFrontEnd | None, folder: Path
) -> None:
    learned = read_kernels(last.front_end)
    before = None if start is None else read_kernels(start.front_end)
    kernels: dict[str, Any] = {
        "number": len(learned.kernels),
        "samples": learned.kernels.shape[1],
        "dominant_hz": learned.dominant_hz,
    }
    found.arrays |= {
        "kernels": learned.kernels,
        "kernel_responses": learned.responses,
        "frequencies_hz": learned.frequencies_hz,
    }
    banks: dict[str, KernelBank] = {last.name: learned}
    if start is not None and before is not None:
        banks = {start.name: before, **banks}
    drawings = [
        figures.draw_kernels(learned, before, folder / "kernels.png"),
        figures.draw_spectra(banks, folder / "spectra.png"),
    ]
    captions = [
        "Kernels over time.",
        "Spectra, each column a kernel, sorted by the frequency that it answers to most.",
    ]
    if before is not None:
        found.arrays["start_kernels"] = before.kernels
        moved = compare_kernels(learned, before)
        kernels |= {"start_dominant_hz": before.dominant_hz, **moved}
        kernels["median_relative_change"] = float(np.nanmedian(moved["relative_change"]))
        kernels["largest_relative_change"] = float(np.nanmax(moved["relative_change"]))
        drawings.append(figures.draw_kernel_movement(moved, before, folder / "kernel_movement.png"))
        captions.append("How far each kernel is from where it began.")
    found.facts["kernels"] = kernels
    found.sections.append(_make_section("kernels", "Kernels", drawings, captions))


def _add_bands(found: _Findings, learned: MelInit, start: MelInit, folder: Path) -> None:
    curves, before = compute_mel_curves(learned), compute_mel_curves(start)
    frequencies_hz = read_kernels(learned).frequencies_hz
    bands = compare_bands(learned, start)
    found.arrays |= {"mel_curves": curves, "start_mel_curves": before}
    found.facts["bands"] = {
        "number": len(curves),
        **bands,
        "median_relative_change": float(np.nanmedian(bands["relative_change"])),
        "largest_relative_change": float(np.nanmax(bands["relative_change"])),
        "largest_centre_shift_hz": float(np.nanmax(np.abs(bands["centre_shift_hz"]))),
    }
    drawings = [
        figures.draw_mel_curves(curves, before, frequencies_hz, folder / "mel_curves.png"),
        figures.draw_band_movement(bands, folder / "band_movement.png"),
    ]
    captions = [
        "What each band answers to, through kernels and bank: learned against the start.",
        "How far each band is from where it began.",
    ]
    found.sections.append(_make_section("bands", "Bands", drawings, captions))


def _add_answers(
    found: _Findings,
    phases: Sequence[PhaseFrontEnd],
    start: PhaseFrontEnd | None,
    num_samples: int,
    folder: Path,
) -> None:
    last = phases[-1]
    tones_hz = choose_tones(last.front_end.sample_rate_hz)
    shown = [last] if start is None else [start, last]
    answers = {
        phase.name: measure_tone_answers(phase.front_end, tones_hz, num_samples) for phase in shown
    }
    found.arrays |= {"tones_hz": tones_hz, "tone_answers": answers[last.name]}
    drawing = figures.draw_answers(answers, tones_hz, folder / "tones.png")
    caption = "The mean of each band over time while one tone of half the full scale sounds."
    found.sections.append(_make_section("tones", "Answers to tones", [drawing], [caption]))


def _add_features(
    found: _Findings,
    phases: Sequence[PhaseFrontEnd],
    start: PhaseFrontEnd | None,
    experiment: Experiment,
    num_clips: int,
    folder: Path,
    report: Callable[[str], object],
) -> None:
    try:
        clips = choose_clips(experiment, num_clips)
        sounds: list[Sound] = read_sounds(clips, experiment)
    except DataError as error:
        problem = "; ".join(error.problems)
        report(f"without features of clips: {problem}")
        found.facts["clips_missing"] = problem
        return
    # The start of `mel_init` is no phase, and the first thing to compare with.
    shown = list(phases) if start is None or start in phases else [start, *phases]
    names = [f"{clip.record.label_name}: {clip.record.clip_id}" for clip in clips]
    features = {phase.name: extract_features(phase.front_end, sounds) for phase in shown}
    reference = features[shown[0].name]
    found.facts["features"] = {
        "compared_with": shown[0].name,
        "clips": names,
        "phases": {
            name: [
                {
                    "mean": float(values.mean()),
                    "deviation": float(values.std()),
                    "smallest": float(values.min()),
                    "largest": float(values.max()),
                    "correlation": correlate(values, first),
                }
                for values, first in zip(of_clips, reference, strict=True)
            ]
            for name, of_clips in features.items()
        },
    }
    for number, (name, of_clips) in enumerate(features.items()):
        found.arrays[f"features_{number}_{name}"] = np.stack(of_clips)
    grids = {
        phase.name: phase.front_end.measure_time_grid(experiment.num_samples) for phase in shown
    }
    drawing = figures.draw_features(features, grids, names, folder / "features.png")
    caption = (
        "What the backbone gets of the same clips after each phase (of a clip in segments the "
        "first that is not silent)."
    )
    section = _make_section("features", "Features before the backbone", [drawing], [caption])
    found.sections.append(section)


def _make_section(
    anchor: str, title: str, drawings: Sequence[Path], captions: Sequence[str]
) -> Section:
    parts: list[Html] = []
    for path, caption in zip(drawings, captions, strict=True):
        encoded = base64.b64encode(path.read_bytes()).decode("ascii")
        parts += [
            paragraph(caption),
            image(f"data:image/png;base64,{encoded}", caption, "figure"),
        ]
    return Section(anchor, title, join(parts))


def _introduce(found: _Findings) -> Html:
    facts = found.facts
    lines = [f"{facts['class']}, phases: {', '.join(phase['name'] for phase in facts['phases'])}."]
    if facts["start"] is None:
        lines.append("Where it began is not stored, so nothing is said of how far it has moved.")
    if kernels := facts.get("kernels"):
        text = f"{kernels['number']} kernels of {kernels['samples']} samples"
        if "median_relative_change" in kernels:
            text += (
                f"; their distance from the start is {kernels['median_relative_change']:.2g} of "
                f"their norm (median), {kernels['largest_relative_change']:.2g} at most"
            )
        lines.append(f"{text}.")
    if bands := facts.get("bands"):
        lines.append(
            f"The curves of the {bands['number']} bands have changed by "
            f"{bands['median_relative_change']:.2g} of their norm (median), "
            f"{bands['largest_relative_change']:.2g} at most; centres have moved by "
            f"{bands['largest_centre_shift_hz']:.3g} Hz at most."
        )
    if "clips_missing" in facts:
        lines.append(f"Without features of clips: {facts['clips_missing']}.")
    return join([paragraph(line) for line in lines])


def _to_json(value: Any) -> Any:
    """Plain values; what is not a number becomes null."""
    if isinstance(value, Mapping):
        return {key: _to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    if isinstance(value, np.ndarray):
        return [_to_json(item) for item in value.tolist()]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
