"""The command ``grad-cam``: where in a clip the convolutions find what speaks for a class."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esc_tf.command import quiet_import
from esc_tf.errors import EXIT_DONE, RequestError
from esc_tf.evaluate import recognize_layout
from esc_tf.files import check_free
from esc_tf.interpret.nmf import add_clip_arguments, select_clips
from esc_tf.interpretation.activation_sources import find_saved_model
from esc_tf.shipped import find_shipped

if TYPE_CHECKING:
    from esc_tf.config import AnyDataConfig
    from esc_tf.data import CachedClip, DataSet
    from esc_tf.evaluation.report.findings import Findings

_ALL = "all"
_MOST_CLIPS = 24
_BATCH_SIZE = 16


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "grad-cam",
        help="show where convolutions find what speaks for a class",
        description="Lay over the mel spectrogram of each clip where the maps of a convolution "
        "hold what raises the logit of the predicted class and, where that is wrong, of the true "
        "one (Grad-CAM). Writes a picture and the maps of each clip, and index.html, one page with "
        "all pictures and sounds, the misclassified clips first.",
    )
    parser.add_argument(
        "--model",
        metavar="PATH",
        help="a run directory or a .keras file (default: the package's own model)",
    )
    parser.add_argument(
        "--data",
        required=True,
        metavar="DIR",
        help="a folder of labelled clips: ESC-50's layout, UrbanSound8K's or one folder a class",
    )
    parser.add_argument(
        "--layer",
        dest="layers",
        nargs="+",
        metavar="NAME",
        help=f"layers or named activations; `{_ALL}`: every convolution (default: the last one)",
    )
    clips = parser.add_argument_group("clips")
    add_clip_arguments(clips)
    clips.add_argument(
        "--misclassified", action="store_true", help="of these, show the misclassified alone"
    )
    clips.add_argument(
        "--max-clips",
        type=int,
        default=_MOST_CLIPS,
        metavar="N",
        help=f"show at most so many, the surest mistakes first ({_MOST_CLIPS})",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to be made")
    parser.add_argument("--force", action="store_true", help="replace pictures that are there")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the pictures; the exit code."""
    if arguments.max_clips < 1:
        raise RequestError("--max-clips must be 1 or more")
    place = arguments.model or str(find_shipped().keras_file)
    _check_model(place)
    with quiet_import():
        from esc_tf.data import load_known_data_set
        from esc_tf.interpretation import grad_cam_gallery
        from esc_tf.interpretation.grad_cam import GradCam
        from esc_tf.tasks.classifier import load_classifier

    check_free(
        arguments.out, grad_cam_gallery.FACTS_FILE, grad_cam_gallery.CONTENTS, arguments.force
    )
    model = load_classifier(place)
    data = recognize_layout(arguments.data)
    data_set = load_known_data_set(data, arguments.data, model.label_names)
    data_set = replace(data_set, records=tuple(select_clips(data_set, arguments)))
    if arguments.layers is None:
        every = GradCam(model).layers
        names: list[str] | None = [every[-1].name]
    elif arguments.layers == [_ALL]:
        names = None
    else:
        names = arguments.layers
    grad_cam = GradCam(model, names)
    findings = _classify(model, data, data_set)
    rows = list(findings.errors)
    if not arguments.misclassified:
        wrong = set(rows)
        rows += [row for row in range(len(findings.clips)) if row not in wrong]
    rows = rows[: arguments.max_clips]
    settings = {
        name: value
        for name, value in vars(arguments).items()
        if name not in ("run", "command", "model", "out", "force")
    }
    gallery = grad_cam_gallery.Gallery(model, place, grad_cam, findings, rows, settings)

    from tqdm import tqdm

    with tqdm(total=len(rows), unit="clip", disable=not sys.stderr.isatty(), leave=False) as bar:
        for _ in grad_cam_gallery.write_gallery(gallery, arguments.out, arguments.force):
            bar.update()
    print(
        f"{len(findings.errors)} of {len(findings.clips)} clips are misclassified; {len(rows)} "
        f"shown at {', '.join(layer.name for layer in grad_cam.layers)}:\n"
        f"{Path(arguments.out) / grad_cam_gallery.PAGE_FILE}"
    )
    return EXIT_DONE


def _check_model(place: str) -> None:
    is_exported = (
        place.startswith(("http://", "https://"))
        or place.endswith(".tflite")
        or find_saved_model(Path(place).expanduser()) is not None
    )
    if is_exported:
        raise RequestError(
            f"{place}: Grad-CAM needs gradients, which only a model in training form gives; name a "
            "run directory or a .keras file"
        )


def _classify(model: Any, data: AnyDataConfig, data_set: DataSet) -> Findings:
    """What the model says of the clips; bad files among them end the command.

    A model that hears segments is shown segment by segment.
    """
    import tensorflow as tf

    from esc_tf.config import AudioConfig
    from esc_tf.data import build_dataset, cut_clips, load_clips
    from esc_tf.evaluation.predictions import build_predict_step, predict_data_set
    from esc_tf.evaluation.report.findings import Findings
    from esc_tf.evaluation.workers import Workers

    audio = AudioConfig.model_validate(model.audio)
    _, clips, _ = load_clips(data, audio, seed=0, data_set=data_set)
    heard = cut_clips(clips, audio)
    if audio.segments is not None:
        heard = _number_segments(heard)
    batches = build_dataset(
        heard,
        audio=audio,
        num_classes=len(model.label_names),
        batch_size=_BATCH_SIZE,
        training=False,
    )
    workers = Workers(tf.distribute.get_strategy())
    found = predict_data_set(build_predict_step(model, workers.strategy), batches, workers)
    return Findings("given", tuple(heard), found.labels.argmax(axis=1), found.probabilities)


def _number_segments(segments: Sequence[CachedClip]) -> list[CachedClip]:
    """The same, each with an id of its own."""
    counts: Counter[str] = Counter()
    numbered = []
    for segment in segments:
        clip_id = segment.record.clip_id
        counts[clip_id] += 1
        record = replace(segment.record, clip_id=f"{clip_id} segment {counts[clip_id]}")
        numbered.append(replace(segment, record=record))
    return numbered
