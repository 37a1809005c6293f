"""Size and speed of .tflite files on this machine's CPU, front end and network apart.

    python -m benchmarks.on_device [FILE…] [--clip SOUND] [--threads 1 2] [--rounds N] [--json]

A FILE is a ``.tflite`` file, a folder below which some are (as ``python -m export`` writes it), or
a ``.keras`` file, which is converted to each format first (with ranges from noise: good for its
speed alone) and whose front end is also timed by each of its computations. Without any, that is
an untrained mn04. Files of others are timed in the same run: ``yamnet.tflite@16000`` hears the same
clip at its rate, in windows of its length side by side, without overlap.

The clip of 5 s is heard again and again, in one interpreter for each number of threads. Rounds of
all files alternate, so that another load on the machine meets all of them; the median round counts,
beside it the fastest one and the CPU time, which another load changes less. The front end is the
same file cut off behind its tensor ``features``; the network is the difference.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks.training import count_cores
from esc_tf.errors import EscTfError, RequestError
from serving.tflite_facts import ModelFileError, read_facts
from serving.waveforms import SoundError, convert_to_mono, read_blocks

CLIP_S = 5.0
BOUNDARY = "features"
WHOLE, FRONT_END, NETWORK = "whole", "front end", "network"
_RATE_HZ, _NOISE_CLIPS = 32_000, 8
_CONFIG = Path(__file__).parents[1] / "configs" / "experiment" / "mn04_esc10.yaml"
_NUM_CLASSES = 50
_SMALLEST_ROUND_S = 0.02  # long enough to be measured


@dataclass
class Contestant:
    """A file to be timed.

    Attributes:
        name: how it is shown.
        content: the file.
        windows: what it hears of the clip, one window a run: ``(runs, samples)``; None if it takes
            something else than a waveform, which is then zeros.
        part: what it is of the file.
        wall_s: number of threads → seconds for the clip, of each round.
        cpu_s: the same of all threads together.
    """

    name: str
    content: bytes
    windows: np.ndarray | None
    part: str = WHOLE
    wall_s: dict[int, list[float]] = field(default_factory=dict)
    cpu_s: dict[int, list[float]] = field(default_factory=dict)


class Runner:
    """A contestant in an interpreter with a number of threads.

    Raises:
        RequestError: an output is not finite: the speed of a broken file is none.
    """

    def __init__(self, contestant: Contestant, num_threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._contestant, self._num_threads = contestant, num_threads
        self._interpreter = Interpreter(model_content=contestant.content, num_threads=num_threads)
        details = self._interpreter.get_input_details()[0]
        self._place, shape = details["index"], tuple(details["shape"])
        if contestant.windows is None:
            self._inputs = [np.zeros(shape, details["dtype"])]
        else:
            if np.prod(shape) != contestant.windows.shape[1]:  # of any length
                shape = contestant.windows.shape[1:]
                self._interpreter.resize_tensor_input(self._place, shape)
            self._inputs = [window.reshape(shape) for window in contestant.windows]
        self._interpreter.allocate_tensors()
        self._hear_clip()
        for details in self._interpreter.get_output_details():
            if not np.isfinite(self._interpreter.get_tensor(details["index"])).all():
                raise RequestError(
                    f"{contestant.name}: output {details['name']} is not finite; export it again"
                )
        start = time.perf_counter()
        self._hear_clip()
        once_s = max(time.perf_counter() - start, 1e-6)
        self._repeats = max(1, round(_SMALLEST_ROUND_S / once_s))

    def _hear_clip(self) -> None:
        for window in self._inputs:
            self._interpreter.set_tensor(self._place, window)
            self._interpreter.invoke()

    def do_round(self) -> None:
        """Add the times of one round, after a run that does not count."""
        self._hear_clip()
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        for _ in range(self._repeats):
            self._hear_clip()
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        for times, seconds in ((self._contestant.wall_s, wall_s), (self._contestant.cpu_s, cpu_s)):
            times.setdefault(self._num_threads, []).append(seconds / self._repeats)


def race(contestants: Sequence[Contestant], threads: Sequence[int], num_rounds: int) -> None:
    """Fill in the times of all contestants."""
    for num_threads in threads:
        runners = [Runner(contestant, num_threads) for contestant in contestants]
        for _ in range(num_rounds):
            for runner in runners:
                runner.do_round()


def cut_behind(content: bytes, tensor_name: str) -> bytes | None:
    """The file's first graph up to a tensor, None if there is none of that name.

    LiteRT runs every operator of a graph, whatever output is read, so those behind it must go.
    """
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph = model.subgraphs[0]
    names = [(tensor.name or b"").decode() for tensor in graph.tensors]
    if tensor_name not in names or names.index(tensor_name) in graph.inputs:
        return None
    needed, kept = {names.index(tensor_name)}, []
    for operator in reversed(graph.operators):
        if needed.intersection(operator.outputs):
            kept.append(operator)
            needed.update(operator.inputs)
    graph.operators = kept[::-1]
    graph.outputs = np.array([names.index(tensor_name)], np.int32)
    used = {graph.tensors[index].buffer for index in needed if index >= 0}
    for place, buffer in enumerate(model.buffers):
        if place not in used:
            buffer.data = None
    for place, tensor in enumerate(graph.tensors):
        if place not in needed:
            tensor.buffer = 0
    del model.subgraphs[1:]
    model.signatureDefs, model.metadata = [], []
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def read_clip(path: Path | None) -> tuple[int, np.ndarray]:
    """Rate and samples of 5 s of a sound file, or of a gliding tone in noise."""
    if path is None:
        num_samples = round(CLIP_S * _RATE_HZ)
        tone = 0.3 * np.sin(np.cumsum(np.linspace(0.02, 1.5, num_samples)))
        noise = 0.05 * np.random.default_rng(0).standard_normal(num_samples)
        return _RATE_HZ, (tone + noise).astype(np.float32)
    rate_hz, blocks = read_blocks(path)
    samples = np.concatenate([convert_to_mono(block) for block in blocks] or [np.zeros(0)])
    wanted = round(CLIP_S * rate_hz)
    return rate_hz, np.pad(samples[:wanted], (0, max(0, wanted - len(samples))))


def cut_windows(clip: np.ndarray, rate_hz: int, new_rate_hz: int, length: int) -> np.ndarray:
    """The clip at a file's rate, in windows side by side, the last one filled up with zeros."""
    import soxr

    samples = soxr.resample(clip, rate_hz, new_rate_hz, quality="HQ").astype(np.float32)
    if length == 1:  # of any length
        length = len(samples)
    num_windows = -(-len(samples) // length)
    return np.pad(samples, (0, num_windows * length - len(samples))).reshape(num_windows, length)


def make_contestants(
    name: str, content: bytes, file_rate_hz: int | None, rate_hz: int, clip: np.ndarray
) -> Iterator[Contestant]:
    """A file and, where it can be told apart, its front end.

    Raises:
        RequestError: the file is damaged, or nobody knows its rate.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        details = Interpreter(model_content=content).get_input_details()[0]
    except (ValueError, RuntimeError) as error:
        raise RequestError(f"{name}: LiteRT cannot load it ({error})") from error
    windows = None
    if len(details["shape"]) <= 2:  # features have axes of time, frequency and channel
        if file_rate_hz is None:
            raise RequestError(f"{name}: does not tell its sample rate; add it: FILE.tflite@16000")
        length = int(np.prod(details["shape"]))
        windows = cut_windows(clip, rate_hz, file_rate_hz, length)
    yield Contestant(name, content, windows)
    front_end = None if windows is None else cut_behind(content, BOUNDARY)
    if front_end is not None:
        yield Contestant(name, front_end, windows, FRONT_END)


def find_contestants(text: str, rate_hz: int, clip: np.ndarray) -> Iterator[Contestant]:
    """All that an argument names.

    Raises:
        RequestError: there is no such file, or none in the folder, or it cannot be used.
    """
    given, _, file_rate = text.rpartition("@")
    if not file_rate.isdigit():
        given, file_rate = text, ""
    path = Path(given)
    if path.suffix == ".keras":
        from esc_tf.tasks.classifier import load_classifier

        yield from convert_model(path.stem, load_classifier(path), rate_hz, clip)
        return
    paths = sorted(path.rglob("*.tflite")) if path.is_dir() else [path]
    if not paths or not all(found.is_file() for found in paths):
        raise RequestError(f"{given}: no .tflite file; name a file, or a folder of an export")
    for found in paths:
        known_hz = int(file_rate) if file_rate else None
        if known_hz is None:
            with contextlib.suppress(ModelFileError):
                known_hz = read_facts(found).sample_rate_hz
        yield from make_contestants(found.stem, found.read_bytes(), known_hz, rate_hz, clip)


def build_untrained() -> tuple[str, Any]:
    """Name and model of an mn04 with the weights that a training starts from."""
    from esc_tf.config import load_experiment
    from esc_tf.tasks.classifier import build_classifier

    labels = [f"class {number}" for number in range(_NUM_CLASSES)]
    return "mn04_untrained", build_classifier(load_experiment(_CONFIG), labels)


def convert_model(name: str, model: Any, rate_hz: int, clip: np.ndarray) -> Iterator[Contestant]:
    """A classifier in each format, and its front end alone by each of its computations."""
    from esc_tf.frontends import with_computation
    from esc_tf.frontends.power_spectrogram import COMPUTATIONS
    from export.graphs import InferenceGraphs
    from export.tflite import KINDS, convert_tflite

    graphs = InferenceGraphs(model)
    file_rate_hz = graphs.sample_rate_hz
    noise = np.random.default_rng(0).normal(0.0, 0.1, (_NOISE_CLIPS, graphs.num_samples))
    for kind in KINDS:
        content = convert_tflite(graphs, kind, noise.astype(np.float32))
        yield from make_contestants(f"{name}_{kind}", content, file_rate_hz, rate_hz, clip)
    windows = cut_windows(clip, rate_hz, file_rate_hz, graphs.num_samples)
    for computation in COMPUTATIONS:
        try:
            front_end = with_computation(graphs.model.front_end, computation)
            content = convert_front_end(front_end, graphs.num_samples)
            alone = Contestant(name, content, windows, f"{FRONT_END} by {computation}")
            Runner(alone, 1)
        except (EscTfError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            print(f"{name}: no front end by {computation} ({reason})", file=sys.stderr)
            continue
        yield alone


def convert_front_end(front_end: Any, num_samples: int) -> bytes:
    """A front end alone as a .tflite file."""
    import tensorflow as tf

    module = tf.Module()
    module.run = tf.function(
        lambda waveform: {BOUNDARY: front_end(waveform)},
        [tf.TensorSpec([1, num_samples], tf.float32, "waveform")],
    )
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": module.run})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        return converter.convert()


def describe_machine() -> dict[str, Any]:
    """Processor, load and versions: what the numbers depend on."""
    model, cpu_info = platform.machine(), Path("/proc/cpuinfo")
    if cpu_info.exists():
        lines = cpu_info.read_text(encoding="utf-8", errors="replace").splitlines()
        names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        model = next(names, model)
    return {
        "processor": model,
        "cores": count_cores(),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "ai_edge_litert": importlib.metadata.version("ai_edge_litert"),
    }


def summarize(contestants: Sequence[Contestant]) -> list[dict[str, Any]]:
    """A row for each file and each part of one; times in ms for the clip."""
    rows: list[dict[str, Any]] = []
    for item in contestants:
        times = {
            num_threads: {
                "median_ms": 1e3 * statistics.median(seconds),
                "fastest_ms": 1e3 * min(seconds),
                "cpu_ms": 1e3 * statistics.median(item.cpu_s[num_threads]),
            }
            for num_threads, seconds in item.wall_s.items()
        }
        row: dict[str, Any] = {"name": item.name, "part": item.part, "threads": times}
        if item.part == WHOLE:
            row["bytes"] = len(item.content)
            row["runs"] = 1 if item.windows is None else len(item.windows)
        rows.append(row)
        if item.part == FRONT_END:
            network = {
                num_threads: {key: whole[key] - times[num_threads][key] for key in whole}
                for num_threads, whole in rows[-2]["threads"].items()
            }
            rows.append({"name": item.name, "part": NETWORK, "threads": network})
    return rows


def format_result(result: dict[str, Any]) -> str:
    """The result as a readable table."""
    rows = result["rows"]
    width = max(len(row["name"]) for row in rows) + 2
    part_width = max(len(row["part"]) for row in rows) + 2
    threads = list(rows[0]["threads"])
    left = width + part_width + 14
    titles = [f"{count} thread{'s' if count > 1 else ''}" for count in threads]
    lines = [
        ", ".join(f"{key} {value}" for key, value in result["machine"].items()),
        f"ms for a clip of {CLIP_S:g} s ({result['clip']}); runs: windows that make up the clip",
        "",
        " " * left + "".join(f"{title:>27}" for title in titles),
        f"{'':{width + part_width}}{'KiB':>8}{'runs':>6}"
        + f"{'median':>11}{'fastest':>8}{'CPU':>8}" * len(threads),
    ]
    for row in rows:
        size = f"{row['bytes'] / 1024:8.0f}{row['runs']:6}" if "bytes" in row else " " * 14
        times = "".join(
            f"{cell['median_ms']:11.2f}{cell['fastest_ms']:8.2f}{cell['cpu_ms']:8.2f}"
            for cell in row["threads"].values()
        )
        name = row["name"] if row["part"] not in (FRONT_END, NETWORK) else ""
        lines.append(f"{name:{width}}{row['part']:{part_width}}{size}{times}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Time the files; 0 done, 2 the request was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.on_device", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help=".tflite[@RATE], folder or .keras; default: an untrained mn04",
    )
    parser.add_argument("--clip", type=Path, metavar="SOUND", help="a sound file; default: a tone")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    if min(*arguments.threads, arguments.rounds, 1) < 1:
        parser.error("--threads and --rounds must be at least 1")
    if importlib.util.find_spec("ai_edge_litert") is None:
        print("LiteRT is not installed: pip install ai-edge-litert", file=sys.stderr)
        return 1
    try:
        rate_hz, clip = read_clip(arguments.clip)
        contestants = [
            item for text in arguments.files for item in find_contestants(text, rate_hz, clip)
        ] or list(convert_model(*build_untrained(), rate_hz, clip))
        machine = describe_machine()
        race(contestants, arguments.threads, arguments.rounds)
    except (EscTfError, SoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    machine["load_average_after"] = [round(value, 2) for value in os.getloadavg()]
    clip_name = "a gliding tone in noise" if arguments.clip is None else arguments.clip.name
    result = {"machine": machine, "clip": clip_name, "rows": summarize(contestants)}
    print(json.dumps(result) if arguments.json else format_result(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
