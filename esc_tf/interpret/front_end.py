"""The command ``front-end``: what a run's learned front end has become."""

from __future__ import annotations

import argparse
from pathlib import Path

from esc_tf.command import quiet_import
from esc_tf.errors import EXIT_DONE, RequestError
from esc_tf.files import check_free
from esc_tf.report import move_data

_FOLDER = "front_end"
_NUM_CLIPS = 4


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "front-end",
        help="show what a learned front end has become",
        description="Show the kernels of a run's front end, their spectra sorted by the frequency "
        "they answer to most, its bands against those it began with and how far they have moved, "
        "its answers to tones, and what the network behind it gets of the same clips after each "
        "phase of the training. Writes figures, numbers (front_end.json), arrays (arrays.npz) and "
        "index.html, a page of it all.",
    )
    parser.add_argument(
        "--run-dir",
        required=True,
        metavar="DIR",
        help="a finished run with front_end.name mel_init, heurinet or mstnet; of one in phases "
        "those that are there",
    )
    parser.add_argument(
        "--data-root",
        metavar="DIR",
        help="where the data of the run lies now, if not where it lay then",
    )
    parser.add_argument(
        "--clips",
        dest="num_clips",
        type=int,
        default=_NUM_CLIPS,
        metavar="N",
        help=f"show features of so many clips, one of a class each ({_NUM_CLIPS})",
    )
    parser.add_argument(
        "--out", metavar="DIR", help=f"folder to be made (default: {_FOLDER} in the run directory)"
    )
    parser.add_argument("--force", action="store_true", help="replace an analysis that is there")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the analysis; the exit code."""
    if arguments.num_clips < 1:
        raise RequestError("--clips must be 1 or more")
    with quiet_import():
        from esc_tf.interpretation import front_end_analysis
        from esc_tf.interpretation.front_end_phases import load_front_ends
        from esc_tf.training.run_directory import RunDirectory

    directory = RunDirectory(arguments.run_dir)
    experiment, _ = directory.read_resolved()
    experiment = move_data(experiment, arguments.data_root)
    out = Path(arguments.out) if arguments.out is not None else directory.path / _FOLDER
    check_free(out, front_end_analysis.FACTS_FILE, front_end_analysis.CONTENTS, arguments.force)
    page = front_end_analysis.write_analysis(
        load_front_ends(directory.path),
        experiment,
        out,
        num_clips=arguments.num_clips,
        replace=arguments.force,
    )
    print(page)
    return EXIT_DONE
