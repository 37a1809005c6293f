"""Work on data sets: ``python -m esc_tf.data shard …`` and ``python -m esc_tf.data fetch …``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from esc_tf.command import add_config_arguments, load_config, quiet_import, run_command
from esc_tf.errors import EXIT_DONE, RequestError


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m esc_tf.data", description="Fetch data sets, and write them as shards."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shard = commands.add_parser(
        "shard",
        help="write an experiment's data set as TFRecord shards",
        description="Write the data set of an experiment as TFRecord shards, one set for each "
        "fold, at the experiment's rate. Run again, it writes what is missing or damaged.",
    )
    add_config_arguments(shard)
    shard.add_argument("--out", required=True, metavar="DIR", help="where the shards go")
    shard.add_argument(
        "--shards", type=int, metavar="N", help="shards of each fold (default: one for 256 clips)"
    )
    shard.add_argument(
        "--encoding",
        choices=("int16", "float32"),
        default="int16",
        help="int16 (default): exact for 16-bit files at their own rate, else to 1/65534 of a "
        "clip's peak; float32: exact, twice as large",
    )
    shard.set_defaults(run=_shard)
    fetch = commands.add_parser(
        "fetch",
        help="download a data set",
        description="Download a data set, check and unpack it. Run again after an interruption, "
        "it goes on where it stopped.",
    )
    fetch.add_argument("name", metavar="NAME", help="esc50")
    fetch.add_argument(
        "--out", default="data", metavar="DIR", help="where its folder goes (default: data)"
    )
    fetch.add_argument("--url", help="another place of the same archive")
    fetch.add_argument("--sha256", metavar="HEX", help="digest that the archive must have")
    fetch.add_argument("--keep-archive", action="store_true", help="do not remove the archive")
    fetch.set_defaults(run=_fetch)
    return parser


def _shard(arguments: argparse.Namespace) -> int:
    if arguments.shards is not None and arguments.shards < 1:
        raise RequestError("--shards must be 1 or more")
    experiment = load_config(arguments)

    with quiet_import():
        from esc_tf.data.sharding import write_shards

    write_shards(
        experiment.data,
        experiment.audio,
        experiment.seed,
        Path(arguments.out),
        num_shards=arguments.shards,
        encoding=arguments.encoding,
    )
    print(
        f"train with: --set data.name=shards --set data.root={arguments.out} "
        f"--set audio.sample_rate_hz={experiment.audio.sample_rate_hz}"
    )
    return EXIT_DONE


def _fetch(arguments: argparse.Namespace) -> int:
    digest = arguments.sha256
    if digest is not None and not _is_digest(digest):
        raise RequestError("--sha256: a digest has 64 hexadecimal digits")

    with quiet_import():
        from esc_tf.data.fetch import fetch_data_set

    folder = fetch_data_set(
        arguments.name,
        Path(arguments.out),
        url=arguments.url,
        sha256=digest,
        keep_archive=arguments.keep_archive,
    )
    print(f"train with: --set data.root={folder}")
    return EXIT_DONE


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text.lower()) <= set("0123456789abcdef")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 1 failed while working, 2 the request was wrong."""
    return run_command(lambda arguments: arguments.run(arguments), build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
