"""Concurrent clients of ``python -m serving`` beside direct calls of its SavedModel.

    python -m benchmarks.serving [--seconds N] [--clients N] [--model-base-path DIR]
        [--data-root DIR | --rate-hz R]

Clients in a process of their own send clips of 5 s as base64 WAV (``--data-root``: the sound files
of a folder at their own rates; else generated noise at the rate of the student, 16 kHz, or any
other), each the next as soon as it has its answer. The server batches
them. In the same run, in turns of some seconds, the same signature is called without any server, in
batches of the size that the server was allowed: by one thread, batch after batch, and by as many
threads as the server runs batches in. Without a model, that is an
untrained MobileNet student of 10 classes, which costs what a trained one costs.

Another load on the machine changes throughputs; the ratio of CPU time for a clip, the server's to
the direct call's, much less. Memory is the server's resident memory after the first turn and after
the last.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import soundfile

from benchmarks.training import count_cores
from esc_tf.errors import EscTfError, RequestError

CLIP_S = 5.0
SIGNATURE = "wav_bytes"
_NAME = "benchmark"
_NUM_CLIPS = 64
_ROOT = Path(__file__).parents[1]


@dataclass
class Turns:
    """What one side did in all its turns.

    Attributes:
        num_clips: that were answered.
        wall_s: together.
        cpu_s: of its process.
    """

    num_clips: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0

    def add(self, num_clips: int, wall_s: float, cpu_s: float) -> None:
        """Add a turn."""
        self.num_clips += num_clips
        self.wall_s += wall_s
        self.cpu_s += cpu_s

    @property
    def clips_per_s(self) -> float:
        """Throughput."""
        return self.num_clips / self.wall_s

    @property
    def cpu_ms_per_clip(self) -> float:
        """CPU time of all its threads."""
        return 1000 * self.cpu_s / self.num_clips


@dataclass
class Result:
    """Everything that was measured."""

    direct: dict[int, Turns] = field(default_factory=dict)  # number of threads → its turns
    server: Turns = field(default_factory=Turns)
    clients: Turns = field(default_factory=Turns)
    latencies_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)
    mean_batch: float = 0.0


class Process:
    """A process that is told on its stdin what to do, and answers with a line of JSON."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self) -> Any:
        """The next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EscTfError("a process of the benchmark has ended; the lines above say why")
        return json.loads(line)

    def run(self, *words: float) -> Any:
        """One turn."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        return self.read()

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()


class Server:
    """``python -m serving`` with batching."""

    def __init__(self, base_path: Path, batch_size: int, threads: int, place: Path) -> None:
        self.port = _find_free_port()
        (place / "batching.config").write_text(
            f"max_batch_size {{ value: {batch_size} }} batch_timeout_micros {{ value: 100000 }} "
            f"num_batch_threads {{ value: {threads} }} max_enqueued_batches {{ value: 100 }}"
        )
        (place / "monitoring.config").write_text('prometheus_config { enable: true path: "/m" }')
        command = [sys.executable, "-m", "serving", f"--rest_api_port={self.port}", "--port=0"]
        command += [f"--model_name={_NAME}", f"--model_base_path={base_path}", "--log_format=none"]
        command += ["--enable_batching", f"--batching_parameters_file={place}/batching.config"]
        command += [f"--monitoring_config_file={place}/monitoring.config"]
        self._process = subprocess.Popen(command, cwd=_ROOT)
        while True:
            with contextlib.suppress(OSError):
                if urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz").status == 200:
                    return
            if self._process.poll() is not None:
                raise EscTfError("the server has ended; the lines above say why")
            time.sleep(0.1)

    def measure(self) -> tuple[float, float]:
        """CPU seconds so far and MiB held now."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return cpu_s, int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    def read_mean_batch(self) -> float:
        """Rows of a batch, from the server's own metrics."""
        page = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/m").read().decode()
        total, count = (
            float(re.search(rf"^esc_tf_serving_batch_rows_{part} (\S+)$", page, re.M)[1])  # type: ignore[index]
            for part in ("sum", "count")
        )
        return total / max(count, 1)

    def close(self) -> None:
        """SIGTERM, and wait for the end."""
        self._process.terminate()
        if self._process.wait() != 0:
            raise EscTfError(f"the server ended with {self._process.returncode} after SIGTERM")


