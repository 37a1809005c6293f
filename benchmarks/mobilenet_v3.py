"""MobileNetV3 (mn04, mn10) beside the same network in PyTorch, from waveforms on.

    python -m benchmarks.mobilenet_v3 [--variant mn04 mn10] [--task infer train] [--json]

Inference: waveform → front end → probabilities of 527 classes, batches of 1 and 16 clips of 5 and
10 s; here with batch norms folded, as ``esc_tf.predict`` does it (``--not-folded``: as it was
trained). Training: waveform → Adam's update, 16 clips of 5 s, 50 classes, the step that
``esc_tf.train`` runs. PyTorch runs eagerly with its faster memory format, channels last. Both start
from the same weights, and first the same waveforms must give the same logits in both.

Every contestant is a process of its own, so that its peak memory is its own. Rounds alternate
between the two, so that another load on the machine meets both; the median round counts.

Needs PyTorch: ``pip install torch``; on a machine without a GPU its CPU build will do.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.training import (
    LARGEST_RELATIVE_ERROR,
    SIDES,
    Contestant,
    count_cores,
    describe_machine,
    race,
)

PART = "mobilenet_v3"
RATE_HZ = 32_000
NUM_CLASSES = {"infer": 527, "train": 50}
SIZES = {"infer": [(1, 5), (1, 10), (16, 5), (16, 10)], "train": [(16, 5)]}
# Calls in a round, so that a round of small batches is long enough to be measured.
CALLS_OF_ONE_CLIP = 20


def check_parity(folder: Path, variant: str, num_classes: int, folded: bool, threads: int) -> float:
    """Relative L2 difference of the two sides' logits; leaves weights and clips in ``folder``.

    Raises:
        SystemExit: they differ, so that there would be nothing to compare.
    """
    error = 0.0
    for side in reversed(SIDES):
        contestant = Contestant(
            side=side,
            part=PART,
            task="parity",
            variant=variant,
            num_classes=num_classes,
            batch_size=16,
            num_samples=10 * RATE_HZ,
            folded=folded,
            threads=threads,
            inputs=str(_inputs(folder, variant, num_classes)),
        )
        error = contestant.do_round()["seconds"]
        contestant.close()
    if not error < LARGEST_RELATIVE_ERROR:
        raise SystemExit(f"the networks differ: relative error of the logits {error:.1e}")
    return error


def measure(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Time, CPU time and memory of both sides in every case."""
    rows = []
    for variant in arguments.variant:
        for task in arguments.task:
            num_classes, folded = NUM_CLASSES[task], task == "infer" and not arguments.not_folded
            error = check_parity(folder, variant, num_classes, folded, arguments.threads)
            for batch_size, seconds in SIZES[task]:
                calls = CALLS_OF_ONE_CLIP if task == "infer" and batch_size == 1 else 1
                sides = race(
                    arguments.rounds,
                    part=PART,
                    task=task,
                    variant=variant,
                    num_classes=num_classes,
                    batch_size=batch_size,
                    num_samples=seconds * RATE_HZ,
                    calls=calls,
                    folded=folded,
                    threads=arguments.threads,
                    inputs=str(_inputs(folder, variant, num_classes)),
                )
                for side in sides.values():
                    side["median_cpu_s"] /= calls
                rows.append(
                    {
                        "task": task,
                        "variant": variant,
                        "batch_size": batch_size,
                        "clip_s": seconds,
                        "relative_error_of_logits": error,
                        **sides,
                    }
                )
    return rows


def _inputs(folder: Path, variant: str, num_classes: int) -> Path:
    return folder / f"{variant}_{num_classes}.npz"


def format_result(result: dict[str, Any]) -> str:
    """The result as a readable table; a ratio above 1 says that this package does better."""
    rows = result["rows"]
    error = max(row["relative_error_of_logits"] for row in rows)
    lines = [
        ", ".join(f"{key} {value}" for key, value in result["machine"].items()),
        f"logits of the two sides differ by at most {error:.1e} (relative)",
        "",
        f"{'':22}{'TensorFlow':>24}{'PyTorch':>24}{'PyTorch / TensorFlow':>24}",
        f"{'':22}"
        + f"{'ms':>8}{'CPU ms':>8}{'MiB':>8}" * 2
        + f"{'time':>8}{'CPU':>8}{'memory':>8}",
    ]
    for row in rows:
        name = f"{row['variant']} {row['task']}, {row['batch_size']} x {row['clip_s']} s"
        ours, theirs = (row[side] for side in SIDES)
        cells = "".join(
            f"{1e3 * side['median_s']:8.1f}{1e3 * side['median_cpu_s']:8.1f}"
            f"{side['peak_bytes'] / 2**20:8.0f}"
            for side in (ours, theirs)
        )
        ratios = [theirs[key] / ours[key] for key in ("median_s", "median_cpu_s", "peak_bytes")]
        lines.append(f"{name:22}{cells}" + "".join(f"{ratio:8.2f}" for ratio in ratios))
    lines.append("of one batch; MiB: peak of the process, libraries included")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mobilenet_v3", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--variant", nargs="+", default=["mn04", "mn10"])
    parser.add_argument("--task", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--not-folded", action="store_true", help="keep batch norms in inference")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=count_cores())
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    if min(arguments.rounds, arguments.threads) < 1:
        parser.error("--rounds and --threads must be at least 1")
    if importlib.util.find_spec("torch") is None:
        message = "PyTorch is not installed, so there is no peer to measure: pip install torch"
        print(message, file=sys.stderr)
        return 1
    result: dict[str, Any] = {"machine": describe_machine(arguments.threads)}
    with tempfile.TemporaryDirectory() as folder:
        result["rows"] = measure(arguments, Path(folder))
    result["machine"]["load_average_after"] = [round(value, 2) for value in os.getloadavg()]
    print(json.dumps(result) if arguments.json else format_result(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
