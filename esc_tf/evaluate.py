"""Measure a run or a model on labelled clips: ``python -m esc_tf.evaluate --run-dir DIR``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esc_tf.command import quiet_import, run_command
from esc_tf.config import (
    AnyDataConfig,
    AudioConfig,
    Esc50DataConfig,
    FolderDataConfig,
    UrbanSound8KDataConfig,
)
from esc_tf.config.label_map import load_label_map
from esc_tf.errors import EXIT_DONE, DataError, RequestError

if TYPE_CHECKING:
    from esc_tf.data import BadClip, CachedClip, DataSet
    from esc_tf.evaluation.predictions import Predictions

_BATCH_SIZE = 32
_ACCEPTED_SHARE = 0.95
_HOURS, _MOST_HOURS = 1.0, 1000.0
_OPEN_SET_OPTIONS = ("accept", "other_below", "hours")


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m esc_tf.evaluate",
        description="Measure a trained run, or any model, on labelled clips. With a label map, a "
        "model is measured on classes that it was never trained on. With --open-set, on sounds "
        "that belong to no class.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--run-dir", metavar="DIR", help="a finished run; with --open-set a cross-validation, too"
    )
    what.add_argument(
        "--model", metavar="FILE", help="a .keras file, to be measured on --data-root"
    )
    parser.add_argument(
        "--data-root",
        metavar="DIR",
        help="a folder of labelled clips, in the run's layout or, with --model, in that of ESC-50, "
        "UrbanSound8K or one folder a class; its clips whose classes the model or the map knows",
    )
    parser.add_argument(
        "--fold",
        type=int,
        metavar="K",
        help="clips of this fold (default: the run's test fold; with --data-root every fold)",
    )
    parser.add_argument(
        "--label-map",
        metavar="FILE",
        help="with --model: the data's classes, each made of the model's labels, which are then "
        "read as these: YAML `labels: {dog: [Dog, Bark]}`",
    )
    parser.add_argument(
        "--duration",
        type=float,
        metavar="S",
        help="with --model: seconds that clips are padded or cut to, for a model that takes any "
        "length (default: the model's own)",
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    outside = parser.add_argument_group(
        "sounds of none of the classes",
        "silence, noise, generated sounds and mixtures of them, window after window. Of runs, the "
        "threshold below which a sound is called `other` is chosen by the clips of their test "
        "folds, all together; a model has its own.",
    )
    outside.add_argument(
        "--open-set", action="store_true", help="count false alarms an hour of such sounds"
    )
    outside.add_argument(
        "--accept",
        type=float,
        metavar="SHARE",
        help=f"share of the clips that must not be called `other` ({_ACCEPTED_SHARE:g})",
    )
    outside.add_argument(
        "--other-below", type=float, metavar="P", help="with --model: the threshold to measure"
    )
    outside.add_argument(
        "--hours", type=float, metavar="H", help=f"of each kind of sound ({_HOURS:g})"
    )
    return parser


def select_fold(data_set: DataSet, fold: int) -> DataSet:
    """The records of one fold.

    Raises:
        DataError: there is no such fold; those that there are are listed.
    """
    records = tuple(record for record in data_set.records if record.fold == fold)
    if not records:
        folds = sorted({record.fold for record in data_set.records})
        raise DataError(
            f"--fold: fold {fold} does not exist (there are: {', '.join(map(str, folds))})"
        )
    return replace(data_set, records=records)


def recognize_layout(root: str) -> AnyDataConfig:
    """The layout of a folder of labelled clips, by the table that lies in it.

    Args:
        root: a folder in ESC-50's or UrbanSound8K's layout, else one with a folder a class.
    """
    folder = Path(root).expanduser()
    if (folder / "meta" / "esc50.csv").is_file():
        return Esc50DataConfig(name="esc50", root=root)
    if (folder / "metadata" / "UrbanSound8K.csv").is_file():
        return UrbanSound8KDataConfig(name="urbansound8k", root=root)
    return FolderDataConfig(name="folder", root=root)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.open_set:
        return _measure_open_set(arguments)
    _refuse(arguments, _OPEN_SET_OPTIONS, "goes with --open-set; add it or leave it out")
    if arguments.model is not None:
        if arguments.data_root is None:
            raise RequestError("--model needs --data-root, a folder of labelled clips")
        return _measure_model(arguments)
    _refuse(arguments, ("label_map", "duration"), "goes with --model; leave it out")
    return _measure_run(arguments)


def _refuse(arguments: argparse.Namespace, names: Sequence[str], reason: str) -> None:
    for name in names:
        if getattr(arguments, name) is not None:
            raise RequestError(f"--{name.replace('_', '-')} {reason}")


def _measure_open_set(arguments: argparse.Namespace) -> int:
    _refuse(arguments, ("fold", "label_map", "duration"), "does not go with --open-set")
    for name in ("accept", "other_below"):
        share = getattr(arguments, name)
        if share is not None and not 0.0 <= share <= 1.0:
            raise RequestError(f"--{name.replace('_', '-')} must lie between 0 and 1")
    hours = _HOURS if arguments.hours is None else arguments.hours
    if not 0.0 < hours <= _MOST_HOURS:
        raise RequestError(f"--hours must be above 0 and not above {_MOST_HOURS:g}")
    if arguments.model is not None:
        _refuse(arguments, ("accept", "data_root"), "goes with --run-dir; leave it out")
    else:
        _refuse(arguments, ("other_below",), "goes with --model; runs choose a threshold anew")

    with quiet_import():
        from esc_tf.evaluation.open_set import format_open_set
        from esc_tf.training.open_set import find_runs, measure_model, measure_runs

    if arguments.model is not None:
        model = _load_any(arguments.model)
        found = measure_model(model, hours=hours, threshold=arguments.other_below)
    else:
        found, _ = measure_runs(
            find_runs(arguments.run_dir),
            accepted_share=_ACCEPTED_SHARE if arguments.accept is None else arguments.accept,
            hours=hours,
            data_root=arguments.data_root,
            report=lambda line: print(line, file=sys.stderr),
        )
    print(json.dumps(found, allow_nan=False) if arguments.json else format_open_set(found))
    return EXIT_DONE


def _measure_run(arguments: argparse.Namespace) -> int:
    with quiet_import():
        from esc_tf.data import load_data_set, load_known_data_set
        from esc_tf.tasks.classifier import load_classifier
        from esc_tf.training.run_directory import RunDirectory

    run = RunDirectory(arguments.run_dir)
    experiment = run.read_resolved()[0]
    model = load_classifier(run.path)
    data, fold = experiment.data, arguments.fold
    if arguments.data_root is not None:
        data_set = load_known_data_set(data, arguments.data_root, model.label_names)
    else:
        data_set = load_data_set(data, experiment.audio, experiment.seed)
        fold = data.test_fold if fold is None else fold
        if fold is None:
            raise RequestError(
                "the run kept no test fold; say which clips with --fold or --data-root"
            )
        if fold != data.test_fold:
            print(f"note: the run has trained or validated on fold {fold}", file=sys.stderr)
    if fold is not None:
        data_set = select_fold(data_set, fold)
    found, heard, bad = _hear(model, data, experiment.audio, data_set, experiment.recipe.batch_size)
    _print_metrics(found, heard, model.label_names, bad, arguments.json)
    return EXIT_DONE


def _measure_model(arguments: argparse.Namespace) -> int:
    label_map = None if arguments.label_map is None else load_label_map(arguments.label_map)
    data = recognize_layout(arguments.data_root)

    with quiet_import():
        from esc_tf.data import load_known_data_set
        from esc_tf.evaluation.heard_clips import choose_length
        from esc_tf.evaluation.label_mapping import map_scores
        from esc_tf.tasks.classifier import load_classifier

    model = load_classifier(arguments.model).fold_batch_norms()
    audio = choose_length(model, arguments.duration)
    class_names = model.label_names if label_map is None else label_map.class_names
    groups = None if label_map is None else label_map.find_labels(model.label_names)
    data_set = load_known_data_set(data, arguments.data_root, class_names)
    if arguments.fold is not None:
        data_set = select_fold(data_set, arguments.fold)
    found, heard, bad = _hear(model, data, audio, data_set, _BATCH_SIZE)
    if groups is not None:
        found = replace(found, probabilities=map_scores(found.probabilities, groups))
    _print_metrics(found, heard, class_names, bad, arguments.json)
    return EXIT_DONE


def _load_any(path: str) -> Any:
    """A classifier, or a file for LiteRT in its place."""
    if Path(path).suffix == ".tflite":
        from esc_tf.litert_model import LiteRTModel

        with quiet_import():
            return LiteRTModel(path)
    from esc_tf.tasks.classifier import load_classifier

    return load_classifier(path).fold_batch_norms()


def _hear(
    model: Any, data: AnyDataConfig, audio: AudioConfig, data_set: DataSet, batch_size: int
) -> tuple[Predictions, Sequence[CachedClip], Sequence[BadClip]]:
    """What the model says of all clips or segments, these, and the bad files that were skipped."""
    import tensorflow as tf

    from esc_tf.data import build_dataset, cut_clips, load_clips
    from esc_tf.evaluation.predictions import build_predict_step, predict_data_set
    from esc_tf.evaluation.workers import Workers

    _, clips, bad = load_clips(data, audio, seed=0, data_set=data_set)
    heard = cut_clips(clips, audio)
    batches = build_dataset(
        heard,
        audio=audio,
        num_classes=len(data_set.label_names),
        batch_size=batch_size,
        training=False,
    )
    strategy = tf.distribute.get_strategy()
    step = build_predict_step(model, strategy)
    return predict_data_set(step, batches, Workers(strategy)), heard, bad


def _print_metrics(
    found: Predictions,
    heard: Sequence[CachedClip],
    class_names: Sequence[str],
    bad: Sequence[BadClip],
    as_json: bool,
) -> None:
    from esc_tf.evaluation.metrics import format_metrics
    from esc_tf.evaluation.voting import measure_clips

    metrics = measure_clips(found, heard, class_names)
    metrics["skipped_files"] = [
        {"clip": item.record.clip_id, "reason": item.reason} for item in bad
    ]
    if as_json:
        print(json.dumps(metrics, allow_nan=False))
    else:
        print(format_metrics(metrics))
        if bad:
            print(f"{len(bad)} bad files skipped")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 1 failed while working, 2 the request was wrong."""
    return run_command(_run, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
