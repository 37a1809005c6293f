"""A SavedModel's signature called without any server, in a process of its own.

Told on stdin how long to call and in how many threads (``SECONDS THREADS``), it answers each line
with one line of JSON: how many clips that were.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from benchmarks.contestants.timed_threads import run_threads


def main(argv: Sequence[str] | None = None) -> int:
    """Load the model, then call it whenever told to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of the version")
    parser.add_argument("--signature", required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--clips", type=Path, required=True, help="a folder of WAV files")
    arguments = parser.parse_args(argv)
    model = tf.saved_model.load(str(arguments.model))
    function = model.signatures[arguments.signature]
    (alias,) = function.structured_input_signature[1]
    clips = [file.read_bytes() for file in sorted(arguments.clips.iterdir())]

    def call(first: int) -> None:
        batch = [clips[(first + row) % len(clips)] for row in range(arguments.batch_size)]
        for output in function(**{alias: tf.constant(batch)}).values():
            output.numpy()

    counts: list[int] = []

    def run(place: int, until: float) -> None:
        while time.monotonic() < until:
            call(counts[place])
            counts[place] += arguments.batch_size

    call(0)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        seconds, num_threads = line.split()
        counts[:] = [0] * int(num_threads)
        works = [functools.partial(run, place) for place in range(len(counts))]
        times = run_threads(works, float(seconds))
        print(json.dumps({**times, "num_clips": sum(counts)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
