"""Make the package's own model of a finished run: ``python -m esc_tf.ship --run-dir DIR``."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from esc_tf import shipped
from esc_tf.cards import CARD_FILE
from esc_tf.command import quiet_import, run_command
from esc_tf.config import Experiment, dump_experiment
from esc_tf.errors import EXIT_DONE, RequestError
from esc_tf.evaluate import recognize_layout

if TYPE_CHECKING:
    from esc_tf.tasks.classifier import Classifier

_FORMAT = "tflite_int8"
# Keys of a recipe that say where something lies.
_PLACES = ("targets", "teacher", "source")
_FILES = (
    shipped.KERAS_FILE,
    shipped.TFLITE_FILE,
    CARD_FILE,
    shipped.CARD_TEXT_FILE,
    shipped.LABELS_FILE,
    shipped.CONFIG_FILE,
    shipped.CREDITS_FILE,
)
_DATA = "ESC-10"
_LICENCE = "Apache-2.0; trained on ESC-10 (CC BY 3.0), attribution in credits.md"
_USE = (
    "Names everyday sounds in clips and recordings, on a computer or a phone; a starting point for "
    "models of your own sounds, and an example of what this package makes.",
    "Not for anything that harms somebody when it is wrong: it is no alarm, no medical device and "
    "no means of watching people.",
)
_LICENCES = (
    "- The model: the package's own licence, Apache 2.0.",
    "- Trained on ESC-10, a part of ESC-50: K. J. Piczak, ESC: Dataset for Environmental Sound "
    "Classification, ACM Multimedia 2015. Creative Commons Attribution 3.0; its clips were cut "
    "from recordings on Freesound, each CC0 or CC BY, by the people in `credits.md`.",
)
_TEACHER = (
    "MobileNetV3 of width 0.4 of EfficientAT (F. Schmid, K. Koutini, G. Widmer, 2023; MIT "
    "licence), trained on AudioSet and fine-tuned on the same clips of ESC-10."
)
_LIMITS = (
    "It knows its classes and nothing else, and was tested on eight clips of each a fold.",
    "One name a clip: of two sounds at once it names one.",
    "ESC-10 holds edited clips with one sound in the foreground; far or faint sounds, echoing "
    "rooms and noisy streets are harder than its test folds.",
    "A threshold for `other` is a trade: calibrated on clips of these classes, it refuses some of "
    "them and still names some sounds of none.",
)
_RETRAIN = "`make shipped` trains it again from the start."


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m esc_tf.ship",
        description="Make the model that comes with the package: the run's model with a threshold "
        "for `other`, chosen by the test folds of a cross-validation of the same experiment; an "
        "int8 file for LiteRT, which is verified; its labels, configuration and model card.",
    )
    parser.add_argument("--run-dir", required=True, metavar="DIR", help="the finished run")
    parser.add_argument(
        "--cross-validation", required=True, metavar="DIR", help="the same experiment, by fold"
    )
    parser.add_argument("--data-root", required=True, metavar="DIR", help="where the clips lie")
    parser.add_argument(
        "--credits",
        required=True,
        metavar="FILE",
        help="who recorded what: the list of licences that comes with ESC-10 and ESC-50",
    )
    parser.add_argument(
        "--out",
        default=str(shipped.SHIPPED_FOLDER),
        metavar="DIR",
        help="the folder to be made or replaced (default: the package's own)",
    )
    parser.add_argument(
        "--accept",
        type=float,
        default=0.95,
        metavar="SHARE",
        help="share of the test clips that must not be called `other` (0.95)",
    )
    parser.add_argument(
        "--hours", type=float, default=1.0, metavar="H", help="of each kind of other sound (1)"
    )
    parser.add_argument(
        "--min-agreement",
        type=float,
        metavar="SHARE",
        help="share of clips whose first class the int8 file must keep (0.99), as in an export",
    )
    return parser


def _run(arguments: argparse.Namespace) -> int:
    out = Path(arguments.out).expanduser().absolute()
    _check(arguments, out)

    with quiet_import():
        from esc_tf.tasks.classifier import load_classifier
        from esc_tf.training.open_set import find_runs, measure_model, measure_runs
        from esc_tf.training.run_directory import RunDirectory
        from esc_tf.training.split_file import read_split
        from export.shipped_card import format_card, format_credits, measure_folds, read_credits

    run = RunDirectory(arguments.run_dir)
    experiment, facts = run.read_resolved()
    folds = find_runs(arguments.cross_validation)
    fold_experiment = folds[0].read_resolved()[0]
    _check_same(experiment, fold_experiment)
    credits = read_credits(
        Path(arguments.credits).expanduser().read_text(encoding="utf-8"),
        read_split(run)["train"],
        arguments.credits,
    )
    open_set, held_out = measure_runs(
        folds, accepted_share=arguments.accept, hours=arguments.hours, data_root=arguments.data_root
    )
    model = load_classifier(run.path)
    model.other_threshold = open_set["threshold"]
    # Beside the place it goes to, so that it is put there in one step.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f"{out.name}.partial") as folder:
        staging = Path(folder) / out.name
        staging.mkdir()
        model.save(staging / shipped.KERAS_FILE)
        card = _export(staging, experiment.name, arguments, model)
        from esc_tf.litert_model import LiteRTModel

        heard = {
            "float": measure_model(model.fold_batch_norms(), hours=arguments.hours),
            "int8 file": measure_model(
                LiteRTModel(staging / shipped.TFLITE_FILE),
                hours=arguments.hours,
                threshold=open_set["threshold"],
            ),
        }
        open_set["shipped"] = {name: found["outside"] for name, found in heard.items()}
        metrics = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))
        training: dict[str, Any] = {
            key: facts[key] for key in ("started", "commit", "versions") if key in facts
        }
        teachers = facts.get("distillation", {}).get("teachers", [])
        card |= {
            "training": {
                **training,
                "experiment": experiment.name,
                "seed": experiment.seed,
                "epochs": metrics["trained_epochs"],
                "epochs_of_folds": fold_experiment.recipe.epochs,
                "clips": metrics["clips"]["train"],
                "teachers": [item["sha256"] for item in teachers],
            },
            "cross_validation": measure_folds(
                held_out.logits, held_out.labels, held_out.folds, model.label_names
            ),
            "open_set": {
                "label": "other",
                "trained_on_outliers": experiment.augment.outlier is not None,
                **open_set,
            },
            "use": list(_USE),
            "licences": [*_LICENCES, *_describe_teacher(bool(teachers), "fine_tuning" in facts)],
            "limits": list(_LIMITS),
            "retrain": _RETRAIN,
        }
        labels = "".join(f"{name}\n" for name in model.label_names)
        texts = {
            CARD_FILE: json.dumps(card, indent=2, allow_nan=False) + "\n",
            shipped.CARD_TEXT_FILE: format_card(card),
            shipped.LABELS_FILE: labels,
            shipped.CONFIG_FILE: dump_experiment(_without_places(experiment)),
            shipped.CREDITS_FILE: format_credits(credits, _DATA),
        }
        for name, text in texts.items():
            (staging / name).write_text(text, encoding="utf-8")
        shipped.find_shipped(staging)
        _put_in_place(staging, out, Path(folder) / "before")
    print(f"written to {out}")
    return EXIT_DONE


def _describe_teacher(taught: bool, inherited: bool) -> list[str]:
    """What the model owes to another one, as the shipped configurations have it."""
    if inherited:
        return [f"- {'Taught by, and b' if taught else 'B'}egun with layers of, {_TEACHER}"]
    return [f"- Taught by {_TEACHER}"] if taught else []


def _check(arguments: argparse.Namespace, out: Path) -> None:
    if not 0.0 < arguments.accept <= 1.0:
        raise RequestError("--accept must lie above 0 and not above 1")
    if arguments.min_agreement is not None and not 0.0 < arguments.min_agreement <= 1.0:
        raise RequestError("--min-agreement must lie above 0 and not above 1")
    if not 0.0 < arguments.hours <= 1000.0:
        raise RequestError("--hours must be above 0 and not above 1000")
    if not Path(arguments.credits).expanduser().is_file():
        raise RequestError(f"--credits: {arguments.credits}: no such file")
    if not out.parent.is_dir():
        raise RequestError(f"--out: {out.parent}: no such folder")
    foreign = [path.name for path in out.iterdir()] if out.is_dir() else []
    foreign = sorted(set(foreign) - set(_FILES))
    if foreign or (out.exists() and not out.is_dir()):
        what = f"holds {foreign[0]}, which this command does not write" if foreign else "is a file"
        raise RequestError(f"--out: {out} {what}; name another folder")


def _check_same(experiment: Experiment, of_folds: Experiment) -> None:
    """A threshold holds for the network, the sounds and the training that it was measured on."""
    differ = [
        section
        for section in ("audio", "front_end", "model", "augment", "recipe")
        if _describe(experiment, section) != _describe(of_folds, section)
    ]
    if set(differ) - {"augment", "recipe"}:
        raise RequestError(
            f"--cross-validation: is of another experiment than the run ({', '.join(differ)} "
            "differ); name that of the same configuration"
        )
    if differ:
        print(
            f"note: the run was not trained as the cross-validation was ({', '.join(differ)} "
            "differ), whose accuracy and threshold are taken for its own",
            file=sys.stderr,
        )


def _describe(experiment: Experiment, section: str) -> dict[str, Any]:
    content = getattr(experiment, section).model_dump(mode="json")
    # Each fold has its own teacher, and what is written beside a run changes no number.
    for key in ("distillation", "fine_tuning"):
        for place in _PLACES:
            (content.get(key) or {}).pop(place, None)
    for key in ("report", "tensorboard", "keep_checkpoints"):
        content.pop(key, None)
    return content


def _export(
    staging: Path, name: str, arguments: argparse.Namespace, model: Classifier
) -> dict[str, Any]:
    """Write the verified file for LiteRT into the folder; return the export's card."""
    from dataclasses import replace

    from export.bundle import Bundle
    from export.exporter import ExportRequest, export_model
    from export.model_card import CardText, describe_model
    from export.source import load_source

    source = load_source(staging / shipped.KERAS_FILE, data=recognize_layout(arguments.data_root))
    text = CardText(describe_model(model), author="The esc_tf authors", licence=_LICENCE)
    with tempfile.TemporaryDirectory() as folder, Bundle(Path(folder) / "export") as bundle:
        request = ExportRequest((_FORMAT,), text, min_agreement=arguments.min_agreement)
        export_model(replace(source, name=name), request, bundle)
        card = json.loads((bundle.out / CARD_FILE).read_text(encoding="utf-8"))
        shutil.copyfile(bundle.out / card["files"][_FORMAT]["path"], staging / shipped.TFLITE_FILE)
    card["files"] = {
        "keras": {
            "path": shipped.KERAS_FILE,
            "size_bytes": (staging / shipped.KERAS_FILE).stat().st_size,
        },
        _FORMAT: {**card["files"][_FORMAT], "path": shipped.TFLITE_FILE},
    }
    # Its clips are among those of the training: agreement with the float model, not accuracy.
    del card["evaluation"], card["metrics"]
    card["files"][_FORMAT].pop("accuracy", None)
    return card


def _without_places(experiment: Experiment) -> Experiment:
    """The experiment with the data where the shipped configurations expect them."""
    data: dict[str, Any] = {}
    if hasattr(experiment.data, "root"):
        data["root"] = "data/ESC-50-master"
    if hasattr(experiment.data, "cache_dir"):
        data["cache_dir"] = None
    changes: dict[str, Any] = {"data": experiment.data.model_copy(update=data)}
    sections: dict[str, Any] = {}
    for section in ("distillation", "fine_tuning"):
        found = getattr(experiment.recipe, section)
        places = {
            key: f"pretrained/{PurePath(place).name}"
            for key in _PLACES
            if (place := getattr(found, key, None)) is not None
        }
        if places:
            sections[section] = found.model_copy(update=places)
    changes["recipe"] = experiment.recipe.model_copy(update=sections)
    return experiment.model_copy(update=changes)


def _put_in_place(staging: Path, out: Path, before: Path) -> None:
    if out.exists():
        os.rename(out, before)
    try:
        os.rename(staging, out)
    except OSError:
        if before.exists():
            os.rename(before, out)
        raise


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 1 failed while working, 2 the request was wrong."""
    return run_command(_run, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
