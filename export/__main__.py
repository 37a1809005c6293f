"""Make files for servers and phones from a trained model: ``python -m export --run-dir DIR``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from esc_tf.command import quiet_import, run_command
from esc_tf.config import ExportConfig
from esc_tf.errors import EXIT_DONE, RequestError
from esc_tf.evaluate import recognize_layout
from esc_tf.registry import look_up
from esc_tf.shipped import find_shipped
from esc_tf.training.termination import StopSignal
from export.bundle import Bundle
from export.formats import FORMATS

if TYPE_CHECKING:
    from export.source import ExportSource


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description="Make a SavedModel for TensorFlow Serving and TFLite files for LiteRT and "
        "MediaPipe. Every file is loaded again in a new process and compared with the model: on "
        "silence, noise, a tone, a clipped tone and real clips. If one is not equal to it, nothing "
        "is written and the command ends with 1. DIR gets saved_model/N/, tflite/*.tflite, "
        "labels.txt, model_card.json and verification.json, all in one step.",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--run-dir", metavar="DIR", help="a finished run")
    source.add_argument(
        "--model",
        metavar="FILE",
        help="a .keras file, imported ones too (default: the package's own model)",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to be made")
    parser.add_argument(
        "--formats",
        metavar="NAMES",
        help=f"with commas between them (default: all, {', '.join(FORMATS)}; int8_backbone only "
        "where the front end has no weights)",
    )
    parser.add_argument(
        "--activations",
        metavar="NAMES",
        help="what the signature `activations` gives beside the scores: names with commas between "
        "them, e.g. block5,se4, or all",
    )
    parser.add_argument(
        "--version",
        type=int,
        default=1,
        metavar="N",
        help="of the SavedModel, whose folder saved_model/N it is (TensorFlow Serving serves the "
        "highest), and of the files, which say it in their metadata (1)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an export that is in DIR, in one step and only once the new one has passed: "
        "all files, and version N of the SavedModel; its other versions stay if saved_model is "
        "among --formats, and go with the rest if not",
    )
    clips = parser.add_argument_group("clips to calibrate integer formats and to verify all")
    clips.add_argument(
        "--data-root",
        metavar="DIR",
        help="with --run-dir: where the run's data lie now; with --model: labelled clips in the "
        "layout of ESC-50, UrbanSound8K or one folder a class (default: generated sounds)",
    )
    clips.add_argument(
        "--fold",
        type=int,
        metavar="K",
        help="with --model: verify with this fold of --data-root, calibrate with the others "
        "(default: the last)",
    )
    default = ExportConfig()
    for option, metavar, what, value in (
        ("--calibration-clips", "N", "at most so many", default.calibration_clips),
        ("--evaluation-clips", "N", "at most so many", default.evaluation_clips),
        ("--clip-seed", "SEED", "which of each class", default.clip_seed),
    ):
        clips.add_argument(
            option,
            type=int,
            metavar=metavar,
            help=f"{what} (default: the run's section `export`, else {value})",
        )
    clips.add_argument(
        "--min-agreement",
        type=float,
        metavar="SHARE",
        help="share of clips whose first class dynamic and integer formats must keep (0.99; 0.95 "
        "where the clips are generated); what was asked is written into verification.json",
    )
    card = parser.add_argument_group("what the model card and the files say")
    card.add_argument("--description", metavar="TEXT", help="what the model is for")
    card.add_argument("--author", metavar="NAME", help="who made it")
    card.add_argument(
        "--licence", metavar="TEXT", help="how it may be used; the training data may bind it too"
    )
    return parser


def choose_formats(text: str) -> tuple[str, ...]:
    """Names of formats from what a user writes, each once, in the order in which they are made.

    Raises:
        RequestError: there is none.
        UnknownNameError: no such format.

    >>> choose_formats("tflite_int8, saved_model")
    ('saved_model', 'tflite_int8')
    """
    names = {name.strip() for name in text.split(",") if name.strip()}
    if names == {"all"}:
        return FORMATS
    for name in sorted(names):
        look_up(dict.fromkeys(FORMATS), name, "format")
    if not names:
        raise RequestError(f"--formats: name one of {', '.join(FORMATS)}, or more of them")
    return tuple(name for name in FORMATS if name in names)


def _run(arguments: argparse.Namespace) -> int:
    formats = None if arguments.formats is None else choose_formats(arguments.formats)
    _check_numbers(arguments)
    bundle = Bundle(arguments.out, arguments.overwrite)
    bundle.check()

    with quiet_import():
        from export.checks import choose_fitting
        from export.exporter import ExportRequest, export_model
        from export.graphs import choose_activations
        from export.model_card import CardText, describe_model

    source = _load_source(arguments)
    text = CardText(
        description=arguments.description or describe_model(source.model),
        author=arguments.author,
        licence=arguments.licence,
        version=arguments.version,
    )
    request = ExportRequest(
        formats=choose_fitting(source.model, FORMATS) if formats is None else formats,
        text=text,
        activations=choose_activations(source.model, arguments.activations),
        min_agreement=arguments.min_agreement,
    )
    with StopSignal(), bundle:
        export_model(source, request, bundle)
    print(f"written to {bundle.out}")
    return EXIT_DONE


def _load_source(arguments: argparse.Namespace) -> ExportSource:
    from export.source import load_source

    options: dict[str, Any] = {}
    if arguments.data_root is not None:
        options["data"] = recognize_layout(arguments.data_root)
    path, name = arguments.run_dir or arguments.model, None
    if path is None:
        shipped = find_shipped()
        path, name = shipped.keras_file, shipped.name
    source = load_source(
        path,
        fold=arguments.fold,
        calibration_clips=arguments.calibration_clips,
        evaluation_clips=arguments.evaluation_clips,
        clip_seed=arguments.clip_seed,
        **options,
    )
    return source if name is None else replace(source, name=name)


def _check_numbers(arguments: argparse.Namespace) -> None:
    smallest = {"version": 1, "calibration_clips": 1, "evaluation_clips": 1, "clip_seed": 0}
    for name, limit in smallest.items():
        value = getattr(arguments, name)
        if value is not None and value < limit:
            raise RequestError(f"--{name.replace('_', '-')} must be {limit} or more")
    share = arguments.min_agreement
    if share is not None and not 0.0 < share <= 1.0:
        raise RequestError("--min-agreement must lie above 0 and not above 1")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 1 failed while working, 2 the request was wrong."""
    return run_command(_run, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
