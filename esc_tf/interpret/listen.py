"""The command ``listen``: sounds of hidden features as WAV files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esc_tf.command import quiet_import
from esc_tf.errors import RequestError
from esc_tf.files import check_free, new_folder

if TYPE_CHECKING:
    from esc_tf.interpretation.sounds import ClipFeatures

FACTS_FILE = "sounds.json"
CONTENTS = "sounds of features"


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "listen",
        help="write the sound of hidden features as WAV",
        description="Rebuild the sound that features of a hidden layer explain in a clip: their "
        "share of each time and frequency masks the clip's short-time Fourier transform. The "
        "sounds of all features sum to the clip.",
    )
    parser.add_argument("reading", metavar="READING", help="a folder that `nmf` wrote")
    parser.add_argument("--clip", required=True, metavar="ID", help="clip of the reading")
    parser.add_argument("--layer", metavar="NAME", help="needed if the reading has several")
    parser.add_argument(
        "--method", metavar="NAME", help="that found the patterns; needed if there are several"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--feature", type=int, nargs="+", metavar="K", help="from 0; several are heard together"
    )
    what.add_argument("--all", action="store_true", help="each feature in a file of its own")
    parser.add_argument("--out", required=True, metavar="PATH", help="a .wav file; a folder: --all")
    parser.add_argument(
        "--loud",
        action="store_true",
        help="raise the sound to the clip's peak instead of keeping its level in the clip",
    )
    parser.add_argument("--force", action="store_true", help="replace the sounds that are there")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the sounds; the exit code."""
    out = Path(arguments.out).expanduser()
    _check_out(out, arguments)
    with quiet_import():
        from esc_tf.interpretation.reading import Reading
        from esc_tf.interpretation.sounds import ClipFeatures

    reading = Reading.open(arguments.reading)
    layer = _choose(arguments.layer, reading.layers, "--layer")
    method = _choose(arguments.method, reading.methods, "--method")
    features = ClipFeatures(reading, reading.find_row(arguments.clip), layer, method)
    if arguments.all:
        _write_all(features, out, arguments.force)
    else:
        _write_one(features, arguments.feature, out, arguments.loud)
    return 0


def _check_out(out: Path, arguments: argparse.Namespace) -> None:
    if arguments.all and arguments.loud:
        raise RequestError("--loud changes levels, and with --all the sounds must sum to the clip")
    if not arguments.all and out.suffix.lower() != ".wav":
        raise RequestError(f"{out}: name a file that ends with .wav, or write --all to a folder")
    if not arguments.all and out.is_dir():
        raise RequestError(f"{out}: is a folder; name a file")
    if arguments.all:
        check_free(out, FACTS_FILE, CONTENTS, arguments.force)
    elif out.exists() and not arguments.force:
        raise RequestError(f"{out}: is there already; replace it with --force, or name another")


def _choose(given: str | None, names: tuple[str, ...], option: str) -> str:
    """The name that was given, or the only one there is; the reading checks it."""
    if given is None and len(names) != 1:
        raise RequestError(f"the reading has several; name one by {option}: {', '.join(names)}")
    return names[0] if given is None else given


def _write_one(features: ClipFeatures, chosen: list[int], out: Path, is_loud: bool) -> None:
    from esc_tf.interpretation.sounds import (
        LARGEST_SAMPLE,
        choose_gain,
        compute_level_db,
        find_peak,
        write_wav,
    )

    sound = features.rebuild(chosen)
    peak = find_peak(sound)
    gain = choose_gain([peak])
    if is_loud and peak > 0:
        gain = min(find_peak(features.waveform), LARGEST_SAMPLE) / peak
    out.parent.mkdir(parents=True, exist_ok=True)
    write_wav(out, gain * sound, features.reading.sample_rate_hz)
    level = compute_level_db(sound, features.waveform)
    print(
        f"{out}: {features.shares[chosen].sum():.1%} of the reconstruction, "
        f"{_describe_level(level)}{_describe_gain(gain)}"
    )


def _write_all(features: ClipFeatures, out: Path, replace: bool) -> None:
    from esc_tf.interpretation.sounds import choose_gain, compute_level_db, find_peak, write_wav

    num_features = len(features.activations)
    # Twice, since the gain is that of all, and all sounds together may not fit into the memory.
    peaks = [find_peak(features.rebuild(feature)) for feature in range(num_features)]
    gain = choose_gain([find_peak(features.waveform), *peaks])
    rate_hz = features.reading.sample_rate_hz
    width = max(len(str(num_features - 1)), 2)
    shares = features.shares
    with new_folder(out, FACTS_FILE, CONTENTS, replace) as folder:
        write_wav(folder / "clip.wav", gain * features.waveform, rate_hz)
        described: list[dict[str, Any]] = []
        for feature in range(num_features):
            sound = features.rebuild(feature)
            name = f"feature_{feature:0{width}d}.wav"
            write_wav(folder / name, gain * sound, rate_hz)
            level = compute_level_db(sound, features.waveform)
            described.append(
                {
                    "file": name,
                    "feature": feature,
                    "share": float(shares[feature]),
                    "level_db": level,
                }
            )
        facts = {
            "model": features.reading.model,
            "clip": features.reading.clips[features.clip_row].clip_id,
            "layer": features.layer,
            "method": features.method,
            "sample_rate_hz": rate_hz,
            "gain": gain,
            "sounds": described,
        }
        (folder / FACTS_FILE).write_text(
            json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8"
        )
    print(
        f"{out}: {num_features} sounds that sum to clip.wav; {FACTS_FILE} has their shares and "
        f"levels{_describe_gain(gain)}"
    )


def _describe_level(level_db: float | None) -> str:
    return "silent" if level_db is None else f"{level_db:+.1f} dB of the clip's energy"


def _describe_gain(gain: float) -> str:
    return "" if gain == 1.0 else f"; all samples times {gain:.4g}"
