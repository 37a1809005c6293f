"""Read hidden layers: ``python -m esc_tf.interpret nmf --data DIR --layer NAME… --out DIR``."""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from esc_tf.command import quiet_import
from esc_tf.config import LogMelConfig
from esc_tf.config.loading import read_config_file
from esc_tf.config.problems import describe_problems
from esc_tf.config.section import Section
from esc_tf.errors import EXIT_DONE, ConfigError, DataError, RequestError, UnknownNameError
from esc_tf.evaluate import recognize_layout
from esc_tf.files import check_free
from esc_tf.interpretation.reading import FACTS_FILE, Reading
from esc_tf.registry import look_up, suggest_name
from esc_tf.shipped import find_shipped
from serving.client import TOKEN_VARIABLE

if TYPE_CHECKING:
    from esc_tf.data import DataSet, Record
    from esc_tf.interpretation.read_layers import ReadingSettings

_ALL = "all"
_COLUMNS = (
    "layer",
    "method",
    "control",
    "K",
    "error",
    "variance explained",
    "roughness",
    "sparsity",
    "accuracy",
    "eta²",
)
_DESCRIPTION = (
    "Find the spectral pattern that each feature of a hidden layer stands for. The clips' mel "
    "spectrogram V is rebuilt as W H, with H the layer's activations and only W learnt: by "
    "non-negative matrix factorisation and by three trained transforms. Beside them, activations "
    "that are shuffled say what chance explains, and NMF that learns H too what could be "
    "explained. Trained on the clips that are named: one, some, a class, a fold or all."
)


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add ``nmf`` to the sub-commands."""
    parser = commands.add_parser(
        "nmf", help="what the features of hidden layers stand for", description=_DESCRIPTION
    )
    parser.add_argument(
        "--model",
        metavar="PATH_OR_URL",
        help="a run directory, a .keras file, a SavedModel or .tflite file exported with "
        "--activations, or http://HOST:PORT/v1/models/NAME, with a bearer token from "
        f"${TOKEN_VARIABLE} if it wants one (default: the package's own model)",
    )
    parser.add_argument(
        "--card", metavar="FILE", help="model_card.json of the export, where it is not beside it"
    )
    parser.add_argument(
        "--data",
        required=True,
        metavar="DIR",
        help="a folder of labelled clips: ESC-50's layout, UrbanSound8K's or one folder a class",
    )
    parser.add_argument("--layer", required=True, nargs="+", metavar="NAME", help="layers to read")
    parser.add_argument("--out", required=True, metavar="DIR", help="the reading, to be made")
    parser.add_argument(
        "--transform",
        nargs="+",
        default=[_ALL],
        metavar="NAME",
        help="nmf, linear_no_bias_softplus, mel_constrained_linear, mel_basis or all (all); nmf is "
        "always among them",
    )
    add_clip_arguments(parser.add_argument_group("clips"))
    _add_spectrogram_arguments(parser.add_argument_group("spectrogram and activations"))
    _add_fit_arguments(parser.add_argument_group("training"))
    parser.add_argument(
        "--no-figures", action="store_true", help="leave out figures/ and index.html, the explorer"
    )
    parser.add_argument(
        "--explorer-clips",
        type=int,
        default=2,
        metavar="N",
        help="clips of each class that can be heard in the explorer (2)",
    )
    parser.add_argument("--force", action="store_true", help="replace a reading that is there")
    parser.set_defaults(run=run)


def add_clip_arguments(group: argparse._ArgumentGroup) -> None:
    """Add what chooses among the clips of a data set; see ``select_clips``."""
    group.add_argument("--folds", nargs="+", type=int, metavar="K", help="of these folds (all)")
    group.add_argument("--class", nargs="+", dest="classes", metavar="NAME", help="of these (all)")
    group.add_argument("--clip", nargs="+", dest="clip_ids", metavar="ID", help="these alone")
    group.add_argument(
        "--clips", type=int, metavar="N", help="at most N of each class, evenly over the folds"
    )


def _add_spectrogram_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--spectrogram",
        default="log1p",
        metavar="KIND",
        help="of mel magnitudes m: log1p, which is ln(1 + m), magnitude or power (log1p)",
    )
    group.add_argument(
        "--front-end",
        metavar="FILE",
        help="YAML whose section front_end is a log_mel, for a model with another front end or "
        "a card without one (default: the model's own)",
    )
    group.add_argument(
        "--pooling",
        default="mean",
        metavar="RULE",
        help="of feature maps over frequency: mean, max, or bands, which keeps each as feature "
        "channel x bands + band (mean)",
    )
    group.add_argument(
        "--negative",
        default="refuse",
        metavar="RULE",
        help="negative activations: refuse, rectify (0), or split, all positive parts as features "
        "and behind them all negative ones (refuse)",
    )


def _add_fit_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--divergence",
        default="euclidean",
        metavar="NAME",
        help="euclidean, kullback_leibler or itakura_saito (euclidean)",
    )
    group.add_argument(
        "--epochs", type=int, default=200, metavar="N", help="of the transforms (200)"
    )
    group.add_argument(
        "--smoothness", type=float, default=1e-3, metavar="X", help="weight of roughness (0.001)"
    )
    group.add_argument(
        "--iterations", type=int, default=200, metavar="N", help="of NMF at most (200)"
    )
    group.add_argument(
        "--shuffles", type=int, default=5, metavar="N", help="of each control, at least 2 (5)"
    )
    group.add_argument(
        "--max-frames",
        type=int,
        default=10_000,
        metavar="N",
        help="frames that W is fitted to and judged by, drawn evenly from the clips (10000)",
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="(0)")


def run(arguments: argparse.Namespace) -> int:
    """Read the layers and print the table; see ``esc_tf.interpretation.read_layers``."""
    if arguments.explorer_clips < 1:
        raise RequestError("--explorer-clips must be 1 or more")
    out = Path(arguments.out).expanduser()
    check_free(out, FACTS_FILE, "a reading", arguments.force)
    front_end = None if arguments.front_end is None else _load_front_end(arguments.front_end)
    data = recognize_layout(arguments.data)

    with quiet_import():
        from esc_tf.data import load_known_data_set
        from esc_tf.interpretation.activation_sources import open_source
        from esc_tf.interpretation.read_layers import read_layers

    settings = _build_settings(arguments)
    model = arguments.model or str(find_shipped().keras_file)
    with quiet_import():
        source = open_source(model, arguments.card, os.environ.get(TOKEN_VARIABLE))
    if not source.facts.label_names:
        raise RequestError(f"{source.name}: does not name its classes; name its card with --card")
    data_set = load_known_data_set(data, arguments.data, source.facts.label_names)
    reading = read_layers(
        source,
        select_clips(data_set, arguments),
        out,
        settings,
        front_end=front_end,
        is_replacing=arguments.force,
        finish=lambda reading: None if arguments.no_figures else _illustrate(reading, arguments),
        report=_report,
    )
    print(format_reading(reading))
    print(f"\n{reading.folder}")
    return EXIT_DONE


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _illustrate(reading: Reading, arguments: argparse.Namespace) -> None:
    from esc_tf.interpretation.explorer import write_explorer
    from esc_tf.interpretation.figures import draw_figures

    _report("figures and explorer")
    draw_figures(reading, reading.folder / "figures")
    write_explorer(
        reading, reading.folder / "index.html", max_clips_per_class=arguments.explorer_clips
    )


def select_clips(data_set: DataSet, arguments: argparse.Namespace) -> list[Record]:
    """The records that the arguments name, in the data set's order.

    Raises:
        UnknownNameError: no such class or clip.
        DataError: no such fold, or no clip is left.
        RequestError: fewer than one clip of each class is asked for.
    """
    records = list(data_set.records)
    if arguments.folds is not None:
        there = sorted({record.fold for record in records})
        missing = [fold for fold in arguments.folds if fold not in there]
        if missing:
            raise DataError(
                f"--folds: fold {missing[0]} does not exist (there are: "
                f"{', '.join(map(str, there))})"
            )
        records = [record for record in records if record.fold in arguments.folds]
    if arguments.classes is not None:
        known = dict.fromkeys(record.label_name for record in data_set.records)
        for name in arguments.classes:
            look_up(known, name, "class of the clips")
        records = [record for record in records if record.label_name in arguments.classes]
    if arguments.clip_ids is not None:
        ids = {record.clip_id for record in records}
        for clip_id in arguments.clip_ids:
            if clip_id not in ids:
                raise UnknownNameError(
                    f"--clip: no clip '{clip_id}' among the {len(ids)} chosen"
                    f"{suggest_name(clip_id, ids)}"
                )
        records = [record for record in records if record.clip_id in arguments.clip_ids]
    if arguments.clips is not None:
        records = _thin_out(records, arguments.clips)
    if not records:
        raise DataError("no clip is left of those folds and classes; name others")
    return records


def _thin_out(records: Sequence[Record], clips_of_each: int) -> list[Record]:
    if clips_of_each < 1:
        raise RequestError("--clips must be 1 or more")
    # Round by round through the folds of each class, so that each gives as many as it can.
    place_in_fold: dict[tuple[str, int], int] = defaultdict(int)
    by_class: dict[str, list[tuple[int, int, Record]]] = defaultdict(list)
    for record in records:
        key = (record.label_name, record.fold)
        by_class[record.label_name].append((place_in_fold[key], record.fold, record))
        place_in_fold[key] += 1
    kept = {
        record.clip_id
        for found in by_class.values()
        for _, _, record in sorted(found, key=lambda item: item[:2])[:clips_of_each]
    }
    return [record for record in records if record.clip_id in kept]


def _build_settings(arguments: argparse.Namespace) -> ReadingSettings:
    from esc_tf.interpretation.alignment import NegativeRule, Pooling
    from esc_tf.interpretation.divergences import check_divergence
    from esc_tf.interpretation.fit_layers import METHODS, FitSettings
    from esc_tf.interpretation.read_layers import ReadingSettings
    from esc_tf.interpretation.spectrograms import SPECTROGRAM_KINDS

    for table, name, kind in (
        (SPECTROGRAM_KINDS, arguments.spectrogram, "kind of spectrogram"),
        (get_args(Pooling), arguments.pooling, "pooling over frequency"),
        (get_args(NegativeRule), arguments.negative, "rule for negative activations"),
    ):
        look_up(dict.fromkeys(table), name, kind)
    check_divergence(arguments.divergence)
    methods = METHODS if _ALL in arguments.transform else tuple(arguments.transform)
    return ReadingSettings(
        layers=tuple(arguments.layer),
        spectrogram=arguments.spectrogram,
        pooling=arguments.pooling,
        negative=arguments.negative,
        max_frames=arguments.max_frames,
        fit=FitSettings(
            methods=methods,
            divergence=arguments.divergence,
            smoothness=arguments.smoothness,
            epochs=arguments.epochs,
            max_iterations=arguments.iterations,
            shuffles=arguments.shuffles,
            seed=arguments.seed,
        ),
    )


class _FrontEndFile(Section):
    """The one section that counts."""

    front_end: LogMelConfig


def _load_front_end(path: str) -> LogMelConfig:
    raw = {"front_end": read_config_file(path).get("front_end", {})}
    try:
        return _FrontEndFile.model_validate(raw).front_end
    except ValidationError as error:
        problems = describe_problems(error, raw, _FrontEndFile)
        raise ConfigError([f"{path}: {problem}" for problem in problems]) from None


def format_reading(reading: Reading) -> str:
    """The table of scores, and under it what is to be thought of each layer."""
    fitted, tested = reading.facts["fitted"], reading.facts["discriminability"]
    table = [_COLUMNS, *(_format_row(row) for row in reading.scores)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    notes = [
        f"{fitted['clips']} clips, {fitted['frames_of_each']} of the {fitted['of_frames']} frames "
        f"of each; {fitted['silent_clips']} silent clips left out",
    ]
    if tested["tested"]:
        notes.append(
            f"accuracy: {tested['tested']}; the most frequent class alone: "
            f"{tested['guess_accuracy']:.3f}; eta² of random features: "
            f"{tested['chance_eta_squared']:.3f}"
        )
    verdicts = [reading.verdicts[layer] for layer in reading.layers]
    return "\n".join([*lines, "", *notes, "", *verdicts])


def _format_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    spread = "" if row["error_std"] is None else f" ± {row['error_std']:.4f}"
    return (
        row["layer"],
        row["method"],
        "" if row["control"] == "none" else row["control"].replace("_", " "),
        str(row["rank"]),
        f"{row['error']:.4f}{spread}",
        *(
            "" if row[name] is None else f"{row[name]:.3f}"
            for name in ("variance_explained", "roughness", "sparsity", "accuracy", "eta_squared")
        ),
    )
