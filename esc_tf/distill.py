"""Let teachers answer for a student: ``python -m esc_tf.distill teach``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from esc_tf.command import add_config_arguments, load_config, quiet_import, run_command
from esc_tf.config import Experiment
from esc_tf.errors import EXIT_DONE, RequestError

_MOST_VIEWS = 10_000


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m esc_tf.distill",
        description="Distillation: a student learns from what teachers say of its training clips.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    teach = commands.add_parser(
        "teach",
        help="store what teachers say of the training clips of a configuration",
        description="Store the mean logits of one or more teachers for all clips outside the test "
        "fold, and for augmented views of them, with the seeds that make the views again. The file "
        "is keyed by clip and view, so that a student may hear at another rate. `{test_fold}` in "
        "paths stands for data.test_fold.",
    )
    add_config_arguments(teach)
    teach.add_argument(
        "--run-dir", nargs="+", default=[], metavar="DIR", help="finished runs as teachers"
    )
    teach.add_argument(
        "--model",
        nargs="+",
        default=[],
        metavar="FILE",
        help="teachers: .keras files, SavedModels, .tflite files",
    )
    teach.add_argument(
        "--out",
        metavar="FILE",
        help="the .npz file to write (default: the configuration's recipe.distillation.targets)",
    )
    teach.add_argument("--force", action="store_true", help="replace a file that is there")
    teach.add_argument(
        "--views",
        type=_parse_views,
        default=1,
        metavar="K",
        help="views of each clip: the clean one, and K - 1 that are augmented as the configuration "
        "says and that the student then hears, too (default: 1, with which the student's "
        "augmentation is its own)",
    )
    teach.add_argument(
        "--embeddings",
        action="store_true",
        help="also keep the teachers' embeddings, for recipe.distillation.embedding_weight",
    )
    teach.add_argument(
        "--seed", type=int, metavar="N", help="of the views (default: the configuration's)"
    )
    exported = teach.add_argument_group("of a SavedModel or .tflite file without a model card")
    exported.add_argument("--labels", metavar="FILE", help="names of its classes, one a line")
    exported.add_argument("--sample-rate", type=int, metavar="HZ", help="the rate it hears at")
    exported.add_argument("--scores", choices=("softmax", "sigmoid"), help="what it gives")
    teach.set_defaults(run=_teach)
    return parser


def _parse_views(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_VIEWS:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 1 to {_MOST_VIEWS}")
    return int(text)


def _teach(arguments: argparse.Namespace) -> int:
    experiment = load_config(arguments)
    paths = [experiment.fill_placeholders(path) for path in arguments.run_dir + arguments.model]
    if not paths:
        raise RequestError("name a teacher: --run-dir DIR or --model FILE")
    out = _find_out(experiment, arguments)

    with quiet_import():
        import keras

        from esc_tf.training.teacher_file import write_teacher_file
        from esc_tf.training.teachers import load_teacher
        from esc_tf.training.teaching import teach

    keras.utils.set_random_seed(experiment.seed)
    teachers = [
        load_teacher(
            path,
            labels=arguments.labels,
            sample_rate_hz=arguments.sample_rate,
            output=arguments.scores,
        )
        for path in paths
    ]
    content = teach(
        experiment,
        teachers,
        num_views=arguments.views,
        seed=arguments.seed,
        keep_embeddings=arguments.embeddings,
    )
    write_teacher_file(out, content)
    num_clips, num_views, num_classes = content.logits.shape
    print(f"{out}: {num_clips} clips, {num_views} views, {num_classes} classes")
    return EXIT_DONE


def _find_out(experiment: Experiment, arguments: argparse.Namespace) -> Path:
    named = arguments.out or getattr(experiment.recipe.distillation, "targets", None)
    if named is None:
        raise RequestError("--out FILE is required: the configuration names no file of targets")
    out = Path(experiment.fill_placeholders(named)).expanduser()
    if out.suffix != ".npz":
        raise RequestError(f"--out: {out}: a file of targets is called something.npz")
    if out.exists() and not arguments.force:
        raise RequestError(f"{out} is there already; add --force or name another --out")
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 1 failed while working, 2 the request was wrong."""
    return run_command(lambda arguments: arguments.run(arguments), build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
