"""Models with published weights: ``python -m esc_tf.checkpoints list|fetch|convert``."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from esc_tf.command import quiet_import, run_command
from esc_tf.config.published import (
    LABEL_FILE_NAMES,
    NUM_AUDIOSET_CLASSES,
    PUBLISHED,
    VARIANTS,
    PublishedFile,
)
from esc_tf.errors import EXIT_DONE, DownloadError, RequestError
from esc_tf.registry import look_up

_BLOCK_BYTES = 1 << 20
_LABELS = "audioset_labels"


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m esc_tf.checkpoints",
        description="Published models with their weights: list them, fetch their files, and make "
        "classifiers of this package from them.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="say what can be fetched")
    listing.add_argument("--json", action="store_true", help="print one JSON object a line")
    listing.set_defaults(run=_list)
    fetch = commands.add_parser(
        "fetch",
        help="download a published file",
        description="Download a published file from its official place. Run again after an "
        "interruption, it goes on where it stopped; run on a file that is there, it compares it "
        "with its digest.",
    )
    fetch.add_argument("name", metavar="NAME", help="a name that `list` prints, e.g. mn04_as")
    fetch.add_argument(
        "--out", metavar="DIR", help=f"where it goes (default: {_shown(default_folder())})"
    )
    fetch.add_argument("--url", help="another place of the same file")
    fetch.add_argument("--sha256", metavar="HEX", help="digest that the file must have")
    fetch.set_defaults(run=_fetch)
    convert = commands.add_parser(
        "convert",
        help="make a .keras file from a PyTorch checkpoint",
        description="Make a classifier that computes the same as the PyTorch original. Every "
        "tensor is used or named with the reason why not. The file is only read for its numbers; "
        "nothing in it is run, and PyTorch is not needed.",
    )
    convert.add_argument("--model", required=True, metavar="NAME", help=", ".join(VARIANTS))
    convert.add_argument("--variant", metavar="NAME", help="e.g. mn04; `list` has them")
    convert.add_argument(
        "--source", required=True, metavar="FILE", help="the checkpoint (.pt, .pth, .safetensors)"
    )
    convert.add_argument("--out", required=True, metavar="FILE", help="the .keras file to write")
    convert.add_argument(
        "--labels",
        metavar="FILE",
        help="names of the classes: AudioSet's class_labels_indices.csv, or one name a line "
        "(default: AudioSet's, beside the source or fetched before)",
    )
    convert.add_argument(
        "--duration",
        type=float,
        metavar="S",
        help="seconds that clips are filled up or cut to (default: as in the original's training)",
    )
    convert.add_argument(
        "--output",
        choices=("sigmoid", "softmax"),
        help="sigmoid: any number of labels a clip; softmax: one (default: as published)",
    )
    convert.add_argument("--key", help="where the tensors lie in the file, e.g. model")
    convert.add_argument("--force", action="store_true", help="replace --out if it is there")
    convert.set_defaults(run=_convert)
    return parser


def default_folder() -> Path:
    """Where fetched files are kept: ``$ESC_TF_CACHE/checkpoints``, or in the user's cache."""
    if os.environ.get("ESC_TF_CACHE"):
        return Path(os.environ["ESC_TF_CACHE"]).expanduser() / "checkpoints"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "esc_tf" / "checkpoints"


def fetch_file(
    published: PublishedFile,
    folder: Path,
    *,
    url: str | None = None,
    sha256: str | None = None,
    pause_s: float = 2.0,
    report: Callable[[str], object] = print,
) -> Path:
    """Fetch a published file, or compare the one that is there.

    Where nobody has published a digest, the one of the first download is noted beside the file
    (``NAME.sha256``, as ``sha256sum -c`` reads it) and holds from then on.

    Args:
        published: what to fetch.
        folder: where it goes.
        url: another place of the same file.
        sha256: digest that it must have; None: the published or the noted one.
        pause_s: seconds before a broken connection is tried again.
        report: takes lines for the user.

    Returns:
        The file.

    Raises:
        DownloadError: it cannot be fetched, or has another digest.
        OSError: it cannot be read or written.
    """
    from esc_tf.data.download import download_file

    path = folder / published.file_name
    note = path.with_name(f"{path.name}.sha256")
    known = sha256 or published.sha256
    expected = known or _read_note(note)
    if path.is_file():
        digest = _digest(path)
        if expected is not None and digest != expected.lower():
            raise DownloadError(
                f"{path}: has the SHA-256 digest {digest}, not {expected.lower()}; remove it and "
                "fetch it again"
            )
        report(f"{path}: there already, {path.stat().st_size:,} bytes")
    else:
        place = url or published.url
        report(f"fetching {place}")
        download_file(place, path, sha256=expected, pause_s=pause_s, report=report)
        digest = _digest(path)
        report(f"{path}: {path.stat().st_size:,} bytes")
    if known:
        report(f"SHA-256 {digest}, as it should be")
    elif expected:
        report(f"SHA-256 {digest}, as at the first download")
    else:
        note.write_text(f"{digest}  {path.name}\n", encoding="utf-8")
        report(f"SHA-256 {digest}; no digest is published, so this one is noted in {note.name}")
    return path


def _read_note(note: Path) -> str | None:
    try:
        words = note.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        return None
    return words[0] if words and is_digest(words[0]) else None


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def is_digest(text: str) -> bool:
    """Whether a text can be a SHA-256 digest."""
    return len(text) == 64 and set(text.lower()) <= set("0123456789abcdef")


