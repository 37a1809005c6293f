"""The threshold of `other` from finished runs, by clips and sounds that they have not heard."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from esc_tf.config import AudioConfig
from esc_tf.data import build_dataset, load_clips, load_data_set, load_known_data_set
from esc_tf.errors import RequestError
from esc_tf.evaluation import open_set
from esc_tf.evaluation.outside_sounds import OUTSIDE, generate_outside
from esc_tf.evaluation.predictions import Predictions, build_predict_step, predict_data_set
from esc_tf.evaluation.workers import Workers
from esc_tf.frames import count_samples
from esc_tf.tasks.classifier import Classifier, load_classifier
from esc_tf.training.cross_validation import RESULT_FILE, fold_path, read_stored
from esc_tf.training.run_directory import RunDirectory
from esc_tf.training.split_file import read_split

_BATCH_SIZE = 32
_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class HeldOut:
    """What runs say of the clips of their test folds.

    Attributes:
        logits: ``(clips, classes)``.
        labels: the clips' classes, int ``(clips,)``.
        folds: the test fold of each clip, int ``(clips,)``.
        names: of the clips.
    """

    logits: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    names: tuple[str, ...]


def find_runs(path: str | Path) -> list[RunDirectory]:
    """The runs of a cross-validation, or the one run that a directory is.

    Raises:
        RequestError: a cross-validation that is not finished, or nothing of the kind.
    """
    folder = Path(path).expanduser()
    if not (folder / RESULT_FILE).is_file():
        run = RunDirectory(folder)
        if not run.model_path.is_file():
            raise RequestError(
                f"{path}: neither a finished run nor a finished cross-validation ({RESULT_FILE})"
            )
        return [run]
    return [RunDirectory(fold_path(folder, fold)) for fold in read_stored(folder)[1]]


def measure_runs(
    runs: Sequence[RunDirectory],
    *,
    accepted_share: float,
    hours: float,
    data_root: str | None = None,
    report: Callable[[str], object] = print,
) -> tuple[dict[str, Any], HeldOut]:
    """Choose the threshold by all test folds together, and measure what it does.

    Args:
        runs: each with a test fold; those of a cross-validation share nothing of these.
        accepted_share: how many of the test clips must not be called `other`.
        hours: of each kind of sound from outside, shared by the runs.
        data_root: where the clips are now; None: where they were.
        report: takes lines for the user.

    Returns:
        A report, ``calibration`` and ``scores`` of ``esc_tf.evaluation.open_set``, ``outside`` of
        it at that ``threshold``; and what was said of the clips.

    Raises:
        RequestError: a run without a test fold, runs of different classes, or of segments.
        DataError: the clips cannot be used.
    """
    parts: list[HeldOut] = []
    outside: dict[str, list[np.ndarray]] = {kind: [] for kind in OUTSIDE}
    model: Classifier | None = None
    for number, run in enumerate(runs):
        last, model = model, load_classifier(run.path)
        _check_whole_clips(model)
        if last is not None and last.label_names != model.label_names:
            raise RequestError(f"{run.path}: has other classes than {runs[0].path}")
        report(f"{run.path}: clips of its test fold, and sounds from outside")
        parts.append(_hear_test_fold(run, model, data_root))
        heard = hear_outside(model, hours / len(runs), seed=number)
        for kind, logits in heard.items():
            outside[kind].append(logits)
    assert model is not None
    held_out = HeldOut(
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.folds for part in parts]),
        tuple(name for part in parts for name in part.names),
    )
    all_outside = {kind: np.concatenate(logits) for kind, logits in outside.items()}
    output, window_s = model.output_kind, float(model.audio["duration_s"])
    calibration = open_set.calibrate(held_out.logits, held_out.labels, output, accepted_share)
    threshold = calibration["threshold"]
    return {
        "threshold": threshold,
        "calibration": {**calibration, "runs": len(runs)},
        "outside": open_set.measure_outside(all_outside, output, threshold, window_s, window_s),
        "scores": open_set.compare_scores(held_out.logits, all_outside, output, accepted_share),
    }, held_out


def measure_model(model: Any, *, hours: float, threshold: float | None = None) -> dict[str, Any]:
    """How often one model names sounds from outside.

    Args:
        model: a classifier.
        hours: of each kind of sound.
        threshold: None: the model's own.

    Raises:
        RequestError: the model has no threshold, and none is given; it hears segments.
    """
    _check_whole_clips(model)
    threshold = model.other_threshold if threshold is None else threshold
    if threshold is None:
        raise RequestError(
            "the model has no threshold of its own; give one with --other-below, or measure the "
            "cross-validation that chooses one"
        )
    window_s = float(model.audio["duration_s"])
    found = open_set.measure_outside(
        hear_outside(model, hours), model.output_kind, threshold, window_s, window_s
    )
    return {"threshold": threshold, "outside": found}


def _check_whole_clips(model: Any) -> None:
    if AudioConfig.model_validate(model.audio).segments is not None:
        raise RequestError(
            "--open-set: the model hears segments, whose votes know no threshold; measure a model "
            "of whole clips"
        )


def hear_outside(model: Any, hours: float, seed: int = 0) -> dict[str, np.ndarray]:
    """Kind → logits ``(windows, classes)`` of sounds from outside, window after window.

    Args:
        model: a classifier.
        hours: of each kind.
        seed: of the sounds.
    """
    audio = AudioConfig.model_validate(model.audio)
    num_samples = count_samples(audio.duration_s, audio.sample_rate_hz)
    count = math.ceil(hours * _SECONDS_PER_HOUR / audio.duration_s)
    # One shape for all batches: another would be traced anew.
    batch_size = min(_BATCH_SIZE, count)
    found = {}
    for kind in OUTSIDE:
        windows = generate_outside(kind, count, num_samples, audio.sample_rate_hz, seed)
        rows, batch = [], np.zeros((batch_size, num_samples), np.float32)
        for start in range(0, count, batch_size):
            filled = min(batch_size, count - start)
            for place in range(filled):
                batch[place] = next(windows)
            inputs = {
                "waveform": batch,
                "num_samples": np.full(batch_size, num_samples, np.int32),
            }
            rows.append(np.asarray(model.predict_on_batch(inputs)["logits"])[:filled])
        found[kind] = np.concatenate(rows)
    return found


def _hear_test_fold(run: RunDirectory, model: Classifier, data_root: str | None) -> HeldOut:
    experiment = run.read_resolved()[0]
    wanted = set(read_split(run)["test"])
    if not wanted:
        raise RequestError(f"{run.path}: kept no test fold; name runs that did")
    data = experiment.data
    if data_root is not None:
        data_set = load_known_data_set(data, data_root, model.label_names)
    else:
        data_set = load_data_set(data, experiment.audio, experiment.seed)
    _, clips, _ = load_clips(data, experiment.audio, experiment.seed, data_set=data_set)
    clips = [clip for clip in clips if clip.record.clip_id in wanted]
    if not clips:
        raise RequestError(f"{run.path}: none of the clips of its test fold are there")
    batches = build_dataset(
        clips,
        audio=experiment.audio,
        num_classes=len(model.label_names),
        batch_size=min(experiment.recipe.batch_size, len(clips)),
        training=False,
    )
    strategy = tf.distribute.get_strategy()
    step = build_predict_step(model, strategy)
    found: Predictions = predict_data_set(step, batches, Workers(strategy))
    return HeldOut(
        found.logits,
        found.labels.argmax(axis=1),
        np.array([clips[place].record.fold for place in found.index]),
        tuple(clips[place].record.clip_id for place in found.index),
    )