def _find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def write_student(folder: Path) -> None:
    """An untrained student of 10 classes, as a SavedModel."""
    import keras

    from esc_tf.config import load_experiment
    from esc_tf.tasks.classifier import build_classifier
    from export.saved_model import write_saved_model

    keras.utils.set_random_seed(0)
    experiment = load_experiment(_ROOT / "configs" / "experiment" / "student_esc10.yaml", [])
    model = build_classifier(experiment, [f"class {number}" for number in range(10)])
    write_saved_model(model, folder, (), 1, _NAME)


def write_clips(folder: Path, data_root: str | None, rate_hz: int) -> None:
    """WAV files of 5 s, 16-bit mono."""
    folder.mkdir()
    if data_root is None:
        rng = np.random.default_rng(0)
        shape = (_NUM_CLIPS, round(CLIP_S * rate_hz))
        sounds = [(clip, rate_hz) for clip in rng.normal(0.0, 0.1, shape)]
    else:
        files = sorted(
            file
            for file in Path(data_root).rglob("*")
            if file.suffix in (".wav", ".ogg", ".flac", ".mp3")
        )[:_NUM_CLIPS]
        if not files:
            raise RequestError(f"--data-root: {data_root} holds no sound files")
        sounds = [soundfile.read(file, always_2d=True) for file in files]
        sounds = [(np.mean(sound, axis=1), rate) for sound, rate in sounds]
    for number, (sound, rate) in enumerate(sounds):
        length = round(CLIP_S * rate)
        fitted = np.resize(sound, length) if len(sound) else np.zeros(length)
        content = io.BytesIO()
        soundfile.write(content, fitted, rate, "PCM_16", format="WAV")
        (folder / f"{number:03}.wav").write_bytes(content.getvalue())


def write_bodies(clips: Path, folder: Path) -> None:
    """The request for each clip."""
    folder.mkdir()
    for file in sorted(clips.iterdir()):
        encoded = base64.b64encode(file.read_bytes()).decode()
        body = {"signature_name": SIGNATURE, "instances": [{"b64": encoded}]}
        (folder / f"{file.stem}.json").write_text(json.dumps(body))


@contextlib.contextmanager
def started(
    arguments: argparse.Namespace, place: Path
) -> Iterator[tuple[Server, Process, Process]]:
    """The server, its clients, and the direct calls, warm and idle."""
    base_path = Path(arguments.model_base_path or place / "model")
    if not arguments.model_base_path:
        write_student(base_path)
    versions = [path for path in base_path.iterdir() if path.name.isdecimal()]
    write_clips(place / "clips", arguments.data_root, arguments.rate_hz)
    write_bodies(place / "clips", place / "bodies")
    with contextlib.ExitStack() as stack:
        direct = Process(
            "benchmarks.contestants.direct_calls",
            *("--model", str(max(versions, key=lambda path: int(path.name)))),
            *("--signature", SIGNATURE, "--clips", str(place / "clips")),
            *("--batch-size", str(arguments.batch_size)),
        )
        stack.callback(direct.close)
        direct.read()
        server = Server(base_path, arguments.batch_size, arguments.threads, place)
        stack.callback(server.close)
        clients = Process(
            "benchmarks.contestants.rest_clients",
            *("--port", str(server.port), "--path", f"/v1/models/{_NAME}:predict"),
            *("--clients", str(arguments.clients), "--bodies", str(place / "bodies")),
        )
        stack.callback(clients.close)
        yield server, clients, direct


