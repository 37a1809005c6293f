"""The SE-CNN's training step, inference and input pipeline beside the same ones in PyTorch.

    python -m benchmarks.training [--part network|pipeline] [--batch-size B] [--threads T] [--json]

Network: the step that ``esc_tf.train`` runs, from features to Adam's update, and inference, against
the same network written in PyTorch (``contestants/torch_network.py``). First the same weights must
give the same logits in both. Pipeline: decoded clips → time shift, noise → log-mel in batches, as
training reads them, against a PyTorch DataLoader that does the same work with NumPy and librosa in
two worker processes, the decoded clips held in memory.

Every contestant is a process of its own, so that its peak memory is its own. Rounds alternate
between the two, so that another load on the machine meets both; the median round counts.

Needs PyTorch: ``pip install torch``; on a machine without a GPU its CPU build will do.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "experiment" / "se_cnn_esc50.yaml"
SIDES = ("tensorflow", "torch")
LARGEST_RELATIVE_ERROR = 1e-4
# Of standardised features, whose spread is 1.
LARGEST_FEATURE_ERROR = 1e-3
NUM_WARM_UPS = 2
# Threads of a side that has just worked wait for more by spinning, for up to a fifth of a second.
SETTLE_S = 0.3


class Contestant:
    """A process that does rounds when it is asked to.

    Args:
        settings: what ``benchmarks.contestants`` reads.
    """

    def __init__(self, **settings: Any) -> None:
        self._name = f"{settings['side']}, {settings['task']}"
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        threads = str(settings["threads"])
        # Quiet unless it fails, when the last lines are shown.
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contestants"],
            env={
                "TF_CPP_MIN_LOG_LEVEL": "2",
                **os.environ,
                "PYTHONPATH": path,
                "OMP_NUM_THREADS": threads,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.imported_bytes = self._ask(json.dumps({"config": str(CONFIG), **settings}))[
            "imported_bytes"
        ]

    def do_round(self) -> dict[str, Any]:
        """One round: what it measured, and the peak of memory so far."""
        return self._ask("round")

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            code = self._process.wait()
            self._errors.seek(0)
            tail = self._errors.read()[-3000:]
            raise SystemExit(f"{tail}\n{self._name}: ended with exit code {code}")
        reply: dict[str, Any] = json.loads(answer)
        return reply

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._errors.close()


def race(num_rounds: int, **settings: Any) -> dict[str, Any]:
    """Alternate rounds of both sides; both are there all the time, one of them waiting.

    Returns:
        Side → median, best and all ``seconds``, ``median_cpu_s``, ``peak_bytes`` and
        ``imported_bytes``.
    """
    contestants = {side: Contestant(side=side, **settings) for side in SIDES}
    replies: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for number in range(NUM_WARM_UPS + num_rounds):
        # Each goes first as often as the other.
        for side in SIDES if number % 2 else reversed(SIDES):
            time.sleep(SETTLE_S)
            reply = contestants[side].do_round()
            if number >= NUM_WARM_UPS:
                replies[side].append(reply)
    result = {}
    for side, contestant in contestants.items():
        seconds = [reply["seconds"] for reply in replies[side]]
        result[side] = {
            "median_s": statistics.median(seconds),
            "best_s": min(seconds),
            "seconds": seconds,
            "median_cpu_s": statistics.median(reply["cpu_seconds"] for reply in replies[side]),
            "peak_bytes": replies[side][-1]["peak_bytes"],
            "imported_bytes": contestant.imported_bytes,
        }
        contestant.close()
    return result


def check_parity(folder: Path, threads: int, batch_size: int) -> float:
    """Relative difference of the two networks' logits for the same weights and features.

    Leaves the weights and a batch in ``folder / "inputs.npz"``.

    Raises:
        SystemExit: they differ, so that there would be nothing to compare.
    """
    error = 0.0
    for side in SIDES:
        contestant = Contestant(
            side=side,
            task="parity",
            threads=threads,
            batch_size=batch_size,
            precision="float32",
            inputs=str(folder / "inputs.npz"),
        )
        error = contestant.do_round()["seconds"]
        contestant.close()
    if not error < LARGEST_RELATIVE_ERROR:
        raise SystemExit(f"the networks differ: relative error of the logits {error:.1e}")
    return error


def measure_network(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Parity, then time and memory of training and inference in each precision."""
    result: dict[str, Any] = {
        "relative_error_of_logits": check_parity(folder, arguments.threads, arguments.batch_size),
        "batch_size": arguments.batch_size,
        "races": [],
    }
    for task in ("train", "infer"):
        for precision in arguments.precision:
            sides = race(
                arguments.rounds,
                task=task,
                precision=precision,
                threads=arguments.threads,
                batch_size=arguments.batch_size,
                inputs=str(folder / "inputs.npz"),
            )
            result["races"].append({"task": task, "precision": precision, **sides})
    return result


