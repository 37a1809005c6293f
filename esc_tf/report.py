"""Write the report of a run, or compare several: ``python -m esc_tf.report RUN…``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esc_tf.command import quiet_import, run_command
from esc_tf.config import Experiment
from esc_tf.errors import EXIT_DONE, EscTfError, RequestError

if TYPE_CHECKING:
    from esc_tf.evaluation.report.markup import Section
    from esc_tf.tasks.classifier import Classifier
    from esc_tf.training.run_directory import RunDirectory

_COMPARISON_FOLDER = "report-comparison"
_DEFAULT_MAX_ERRORS = 24


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m esc_tf.report",
        description="One run: write RUN/report/index.html. Several: a page that compares them.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run directory")
    parser.add_argument(
        "--out",
        metavar="DIR",
        help=f"where index.html goes (default: RUN/report, or {_COMPARISON_FOLDER} for several)",
    )
    parser.add_argument(
        "--data-root",
        metavar="DIR",
        help="where the data of the run lies now, if not where it lay then",
    )
    parser.add_argument(
        "--max-errors",
        type=int,
        default=_DEFAULT_MAX_ERRORS,
        metavar="N",
        help="show at most so many misclassified clips (default: %(default)s)",
    )
    parser.add_argument(
        "--clip", metavar="ID", help="the clip to look at closely (default: the first one tested)"
    )
    return parser


def _run(arguments: argparse.Namespace) -> int:
    if arguments.max_errors < 0:
        raise RequestError(f"--max-errors must be 0 or more, not {arguments.max_errors}")
    with quiet_import():
        from esc_tf.evaluation.report import read_run_files, write_comparison
        from esc_tf.training.run_directory import RunDirectory

    runs = [RunDirectory(path) for path in arguments.runs]
    resolved: list[tuple[Experiment, dict[str, Any]]] = []
    problems: list[str] = []
    for run in runs:
        try:
            resolved.append(run.read_resolved())
        except EscTfError as error:
            problems += error.problems
    if problems:
        raise RequestError(problems)
    if len(runs) == 1:
        experiment, facts = resolved[0]
        page = _write_report(
            runs[0].path,
            move_data(experiment, arguments.data_root),
            facts,
            folder=arguments.out,
            max_errors=arguments.max_errors,
            clip_id=arguments.clip,
        )
    else:
        for flag, value in (("--clip", arguments.clip), ("--data-root", arguments.data_root)):
            if value is not None:
                raise RequestError(f"{flag} belongs to the report of one run; leave it out")
        files = [
            read_run_files(run.path, *known) for run, known in zip(runs, resolved, strict=True)
        ]
        page = write_comparison(files, arguments.out or Path(_COMPARISON_FOLDER))
    print(f"report: {page}")
    return EXIT_DONE


def _write_report(
    run_path: Path, experiment: Experiment, facts: Mapping[str, Any], **choices: Any
) -> Path:
    """The report of one run, with what its front end has learned."""
    from esc_tf.evaluation.report import write_report
    from esc_tf.frontends import list_sublayers

    def show_front_end(model: Classifier) -> list[Section]:
        if not list_sublayers(model.front_end):
            return []
        from esc_tf.interpretation.front_end_analysis import show_in_report

        return [show_in_report(run_path, experiment)]

    return write_report(run_path, experiment, facts, more=show_front_end, **choices)


def move_data(experiment: Experiment, root: str | None) -> Experiment:
    """The experiment of a run whose data lies in another folder now; None: it has not moved.

    Raises:
        RequestError: the run used data that has no folder.
    """
    if root is None:
        return experiment
    if "root" not in type(experiment.data).model_fields:
        raise RequestError(
            f"--data-root: the run used data.name {experiment.data.name}, which has no folder; "
            "leave it out"
        )
    data = experiment.data.model_copy(update={"root": root})
    return experiment.model_copy(update={"data": data})


def report_finished_run(run: RunDirectory) -> None:
    """Write the report of a run that has just ended, and say where; a failure is a warning.

    Training may have taken days: nothing that goes wrong with a picture of it may end it as
    failed. Of several workers the first one writes.

    Args:
        run: the run directory.
    """
    try:
        experiment, facts = run.read_resolved()
        if _is_chief(experiment):
            print(f"report: {_write_report(run.path, experiment, facts)}")
    except Exception as error:
        print(
            f"warning: no report was written ({type(error).__name__}: {error}); "
            f"python -m esc_tf.report {run.path} tries again",
            file=sys.stderr,
        )


def _is_chief(experiment: Experiment) -> bool:
    from esc_tf.training.cluster import read_cluster

    if experiment.distribution.strategy not in ("auto", "multi_worker"):
        return True
    cluster = read_cluster(os.environ)
    return cluster is None or cluster.index == 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 1 failed while working, 2 the request was wrong."""
    return run_command(_run, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
