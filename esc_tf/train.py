"""Train a classifier: ``python -m esc_tf.train --config FILE [--set k=v]… [--resume]``.

With ``--cross-validate`` it trains one for each fold of the data, tests each on its fold and puts
the tests together.
"""

from __future__ import annotations

import argparse
import os
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
from esc_tf.errors import EXIT_DONE, RequestError, TrainingError
from esc_tf.report import report_finished_run
from esc_tf.training.termination import StopSignal

RESOLVED_FILE = "resolved.yaml"


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
        "--resume-if-started",
        action="store_true",
        help="--resume if --run-dir holds a run, else start it: one command for every restart",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check configuration and data, build the model, say what would happen; write nothing",
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print the resolved configuration and stop"
    )
    parser.add_argument(
        "--cross-validate",
        action="store_true",
        help="one run for each fold as the test fold, in DIR/fold_K; then mean and spread",
    )
    parser.add_argument(
        "--folds",
        type=_parse_folds,
        metavar="K,K…",
        help="which folds to test on (default: all; with --resume: added to the earlier ones)",
    )
    parser.add_argument(
        "--parallel", type=_parse_count, metavar="N", help="how many folds at a time (default: 1)"
    )
    return parser


def _parse_folds(text: str) -> list[int]:
    try:
        folds = [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list like 1,2,3") from None
    if len(set(folds)) < len(folds):
        raise argparse.ArgumentTypeError(f"'{text}' names a fold twice")
    return folds


def _parse_count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 1")
    return int(text)


def _find_experiment(arguments: argparse.Namespace) -> Experiment:
    if not arguments.resume:
        if not arguments.config:
            raise RequestError("--config FILE is required (only --resume can do without)")
        return load_config(arguments)
    if not arguments.run_dir:
        raise RequestError("--resume needs --run-dir DIR, the run to go on with")

    with quiet_import():
        from esc_tf.training import cross_validation
        from esc_tf.training.run_directory import RunDirectory, check_resumable

    run = RunDirectory(arguments.run_dir)
    path = (
        run.path / cross_validation.CONFIG_FILE if arguments.cross_validate else run.resolved_path
    )
    if arguments.cross_validate:
        cross_validation.check_folder(run.path, resume=True)
    else:
        run.check(resume=True)
    stored = load_experiment(path)
    source = arguments.config or path
    wanted = load_experiment(source, arguments.overrides)
    check_resumable(stored, wanted)
    return wanted


def _run(arguments: argparse.Namespace, stop: StopSignal) -> int:
    _settle_resume(arguments)
    _check_arguments(arguments)
    experiment = _find_experiment(arguments)
    if arguments.print_config:
        print(dump_experiment(experiment), end="")
        return EXIT_DONE
    if arguments.cross_validate:
        return _cross_validate(experiment, arguments)
    return _train(experiment, arguments, stop)


def _settle_resume(arguments: argparse.Namespace) -> None:
    """Turn ``--resume-if-started`` into ``--resume`` or nothing."""
    if not arguments.resume_if_started:
        return
    if not arguments.run_dir:
        raise RequestError("--resume-if-started needs --run-dir DIR, the run to go on with")
    started = (RESOLVED_FILE, "cross_validation.yaml")
    arguments.resume = any((Path(arguments.run_dir) / name).is_file() for name in started)


def _check_arguments(arguments: argparse.Namespace) -> None:
    if arguments.cross_validate:
        if os.environ.get("TF_CONFIG"):
            raise RequestError(
                "TF_CONFIG is set, but a cross-validation runs its folds on one machine; unset it, "
                "or train each fold on all workers with --set data.test_fold=K"
            )
        return
    problems = [
        f"{flag} belongs to --cross-validate; add that or leave {flag} out"
        for flag, value in (("--folds", arguments.folds), ("--parallel", arguments.parallel))
        if value is not None
    ]
    if arguments.run_dir and (Path(arguments.run_dir) / "cross_validation.yaml").is_file():
        problems.append(
            f"{arguments.run_dir} holds a cross-validation; add --cross-validate, or name one of "
            "its folds as --run-dir"
        )
    if problems:
        raise RequestError(problems)


def _name_folder(experiment: Experiment, arguments: argparse.Namespace) -> Path:
    time = datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path(arguments.run_dir or Path("runs") / f"{experiment.name}-{time}")


def _train(experiment: Experiment, arguments: argparse.Namespace, stop: StopSignal) -> int:
    with quiet_import():
        from esc_tf.evaluation.metrics import format_metrics
        from esc_tf.training.experiment import describe_start, train_experiment
        from esc_tf.training.phases import describe_phases, train_phases
        from esc_tf.training.run_directory import RunDirectory

    run = RunDirectory(_name_folder(experiment, arguments))
    in_phases = bool(experiment.recipe.active_phases)
    if arguments.dry_run:
        run.check(arguments.resume)
        describe = describe_phases if in_phases else describe_start
        print(describe(experiment, run, resume=arguments.resume))
        return EXIT_DONE
    train = train_phases if in_phases else train_experiment
    result = train(experiment, run, resume=arguments.resume, stop=stop)
    for part in ("validation", "test"):
        if part in result.metrics:
            print(f"\n{part} set, weights of epoch {result.metrics['selected_epoch']}")
            print(format_metrics(result.metrics[part]))
    if "test" in result.metrics:
        print(f"\ntest accuracy: {result.metrics['test']['accuracy']:.4f}")
    print(f"results: {run.path}")
    if experiment.recipe.report:
        report_finished_run(run)
    return EXIT_DONE


def _cross_validate(experiment: Experiment, arguments: argparse.Namespace) -> int:
    with quiet_import():
        from esc_tf.evaluation.fold_summary import format_summary
        from esc_tf.training import cross_validation

    folder = _name_folder(experiment, arguments)
    folds = arguments.folds
    if arguments.resume:
        _, earlier = cross_validation.read_stored(folder)
        folds = sorted({*earlier, *(folds or [])})
    plans = cross_validation.plan_folds(experiment, folds)
    if arguments.dry_run:
        cross_validation.check_folder(folder, arguments.resume)
        print(cross_validation.describe_folds(plans))
        return EXIT_DONE
    result = cross_validation.cross_validate(
        experiment,
        folder,
        plans,
        command=[sys.executable, "-m", "esc_tf.train"],
        parallel=arguments.parallel or 1,
        resume=arguments.resume,
    )
    print(f"\n{format_summary(result)}\n\nresults: {folder / cross_validation.RESULT_FILE}")
    if result["failed_folds"]:
        names = ", ".join(result["failed_folds"])
        raise TrainingError(
            [
                *result["failed_folds"].values(),
                f"the tables leave out fold {names}; --resume tries again what is missing",
            ]
        )
    return EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 1 failed while working, 2 the request was wrong."""
    with StopSignal() as stop:
        return run_command(lambda arguments: _run(arguments, stop), build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
