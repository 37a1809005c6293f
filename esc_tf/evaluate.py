"""Measure a trained run: ``python -m esc_tf.evaluate --run-dir DIR [--data-root DIR]``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from esc_tf.command import quiet_import, run_command
from esc_tf.errors import EXIT_DONE, DataError, RequestError

if TYPE_CHECKING:
    from esc_tf.data import DataSet


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m esc_tf.evaluate", description="Measure a trained run on labelled clips."
    )
    parser.add_argument("--run-dir", required=True, metavar="DIR", help="a finished run")
    parser.add_argument(
        "--data-root",
        metavar="DIR",
        help="another folder in the same layout; its clips whose classes the model knows",
    )
    parser.add_argument(
        "--fold",
        type=int,
        metavar="K",
        help="clips of this fold (default: the run's test fold; with --data-root every fold)",
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
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


def _run(arguments: argparse.Namespace) -> int:
    with quiet_import():
        import tensorflow as tf

        from esc_tf.data import (
            build_dataset,
            load_clips,
            load_data_set,
            load_known_data_set,
        )
        from esc_tf.evaluation.metrics import compute_metrics, format_metrics
        from esc_tf.evaluation.predictions import build_predict_step, predict_data_set
        from esc_tf.evaluation.workers import Workers
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
    _, clips, bad = load_clips(data, experiment.audio, experiment.seed, data_set)

    batches = build_dataset(
        clips,
        audio=experiment.audio,
        num_classes=len(model.label_names),
        batch_size=experiment.recipe.batch_size,
        training=False,
    )
    strategy = tf.distribute.get_strategy()
    found = predict_data_set(build_predict_step(model, strategy), batches, Workers(strategy))
    metrics = compute_metrics(found.labels.argmax(axis=1), found.probabilities, model.label_names)
    metrics["skipped_files"] = [
        {"clip": item.record.clip_id, "reason": item.reason} for item in bad
    ]
    if arguments.json:
        print(json.dumps(metrics, allow_nan=False))
    else:
        print(format_metrics(metrics))
        if bad:
            print(f"{len(bad)} bad files skipped")
    return EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 1 failed while working, 2 the request was wrong."""
    return run_command(_run, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
