"""Speed of the log-mel front end against librosa, on the same clips in the same run.

    python -m benchmarks.log_mel [--data-root DIR] [--num-clips N] [--batch-size B] [--json]

Both make 128 mel bands in dB (n_fft 2048, hop 512, 44.1 kHz, 5 s, top_db 80): librosa clip by
clip, as it is meant to be used, ``LogMelSpectrogram`` in batches within a ``tf.function``, with
each of its computations, op by op and compiled by XLA. Rounds of all contestants alternate, so
that another load on the machine meets all of them, each after a pause and a round that does not
count; the median round counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import librosa
import numpy as np
import tensorflow as tf

from esc_tf.audio import read_clip, resample
from esc_tf.errors import AudioError
from esc_tf.frontends import LogMelSpectrogram
from esc_tf.frontends.power_spectrogram import COMPUTATIONS

RATE_HZ, NUM_SAMPLES = 44100, 220500
MEL: dict[str, Any] = {"n_fft": 2048, "hop_length": 512, "n_mels": 128}
LOWEST_HZ, HIGHEST_HZ = 20.0, 22050.0
_SETTLE_S = 0.5


def read_waveforms(root: Path, num_clips: int) -> np.ndarray:
    """The first clips below a folder, at 44.1 kHz, padded with zeros or cut to 5 s."""
    waveforms = np.zeros((num_clips, NUM_SAMPLES), np.float32)
    num_read = 0
    for path in sorted(root.rglob("*")):
        if num_read == num_clips or path.suffix.lower() not in (".wav", ".flac", ".ogg", ".mp3"):
            continue
        waveform = resample(read_clip(path), RATE_HZ).waveform[:NUM_SAMPLES]
        waveforms[num_read, : len(waveform)] = waveform
        num_read += 1
    if num_read == 0:
        raise AudioError(f"{root}: no WAV, FLAC, Ogg or MP3 files below it; name another folder")
    return waveforms[:num_read]


def make_noise(num_clips: int) -> np.ndarray:
    """Clips of white noise."""
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal((num_clips, NUM_SAMPLES))).astype(np.float32)


def compute_with_librosa(waveforms: np.ndarray) -> list[np.ndarray]:
    """(time, frequency) in dB, clip by clip."""
    band = {"fmin": LOWEST_HZ, "fmax": HIGHEST_HZ}
    return [
        librosa.power_to_db(librosa.feature.melspectrogram(y=waveform, sr=RATE_HZ, **MEL, **band)).T
        for waveform in waveforms
    ]


def build_contestant(
    waveforms: np.ndarray, computation: str, compiled: bool, batch_size: int
) -> Callable[[], list[np.ndarray]]:
    """A function that computes all clips in batches with our layer."""
    layer = LogMelSpectrogram(
        RATE_HZ,
        **MEL,
        fmin_hz=LOWEST_HZ,
        fmax_hz=HIGHEST_HZ,
        top_db=80.0,
        computation=computation,
    )
    compute = tf.function(layer, jit_compile=compiled)
    batches = [
        tf.constant(waveforms[start : start + batch_size])
        for start in range(0, len(waveforms), batch_size)
    ]
    return lambda: [clip for batch in batches for clip in compute(batch).numpy()[..., 0]]


def describe_machine() -> dict[str, Any]:
    """Processor, threads and versions: what the numbers depend on."""
    model = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        lines = cpu_info.read_text(encoding="utf-8", errors="replace").splitlines()
        model = next(
            (x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), model
        )
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = tf.config.threading
    return {
        "device": "GPU" if tf.config.list_physical_devices("GPU") else "CPU",
        "processor": model,
        "usable_cores": usable,
        "intra_op_threads": threads.get_intra_op_parallelism_threads() or usable,
        "inter_op_threads": threads.get_inter_op_parallelism_threads() or usable,
        "load_average_before": round(os.getloadavg()[0], 2),
        "tensorflow": tf.__version__,
        "librosa": librosa.__version__,
        "numpy": np.__version__,
    }


def measure(waveforms: np.ndarray, batch_size: int, num_rounds: int) -> list[dict[str, Any]]:
    """Time all contestants in alternating rounds; the first row is librosa."""
    contestants: dict[str, Callable[[], list[np.ndarray]]] = {
        "librosa": lambda: compute_with_librosa(waveforms)
    }
    for computation in COMPUTATIONS:
        for compiled in (False, True):
            name = f"{computation}, XLA" if compiled else computation
            contestants[name] = build_contestant(waveforms, computation, compiled, batch_size)
    expected = compute_with_librosa(waveforms)
    differences_db = {
        name: max(float(np.abs(a - b).max()) for a, b in zip(run(), expected, strict=True))
        for name, run in contestants.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(num_rounds):
        for name, run in contestants.items():
            # BLAS threads spin for a while after librosa and would slow the next one down.
            time.sleep(_SETTLE_S)
            run()
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    peer_s = statistics.median(seconds["librosa"])
    return [
        {
            "name": name,
            "clips_per_second": len(waveforms) / statistics.median(seconds[name]),
            "best_clips_per_second": len(waveforms) / min(seconds[name]),
            "times_librosa": peer_s / statistics.median(seconds[name]),
            "largest_difference_db": differences_db[name],
        }
        for name in contestants
    ]


def main(argv: list[str] | None = None) -> int:
    """Run the comparison; 0 done, 2 the request was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, help="folder of audio files; default: noise")
    parser.add_argument("--num-clips", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    if min(arguments.num_clips, arguments.batch_size, arguments.rounds) < 1:
        parser.error("--num-clips, --batch-size and --rounds must be at least 1")
    machine = describe_machine()
    try:
        waveforms = (
            make_noise(arguments.num_clips)
            if arguments.data_root is None
            else read_waveforms(arguments.data_root, arguments.num_clips)
        )
    except AudioError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    rows = measure(waveforms, min(arguments.batch_size, len(waveforms)), arguments.rounds)
    source = "noise" if arguments.data_root is None else str(arguments.data_root)
    result = {
        "clips": len(waveforms),
        "source": source,
        "batch_size": arguments.batch_size,
        "rounds": arguments.rounds,
        "machine": machine,
        "results": rows,
    }
    if arguments.json:
        print(json.dumps(result))
        return 0
    print(f"{len(waveforms)} clips of 5 s ({source}), batches of {arguments.batch_size}")
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    width = max(len(row["name"]) for row in rows)
    print(f"{'':{width}}{'clips/s':>10}{'best':>10}{'x librosa':>11}{'max dB off':>12}")
    for row in rows:
        print(
            f"{row['name']:{width}}{row['clips_per_second']:10.1f}"
            f"{row['best_clips_per_second']:10.1f}{row['times_librosa']:11.2f}{row['largest_difference_db']:12.1e}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
