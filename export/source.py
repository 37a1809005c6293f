"""What is exported: a trained model with its facts, and the clips to calibrate and to verify it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from esc_tf.config import (
    AnyDataConfig,
    AudioConfig,
    Experiment,
    ExportConfig,
    SyntheticDataConfig,
)
from esc_tf.data import (
    CachedClip,
    DataSet,
    Record,
    fit_length,
    load_clips,
    load_data_set,
    load_waveform,
    take_one_each,
)
from esc_tf.errors import DataError, EscTfError, RequestError
from esc_tf.evaluation.run_files import METRICS_FILE
from esc_tf.frames import count_samples
from esc_tf.tasks.classifier import Classifier, load_classifier
from esc_tf.training.run_directory import RunDirectory
from esc_tf.training.split_file import read_split

UNKNOWN_CLASS = -1
_GENERATED_CLIPS_PER_CLASS = 8
# Generated clips to calibrate with come from these folds, those to verify with from the others.
_CALIBRATION_FOLDS = (1, 2, 3)
_SEED = 0


@dataclass(frozen=True)
class ClipSet:
    """Clips of the model's own rate and length.

    Attributes:
        waveforms: float32 ``(clips, samples)``, padded and cropped as in training.
        label_ids: int ``(clips,)``; ``UNKNOWN_CLASS`` where the model has no such class.
        names: of the clips.
        origin: where they are from, in words.
        real: whether they are the model's own kind of clips; False: generated for want of data.
    """

    waveforms: np.ndarray
    label_ids: np.ndarray
    names: tuple[str, ...]
    origin: str
    real: bool


@dataclass(frozen=True)
class ExportSource:
    """A model to be exported.

    Attributes:
        model: as it was saved.
        path: the run directory or the file.
        name: of the experiment or of the file; the artefacts' names begin with it.
        calibration: clips for the ranges of integer formats, none of them among ``evaluation``.
        evaluation: clips for agreement and accuracy.
        clip_seed: by which both were drawn.
        experiment: the run's configuration; None for a file.
        facts: what ``resolved.yaml`` says beside the configuration.
        metrics: what ``metrics.json`` says.
    """

    model: Classifier
    path: Path
    name: str
    calibration: ClipSet
    evaluation: ClipSet
    clip_seed: int = 0
    experiment: Experiment | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


def load_source(
    path: str | Path,
    *,
    data: AnyDataConfig | None = None,
    fold: int | None = None,
    calibration_clips: int | None = None,
    evaluation_clips: int | None = None,
    clip_seed: int | None = None,
    report: Callable[[str], object] = print,
) -> ExportSource:
    """Load a model and clips for it.

    Of a run directory, clips of its training part calibrate and its test part (else its
    validation part) evaluates. Of a ``.keras`` file, one fold of ``data`` evaluates and the others
    calibrate. Where there are no data, generated sounds do both, which ``report`` is told.

    Args:
        path: a run directory or a ``.keras`` file.
        data: labelled clips; of a run, which knows its own, the ``root`` alone: where they are now.
        fold: the fold of ``data`` that evaluates a ``.keras`` file; None: the last.
        calibration_clips: at most so many, spread over the classes; None, as for the next two:
            what the run's ``export`` section says, and of a file that section's default.
        evaluation_clips: at most so many, spread over the classes.
        clip_seed: which clips of each class these are.
        report: takes lines for the user.

    Raises:
        RequestError: there is no such model or run; or ``fold`` without ``data``.
        CheckpointError: the model's file is damaged.
        DataError: data that were named cannot be used.
    """
    path = Path(path)
    model = load_classifier(path)
    given = {
        "calibration_clips": calibration_clips,
        "evaluation_clips": evaluation_clips,
        "clip_seed": clip_seed,
    }
    options = {key: value for key, value in given.items() if value is not None}
    if path.is_dir():
        if fold is not None:
            raise RequestError("--fold: a run knows its own test fold; leave it out")
        return _load_run(path, model, data, options, report)
    wanted = ExportConfig(**options)
    audio = AudioConfig.model_validate(model.audio)
    if data is not None:
        parts = _divide_folds(load_data_set(data, audio, _SEED), fold)
        calibration, evaluation = _read_parts(data, audio, parts, model, wanted)
    elif fold is not None:
        raise RequestError("--fold: goes with --data-root; add it or leave --fold out")
    else:
        report(
            "note: without --data-root, integer formats are calibrated with generated sounds and "
            "agreement is measured on others of them"
        )
        calibration, evaluation = _generate_parts(audio, model, wanted)
    return ExportSource(
        model, path, _clean_name(path.stem), calibration, evaluation, wanted.clip_seed
    )


def _load_run(
    path: Path,
    model: Classifier,
    data: AnyDataConfig | None,
    options: Mapping[str, int],
    report: Callable[[str], object],
) -> ExportSource:
    run = RunDirectory(path)
    experiment, facts = run.read_resolved()
    wanted = experiment.export.model_copy(update=options)
    metrics = _read_metrics(path)
    data_set_config = experiment.data
    if data is not None:
        root = getattr(data, "root", None)
        if root is None or not hasattr(data_set_config, "root"):
            raise RequestError(
                f"--data-root: the run used data.name {data_set_config.name}, which lies nowhere; "
                "leave it out"
            )
        data_set_config = data_set_config.model_copy(update={"root": root})
    split = read_split(run)
    kept = "test" if split["test"] else "validation"
    try:
        if not split[kept]:
            raise DataError("it kept none of them for a test or a validation")
        data_set = load_data_set(data_set_config, experiment.audio, experiment.seed)
        parts = {
            f"training part of {path.name}": _named(data_set, split["train"]),
            f"{kept} part of {path.name}": _named(data_set, split[kept]),
        }
        if not all(part.records for part in parts.values()):
            raise DataError("none of the clips that the run trained and tested on are there")
        calibration, evaluation = _read_parts(
            data_set_config, experiment.audio, parts, model, wanted
        )
    except EscTfError as error:
        if data is not None:
            raise
        report(
            f"note: the run's data cannot be used ({error.problems[0]}); generated sounds take "
            "their place. Name the folder where they lie now with --data-root"
        )
        calibration, evaluation = _generate_parts(experiment.audio, model, wanted)
    return ExportSource(
        model,
        path,
        _clean_name(experiment.name),
        calibration,
        evaluation,
        wanted.clip_seed,
        experiment,
        facts,
        metrics,
    )


def _read_metrics(path: Path) -> dict[str, Any]:
    try:
        return json.loads((path / METRICS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _named(data_set: DataSet, clip_ids: Iterable[str]) -> DataSet:
    wanted = set(clip_ids)
    return replace(
        data_set,
        records=tuple(record for record in data_set.records if record.clip_id in wanted),
    )


def _divide_folds(data_set: DataSet, fold: int | None) -> dict[str, DataSet]:
    """The clips outside a fold, and those in it; no recording in both."""
    folds = sorted({record.fold for record in data_set.records})
    fold = folds[-1] if fold is None else fold
    if fold not in folds:
        raise DataError(
            f"--fold: fold {fold} does not exist (there are: {', '.join(map(str, folds))})"
        )
    inside = [record for record in data_set.records if record.fold == fold]
    heard = {record.source_id for record in inside}
    outside = [
        record
        for record in data_set.records
        if record.fold != fold and record.source_id not in heard
    ]
    if not outside:
        raise DataError(
            f"--fold: there is no clip outside fold {fold} to calibrate with; name data with two "
            "folds or more"
        )
    where = data_set.root or "the data"
    return {
        f"{where} without fold {fold}": replace(data_set, records=tuple(outside)),
        f"fold {fold} of {where}": replace(data_set, records=tuple(inside)),
    }


def _generate_parts(
    audio: AudioConfig, model: Classifier, wanted: ExportConfig
) -> tuple[ClipSet, ClipSet]:
    config = SyntheticDataConfig(
        name="synthetic", clips_per_class_and_fold=_GENERATED_CLIPS_PER_CLASS
    )
    data_set = load_data_set(config, audio, _SEED)
    parts = {}
    for title, inside in (
        ("generated sounds", True),
        ("other generated sounds", False),
    ):
        records = (r for r in data_set.records if (r.fold in _CALIBRATION_FOLDS) == inside)
        parts[title] = replace(data_set, records=tuple(records))
    return _read_parts(config, audio, parts, model, wanted, real=False)


def _read_parts(
    config: AnyDataConfig,
    audio: AudioConfig,
    parts: Mapping[str, DataSet],
    model: Classifier,
    wanted: ExportConfig,
    real: bool = True,
) -> tuple[ClipSet, ClipSet]:
    """Two sets of clips: decoded where that has not been done, and brought to one length."""
    counts = wanted.calibration_clips, wanted.evaluation_clips
    chosen = {
        title: choose_evenly(part.records, count, wanted.clip_seed)
        for (title, part), count in zip(parts.items(), counts, strict=True)
    }
    if "on_bad_file" in type(config).model_fields:
        config = config.model_copy(update={"on_bad_file": "skip"})
    # All in one go, since a set of shards is checked each time it is opened.
    some = next(iter(parts.values()))
    records = tuple(record for part in chosen.values() for record in part)
    _, clips, _ = load_clips(config, audio, _SEED, replace(some, records=records))
    by_id = {clip.record.clip_id: clip for clip in clips}
    first, second = (
        _read_clips(
            [by_id[record.clip_id] for record in part if record.clip_id in by_id],
            audio,
            model,
            title,
            real,
        )
        for title, part in chosen.items()
    )
    return first, second


def choose_evenly(records: Sequence[Record], count: int, seed: int) -> list[Record]:
    """At most ``count`` records: one of each class, then a second of each, and so on.

    The same of the same records, whatever their order; drawn within each class by ``seed``.
    """
    classes: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.clip_id):
        classes.setdefault(record.label_name, []).append(record)
    ranked = []
    for name in sorted(classes):
        order = np.random.default_rng([seed, 0xE49]).permutation(len(classes[name]))
        ranked += [(rank, classes[name][place]) for rank, place in enumerate(order)]
    ranked.sort(key=lambda item: item[0])
    return [record for _, record in ranked[:count]]


def _read_clips(
    clips: Sequence[CachedClip], audio: AudioConfig, model: Classifier, origin: str, real: bool
) -> ClipSet:
    if not clips:
        raise DataError(f"{origin}: no clip can be read")
    clips = take_one_each(clips, audio)
    num_samples = count_samples(audio.duration_s, audio.sample_rate_hz)
    waveforms = [
        fit_length(load_waveform(clip, audio.sample_rate_hz), num_samples, audio.pad, audio.crop)[
            0
        ].numpy()
        for clip in clips
    ]
    label_ids = {name: number for number, name in enumerate(model.label_names)}
    return ClipSet(
        waveforms=np.stack(waveforms),
        label_ids=np.array(
            [label_ids.get(clip.record.label_name, UNKNOWN_CLASS) for clip in clips], np.int64
        ),
        names=tuple(clip.record.clip_id for clip in clips),
        origin=origin,
        real=real,
    )


def _clean_name(name: str) -> str:
    """A name that files on any system may have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._") or "model"
