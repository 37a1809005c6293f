"""Name sounds: ``python -m esc_tf.predict --model PATH FILE… [--json]``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from esc_tf.audio.reading import AUDIO_SUFFIXES
from esc_tf.command import print_problems, quiet_import, run_command
from esc_tf.errors import EXIT_BAD_REQUEST, EXIT_DONE, AudioError, RequestError


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m esc_tf.predict", description="Name the sounds in audio files."
    )
    parser.add_argument(
        "--model", required=True, metavar="PATH", help="a run directory or a .keras file"
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="audio files or folders of them")
    parser.add_argument("--top-k", type=int, default=5, metavar="K", help="labels to show (5)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--batch-size", type=int, default=16, help="clips at once (16)")
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


def predict_files(
    model: Any, paths: Sequence[Path], batch_size: int = 16
) -> Iterator[tuple[Path, Any]]:
    """Yield ``(path, probabilities)`` or ``(path, AudioError)`` for each file, in order.

    Args:
        model: a classifier; its own rate, length and padding are used.
        paths: audio files of any rate and length.
        batch_size: files decoded and classified at once.

    Yields:
        Probabilities as float32 (classes,).
    """
    import numpy as np

    from esc_tf.config import AudioConfig
    from esc_tf.data import fit_length, read_waveform
    from esc_tf.frames import count_samples

    audio = AudioConfig.model_validate(model.audio)
    num_samples = count_samples(audio.duration_s, audio.sample_rate_hz)

    def read(path: Path) -> Any:
        try:
            waveform = read_waveform(path, audio.sample_rate_hz)
        except AudioError as error:
            return error
        fitted, valid = fit_length(waveform, num_samples, audio.pad, audio.crop)
        return fitted.numpy(), int(valid)

    waiting = iter(paths)
    with ThreadPoolExecutor() as pool:
        while batch := list(islice(waiting, batch_size)):
            read_ones = list(pool.map(read, batch))
            good = [item for item in read_ones if not isinstance(item, AudioError)]
            scores: Iterator[Any] = iter(())
            if good:
                outputs = model.predict_on_batch(
                    {
                        "waveform": np.stack([waveform for waveform, _ in good]),
                        "num_samples": np.array([valid for _, valid in good], np.int32),
                    }
                )
                scores = iter(outputs["probabilities"])
            for path, item in zip(batch, read_ones, strict=True):
                yield path, item if isinstance(item, AudioError) else next(scores)


def rank_labels(scores: Any, label_names: Sequence[str], top_k: int) -> list[dict[str, Any]]:
    """The ``top_k`` labels with their scores, best first."""
    order = (-scores).argsort(kind="stable")[:top_k]
    return [{"label": label_names[index], "score": float(scores[index])} for index in order]


def _run(arguments: argparse.Namespace) -> int:
    for name in ("top_k", "batch_size"):
        if getattr(arguments, name) < 1:
            raise RequestError(f"--{name.replace('_', '-')} must be 1 or more")
    paths = find_audio_files(arguments.files)

    from tqdm import tqdm

    with quiet_import():
        from esc_tf.tasks.classifier import load_classifier

    model = load_classifier(arguments.model)
    code = EXIT_DONE
    shown = tqdm(
        predict_files(model, paths, arguments.batch_size),
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
        ranked = rank_labels(result, model.label_names, arguments.top_k)
        if arguments.json:
            _print_line(shown, json.dumps({"file": str(path), "predictions": ranked}))
        else:
            rows = [f"  {item['score']:7.2%}  {item['label']}" for item in ranked]
            _print_line(shown, "\n".join([str(path), *rows]))
    return code


def _print_line(shown: Any, text: str) -> None:
    shown.write(text, file=sys.stdout)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 2 a file or the request was bad (the others are still named)."""
    return run_command(_run, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
