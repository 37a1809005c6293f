"""Train a classifier: ``python -m esc_tf.train --config FILE [--set k=v]… [--resume]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from esc_tf.command import add_config_arguments, load_config, quiet_import, run_command
from esc_tf.config import (
    Experiment,
    dump_experiment,
    load_experiment,
)
from esc_tf.errors import EXIT_DONE, RequestError


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m esc_tf.train", description="Train a classifier, evaluate and store it."
    )
    add_config_arguments(parser, required=False)
    parser.add_argument(
        "--run-dir", metavar="DIR", help="where everything goes (default: runs/NAME-TIME)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint in --run-dir"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check configuration and data, build the model, say what would happen; write nothing",
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print the resolved configuration and stop"
    )
    return parser


def _find_experiment(arguments: argparse.Namespace) -> Experiment:
    if not arguments.resume:
        if not arguments.config:
            raise RequestError("--config FILE is required (only --resume can do without)")
        return load_config(arguments)
    if not arguments.run_dir:
        raise RequestError("--resume needs --run-dir DIR, the run to go on with")

    with quiet_import():
        from esc_tf.training.run_directory import RESOLVED_FILE, RunDirectory, check_resumable

    run = RunDirectory(arguments.run_dir)
    run.check(resume=True)
    stored = load_experiment(run.resolved_path)
    source = arguments.config or str(Path(arguments.run_dir) / RESOLVED_FILE)
    wanted = load_experiment(source, arguments.overrides)
    check_resumable(stored, wanted)
    return wanted


def _run(arguments: argparse.Namespace) -> int:
    experiment = _find_experiment(arguments)
    if arguments.print_config:
        print(dump_experiment(experiment), end="")
        return EXIT_DONE

    with quiet_import():
        from esc_tf.evaluation.metrics import format_metrics
        from esc_tf.training.experiment import describe_start, train_experiment
        from esc_tf.training.run_directory import RunDirectory

    time = datetime.now().strftime("%Y%m%d-%H%M%S")
    run = RunDirectory(arguments.run_dir or Path("runs") / f"{experiment.name}-{time}")
    if arguments.dry_run:
        run.check(arguments.resume)
        print(describe_start(experiment))
        return EXIT_DONE
    result = train_experiment(experiment, run, resume=arguments.resume)
    for part in ("validation", "test"):
        if part in result.metrics:
            print(f"\n{part} set, weights of epoch {result.metrics['selected_epoch']}")
            print(format_metrics(result.metrics[part]))
    if "test" in result.metrics:
        print(f"\ntest accuracy: {result.metrics['test']['accuracy']:.4f}")
    print(f"results: {run.path}")
    return EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 1 failed while working, 2 the request was wrong."""
    return run_command(_run, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