def measure(arguments: argparse.Namespace) -> Result:
    """Let both sides work in turns."""
    result = Result()
    turn_s = arguments.seconds / arguments.turns
    with tempfile.TemporaryDirectory() as folder, started(arguments, Path(folder)) as sides:
        server, clients, direct = sides
        clients.run(min(turn_s, 5.0))  # caches, allocators and threads come to their size
        for _ in range(arguments.turns):
            _call_directly(direct, result, arguments, turn_s / 2)
            before, _ = server.measure()
            told = clients.run(turn_s)
            after, memory = server.measure()
            answered = len(told["latencies_s"])
            result.server.add(answered, told["wall_s"], after - before)
            result.clients.add(answered, told["wall_s"], told["cpu_s"])
            result.latencies_s += told["latencies_s"]
            result.failures += told["failures"]
            result.memory_mib.append(memory)
            _call_directly(direct, result, arguments, turn_s / 2)
        result.mean_batch = server.read_mean_batch()
    return result


def _call_directly(
    direct: Process, result: Result, arguments: argparse.Namespace, seconds: float
) -> None:
    for threads in sorted({1, arguments.threads}):
        told = direct.run(seconds / 2, threads)
        turns = result.direct.setdefault(threads, Turns())
        turns.add(told["num_clips"], told["wall_s"], told["cpu_s"])


def show(result: Result, arguments: argparse.Namespace) -> None:
    """Print the table."""
    quantiles = statistics.quantiles(result.latencies_s, n=100)
    print(
        f"{arguments.clients} clients, {result.server.wall_s:.0f} s, "
        f"{len(result.latencies_s)} requests, {len(result.failures)} failed\n"
        f"latency: p50 {1000 * quantiles[49]:.0f} ms, p99 {1000 * quantiles[98]:.0f} ms; "
        f"rows of a batch: {result.mean_batch:.1f}\n"
        f"| batches of {arguments.batch_size} | clips/s | CPU ms a clip | server's throughput "
        "to this | CPU time of this to the server's |\n| --- | --- | --- | --- | --- |\n"
        f"| server, {arguments.threads} batch threads | {result.server.clips_per_s:.1f} | "
        f"{result.server.cpu_ms_per_clip:.2f} | | |"
    )
    for threads, turns in result.direct.items():
        print(
            f"| direct calls, {threads} at a time | {turns.clips_per_s:.1f} | "
            f"{turns.cpu_ms_per_clip:.2f} | {result.server.clips_per_s / turns.clips_per_s:.2f} | "
            f"{turns.cpu_ms_per_clip / result.server.cpu_ms_per_clip:.2f} |"
        )
    print(
        f"| the clients | | {result.clients.cpu_ms_per_clip:.2f} | | |\n"
        f"memory: {result.memory_mib[0]:.0f} MiB after the first turn, "
        f"{result.memory_mib[-1]:.0f} MiB after the last; highest {max(result.memory_mib):.0f}"
    )
    for failure in result.failures[:10]:
        print(f"failed: {failure}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0, metavar="N", help="of load (20)")
    parser.add_argument(
        "--turns", type=int, default=4, metavar="N", help="these are divided in (4)"
    )
    parser.add_argument("--clients", type=int, default=64, metavar="N", help="at once (64)")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="at most (32)")
    parser.add_argument("--threads", type=int, default=count_cores(), metavar="N", help="(cores)")
    parser.add_argument("--model-base-path", metavar="DIR", help="with a signature wav_bytes")
    parser.add_argument("--data-root", metavar="DIR", help="sound files (generated noise)")
    parser.add_argument("--rate-hz", type=int, default=16_000, metavar="R", help="of noise (16000)")
    arguments = parser.parse_args(argv)
    try:
        result = measure(arguments)
    except EscTfError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    show(result, arguments)
    return 1 if result.failures else 0


if __name__ == "__main__":
    sys.exit(main())