def find_labels(source: Path, num_classes: int) -> Path | None:
    """AudioSet's list of labels, beside a checkpoint or where ``fetch`` puts it; None elsewhere."""
    if num_classes != NUM_AUDIOSET_CLASSES:
        return None
    folders = (source.parent, default_folder())
    places = [folder / name for folder in folders for name in LABEL_FILE_NAMES]
    return next((place for place in places if place.is_file()), None)


def _list(arguments: argparse.Namespace) -> int:
    rows = [_describe(name, published) for name, published in PUBLISHED.items()]
    if arguments.json:
        for row in rows:
            print(json.dumps(row))
        return EXIT_DONE
    print(
        f"{'name':<20}{'model':<14}{'variant':<15}{'classes':>7}{'mAP':>7}{'size':>10}  "
        f"{'licence':<11}from"
    )
    for row in rows:
        precision = row["mean_average_precision"]
        num_bytes = row["num_bytes"]
        print(
            f"{row['name']:<20}{row['model'] or '-':<14}{row['variant'] or '-':<15}"
            f"{row['num_classes']:>7}{'-' if precision is None else f'{precision:.1f}':>7}"
            f"{'-' if num_bytes is None else f'{num_bytes / 1e6:.2f} MB':>10}  "
            f"{row['licence']:<11}{row['origin']}"
        )
    print(
        "\nmAP: on AudioSet, in percent, as published. No weights of TFNet are published; convert "
        "those you trained with --model tfnet."
    )
    return EXIT_DONE


def _describe(name: str, published: PublishedFile) -> dict[str, Any]:
    return {"name": name, **vars(published)}


def _fetch(arguments: argparse.Namespace) -> int:
    published = look_up(PUBLISHED, arguments.name, "checkpoint")
    if arguments.sha256 is not None and not is_digest(arguments.sha256):
        raise RequestError("--sha256: a digest has 64 hexadecimal digits")
    folder = Path(arguments.out).expanduser() if arguments.out else default_folder()
    path = fetch_file(published, folder, url=arguments.url, sha256=arguments.sha256)
    if published.model is not None:
        print(
            f"convert with: --model {published.model} --variant {published.variant} "
            f"--source {shlex.quote(str(path))} --out {arguments.name}.keras"
        )
    return EXIT_DONE


def _convert(arguments: argparse.Namespace) -> int:
    source, out = Path(arguments.source).expanduser(), Path(arguments.out).expanduser()
    variants = look_up(VARIANTS, arguments.model, "model with published checkpoints")
    if arguments.variant is not None:
        look_up(variants, arguments.variant, f"variant of {arguments.model}")
    if out.suffix != ".keras":
        raise RequestError(f"--out {out}: must end in .keras")
    if out.exists() and not arguments.force:
        raise RequestError(f"--out {out}: is there already; add --force to replace it")
    if not source.is_file():
        raise RequestError(
            f"--source {source}: no such file; `python -m esc_tf.checkpoints fetch NAME` fetches "
            "one"
        )

    with quiet_import():
        from esc_tf.models.checkpoints.label_names import read_label_names
        from esc_tf.models.checkpoints.reader import read_checkpoint
        from esc_tf.models.checkpoints.tables import count_classes
        from esc_tf.tasks.conversion import convert_tensors, find_variant, save_converted

    variant = find_variant(arguments.model, arguments.variant)
    tensors = read_checkpoint(source, arguments.key)
    num_classes = count_classes(tensors) or variant.num_classes
    labels = Path(arguments.labels) if arguments.labels else find_labels(source, num_classes)
    conversion = convert_tensors(
        tensors,
        variant,
        origin=f"{source} as {arguments.model} {arguments.variant or ''}".rstrip(),
        label_names=None if labels is None else read_label_names(labels),
        duration_s=arguments.duration,
        output=arguments.output,
    )
    difference = save_converted(conversion.classifier, out)
    for line in _report_conversion(conversion, num_classes, labels):
        print(line)
    print(f"wrote {out} (loaded again: logits differ by {difference:.1e}, relative)")
    return EXIT_DONE


def _report_conversion(conversion: Any, num_classes: int, labels: Path | None) -> list[str]:
    report, audio = conversion.report, conversion.classifier.audio
    trainable = sum(math.prod(weight.shape) for weight in conversion.classifier.trainable_weights)
    lines = [f"used {len(report.used)} tensors: {trainable:,} trainable parameters"]
    lines += [f"ignored {count}: {reason}" for reason, count in report.count_reasons().items()]
    lines += [f"kept {path}: {reason}" for path, reason in report.kept.items()]
    lines.append(
        f"made for {audio['duration_s']:g} s at {audio['sample_rate_hz']:,} Hz, "
        f"{conversion.classifier.output_kind} of {num_classes} classes"
    )
    if labels is not None:
        lines.append(f"labels: {num_classes} names from {labels}")
    elif num_classes == NUM_AUDIOSET_CLASSES:
        lines.append(
            "labels: none found, so the classes are class_0, class_1, …; for names run `python -m "
            f"esc_tf.checkpoints fetch {_LABELS}` and convert again, or give --labels FILE"
        )
    else:
        lines.append(
            "labels: none given, so the classes are class_0, class_1, …; for names give --labels "
            "FILE with one on each line"
        )
    return lines


def _shown(path: Path) -> str:
    """A path as the user would write it."""
    home = str(Path.home())
    return str(path).replace(home, "~", 1) if str(path).startswith(f"{home}/") else str(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 1 failed while working, 2 the request was wrong."""
    return run_command(lambda arguments: arguments.run(arguments), build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