def measure_pipeline(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Clips per second of both pipelines."""
    sides = race(
        arguments.rounds,
        task="pipeline",
        part="pipeline",
        threads=arguments.threads,
        folder=str(folder),
        root=str(arguments.data_root or folder / "sounds"),
    )
    error = float(json.loads((folder / "feature_error.json").read_text()))
    if not error < LARGEST_FEATURE_ERROR:
        raise SystemExit(f"the pipelines differ: largest error of a standardised feature {error:g}")
    return {
        "largest_feature_error": error,
        "source": str(arguments.data_root or "generated clips"),
        "clips_per_second": {side: 1.0 / found["median_s"] for side, found in sides.items()},
        "ratio": sides["torch"]["median_s"] / sides["tensorflow"]["median_s"],
        "sides": sides,
    }


def describe_machine(threads: int) -> dict[str, Any]:
    """Processor, threads, load and versions: what the numbers depend on."""
    versions = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "torch")}
    return {
        "processor": describe_processor(),
        "cores": count_cores(),
        "threads": threads,
        "load_average": [round(value, 2) for value in os.getloadavg()],
        **versions,
    }


def describe_processor() -> str:
    """The processor's name, as far as the system tells it."""
    model = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        lines = cpu_info.read_text(encoding="utf-8", errors="replace").splitlines()
        names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        model = next(names, model)
    return model


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def format_result(result: dict[str, Any]) -> str:
    """The result as readable tables; a ratio above 1 says that this package does better."""
    lines = [", ".join(f"{key} {value}" for key, value in result["machine"].items())]
    if network := result.get("network"):
        size = network["batch_size"]
        lines += [
            "",
            f"SE-CNN, batch {size}; logits of the two networks differ by "
            f"{network['relative_error_of_logits']:.1e} (relative)",
            f"{'':18}{'TensorFlow':>28}{'PyTorch':>28}{'PyTorch / TensorFlow':>26}",
            f"{'':18}"
            + f"{'s/clip':>10}{'peak':>8}{'imports':>10}" * 2
            + f"{'time':>8}{'peak':>8}{'-imports':>10}",
        ]
        for row in network["races"]:
            ours, theirs = (row[side] for side in SIDES)
            cells = "".join(
                f"{side['median_s'] / size:10.4f}{side['peak_bytes'] / 2**20:8.0f}"
                f"{side['imported_bytes'] / 2**20:10.0f}"
                for side in (ours, theirs)
            )
            working = [side["peak_bytes"] - side["imported_bytes"] for side in (ours, theirs)]
            cells += f"{theirs['median_s'] / ours['median_s']:8.2f}"
            cells += f"{theirs['peak_bytes'] / ours['peak_bytes']:8.2f}"
            cells += f"{working[1] / working[0]:10.2f}"
            lines.append(f"{row['task'] + ', ' + row['precision']:18}{cells}")
        lines.append("peak: MiB of the process; imports: what it held before the network was built")
    if pipeline := result.get("pipeline"):
        speeds = pipeline["clips_per_second"]
        lines += [
            "",
            f"input pipeline ({pipeline['source']}): TensorFlow {speeds['tensorflow']:.1f} clips/s,"
            f" DataLoader with librosa {speeds['torch']:.1f} clips/s, ratio {pipeline['ratio']:.2f}"
            f"; features differ by {pipeline['largest_feature_error']:.1e}",
        ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--part", choices=("network", "pipeline"), help="default: both")
    parser.add_argument("--batch-size", type=int, default=8, help="of the network")
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=count_cores())
    parser.add_argument("--data-root", help="folder in ESC-50's layout (default: generated clips)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    if min(arguments.batch_size, arguments.rounds, arguments.threads) < 1:
        parser.error("--batch-size, --rounds and --threads must be at least 1")
    if importlib.util.find_spec("torch") is None:
        message = "PyTorch is not installed, so there is no peer to measure: pip install torch"
        print(message, file=sys.stderr)
        return 1
    result: dict[str, Any] = {"machine": describe_machine(arguments.threads)}
    with tempfile.TemporaryDirectory() as folder:
        if arguments.part != "pipeline":
            result["network"] = measure_network(arguments, Path(folder))
        if arguments.part != "network":
            result["pipeline"] = measure_pipeline(arguments, Path(folder))
    result["machine"]["load_average_after"] = [round(value, 2) for value in os.getloadavg()]
    print(json.dumps(result) if arguments.json else format_result(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
