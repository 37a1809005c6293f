"""Name sounds: ``python -m esc_tf.predict FILE… [--model PATH] [--window S]``.

The package's own model, and any other ``.tflite`` file, answers without TensorFlow.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from esc_tf.audio.reading import AUDIO_SUFFIXES
from esc_tf.command import print_problems, quiet_import, run_command
from esc_tf.config.label_map import LabelMap, load_label_map
from esc_tf.errors import EXIT_BAD_REQUEST, EXIT_DONE, AudioError, RequestError
from esc_tf.evaluation.open_set import OTHER, choose_label
from esc_tf.shipped import find_shipped

_TIMELINE_OPTIONS = ("hop", "out", "threshold", "force")


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m esc_tf.predict",
        description="Name the sounds in audio files: each as one clip, or with --window as a "
        "recording of any length, heard window by window in little memory, with a table (CSV and "
        "JSON) and a figure of the probabilities over time. What is interrupted leaves no file; "
        "of a recording with a damaged end, what comes before is kept and the damage named.",
    )
    parser.add_argument(
        "--model",
        metavar="PATH",
        help="a run directory, a .keras or a .tflite file (default: the package's own model)",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="audio files or folders of them")
    parser.add_argument("--top-k", type=int, default=5, metavar="K", help="labels to show (5)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--batch-size", type=int, default=16, help="clips at once (16)")
    parser.add_argument(
        "--label-map",
        metavar="FILE",
        help="other classes, each made of the model's labels: YAML `labels: {dog: [Dog, Bark]}`",
    )
    parser.add_argument(
        "--duration",
        type=float,
        metavar="S",
        help="seconds that clips are padded or cut to, for a model that takes any length "
        "(default: the model's own)",
    )
    parser.add_argument(
        "--other-below",
        type=float,
        metavar="P",
        help=f"call a sound `{OTHER}`, none of the classes, where none is as probable as this "
        "(default: what the model was calibrated to; 0: never)",
    )
    timeline = parser.add_argument_group("recordings of any length")
    timeline.add_argument("--window", type=float, metavar="S", help="seconds heard at a time")
    timeline.add_argument(
        "--hop", type=float, metavar="S", help="seconds from window to window (default: a window)"
    )
    timeline.add_argument(
        "--out", metavar="DIR", help="where NAME.csv, NAME.json and NAME.png go (default: here)"
    )
    timeline.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="the figure shows classes that lead at some time or reach this probability (0.3)",
    )
    timeline.add_argument(
        "--force", action="store_true", default=None, help="replace files that are there"
    )
    return parser


def find_audio_files(paths: Sequence[str]) -> list[Path]:
    """The files in ``paths``, folders replaced by the audio files below them, sorted.

    Raises:
        RequestError: a folder holds no audio file.
    """
    found: list[Path] = []
    for name in paths:
        path = Path(name)
        if path.is_dir():
            inside = sorted(
                item
                for item in path.rglob("*")
                if item.suffix.lower() in AUDIO_SUFFIXES and item.is_file()
            )
            if not inside:
                raise RequestError(
                    f"{path}: holds no audio file (looked for {', '.join(AUDIO_SUFFIXES)})"
                )
            found.extend(inside)
        else:
            found.append(path)
    return found


def rank_labels(scores: Any, label_names: Sequence[str], top_k: int) -> list[dict[str, Any]]:
    """The ``top_k`` labels with their scores, best first."""
    order = (-scores).argsort(kind="stable")[:top_k]
    return [{"label": label_names[index], "score": float(scores[index])} for index in order]


def _run(arguments: argparse.Namespace) -> int:
    _check_options(arguments)
    paths = find_audio_files(arguments.files)
    label_map = None if arguments.label_map is None else load_label_map(arguments.label_map)
    if arguments.window is not None:
        return _predict_recordings(arguments, paths, label_map)
    return _predict_clips(arguments, paths, label_map)


def _check_options(arguments: argparse.Namespace) -> None:
    for name in ("top_k", "batch_size"):
        if getattr(arguments, name) < 1:
            raise RequestError(f"--{name.replace('_', '-')} must be 1 or more")
    below = arguments.other_below
    if below is not None and not 0.0 <= below <= 1.0:
        raise RequestError("--other-below must lie between 0 and 1")
    if arguments.window is None:
        given = [name for name in _TIMELINE_OPTIONS if getattr(arguments, name) is not None]
        if given:
            raise RequestError(f"--{given[0]} goes with --window; add it or leave --{given[0]} out")
        return
    if arguments.duration is not None:
        raise RequestError("--duration is for clips and --window for recordings; leave one out")
    for name in ("window", "hop"):
        seconds = getattr(arguments, name)
        if seconds is not None and not 0.0 < seconds < float("inf"):
            raise RequestError(f"--{name} must be above 0 s")
    if arguments.threshold is not None and not 0.0 <= arguments.threshold <= 1.0:
        raise RequestError("--threshold must lie between 0 and 1")


def _load_model(arguments: argparse.Namespace) -> Any:
    """What ``hear_clips`` and ``score_recording`` ask: a classifier, or a file for LiteRT."""
    path = arguments.model
    if path is None:
        shipped = find_shipped()
        # The file for LiteRT takes clips of one length.
        path = shipped.tflite_file if arguments.duration is None else shipped.keras_file
    if Path(path).suffix == ".tflite":
        from esc_tf.litert_model import LiteRTModel

        with quiet_import():
            return LiteRTModel(path)
    with quiet_import():
        from esc_tf.tasks.classifier import load_classifier

    return load_classifier(path).fold_batch_norms()


def _find_threshold(
    arguments: argparse.Namespace, model: Any, label_map: LabelMap | None
) -> float | None:
    """Below which probability a sound is `other`."""
    if arguments.other_below is not None:
        return arguments.other_below
    # The model's own is for its own classes.
    return model.other_threshold if label_map is None else None


def _predict_clips(
    arguments: argparse.Namespace, paths: Sequence[Path], label_map: LabelMap | None
) -> int:
    from tqdm import tqdm

    from esc_tf.evaluation.heard_clips import choose_length, hear_clips
    from esc_tf.evaluation.label_mapping import map_scores

    model = _load_model(arguments)
    threshold = _find_threshold(arguments, model, label_map)
    label_names: Sequence[str] = model.label_names
    groups = None
    if label_map is not None:
        label_names, groups = label_map.class_names, label_map.find_labels(model.label_names)
    audio = choose_length(model, arguments.duration)
    code = EXIT_DONE
    shown = tqdm(
        hear_clips(model, paths, audio, arguments.batch_size),
        total=len(paths),
        unit="file",
        # Only for a person who waits, and never among the lines themselves.
        disable=len(paths) <= arguments.batch_size or not sys.stderr.isatty(),
    )
    for path, result in shown:
        if isinstance(result, AudioError):
            code = EXIT_BAD_REQUEST
            if arguments.json:
                _print_line(shown, json.dumps({"file": str(path), "error": str(result)}))
            else:
                print_problems(result.problems)
            continue
        scores = result.probabilities
        if groups is not None:
            scores = map_scores(scores, groups)
        ranked = rank_labels(scores, label_names, arguments.top_k)
        label = choose_label(scores, label_names, threshold)
        if arguments.json:
            line = {"file": str(path), "label": label, "predictions": ranked, **result.change}
            _print_line(shown, json.dumps(line))
        else:
            rows = [f"  {item['score']:7.2%}  {item['label']}" for item in ranked]
            if label == OTHER:
                rows.insert(0, f"  {label}: no class reaches {threshold:.2%}")
            _print_line(shown, "\n".join([f"{path}{result.describe_change()}", *rows]))
    return code


def _predict_recordings(
    arguments: argparse.Namespace, paths: Sequence[Path], label_map: LabelMap | None
) -> int:
    folder = Path(arguments.out or ".").expanduser()
    hop_s = arguments.window if arguments.hop is None else arguments.hop
    threshold = 0.3 if arguments.threshold is None else arguments.threshold

    from esc_tf.evaluation.timeline import results, scoring

    targets = results.plan_results(paths, folder, bool(arguments.force))
    model = _load_model(arguments)
    other_below = _find_threshold(arguments, model, label_map)
    scoring.check_windows(model, arguments.window, hop_s)
    groups = None if label_map is None else label_map.find_labels(model.label_names)
    folder.mkdir(parents=True, exist_ok=True)
    code = EXIT_DONE
    for path, target in zip(paths, targets, strict=True):
        try:
            with (
                _HeardBar(path) as bar,
                scoring.score_recording(
                    model,
                    path,
                    window_s=arguments.window,
                    hop_s=hop_s,
                    batch_size=arguments.batch_size,
                    label_names=None if label_map is None else label_map.class_names,
                    groups=groups,
                    other_threshold=other_below,
                    folder=folder,
                    report_heard=bar.show,
                ) as timeline,
            ):
                files = results.write_results(timeline, target, str(path), threshold)
        except AudioError as error:
            code = EXIT_BAD_REQUEST
            if arguments.json:
                print(json.dumps({"file": str(path), "error": str(error)}))
            else:
                print_problems(error.problems)
            continue
        summary = results.summarize(timeline, str(path), arguments.top_k, files)
        print(json.dumps(summary) if arguments.json else results.format_summary(summary))
        if timeline.problem is not None:
            code = EXIT_BAD_REQUEST
            print_problems(
                [
                    f"{timeline.problem} (the timeline ends where it does, at "
                    f"{results.format_time(timeline.duration_s)})"
                ]
            )
    return code


class _HeardBar:
    """A bar of the seconds heard, for a person who waits."""

    def __init__(self, path: Path) -> None:
        from tqdm import tqdm

        self._bar = tqdm(desc=path.name, unit="s", disable=not sys.stderr.isatty(), leave=False)

    def __enter__(self) -> _HeardBar:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def show(self, heard_s: float, promised_s: float | None) -> None:
        self._bar.total = None if promised_s is None else round(promised_s)
        self._bar.update(round(heard_s) - self._bar.n)


def _print_line(shown: Any, text: str) -> None:
    shown.write(text, file=sys.stdout)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 2 a file or the request was bad (the others are still named)."""
    return run_command(_run, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
