"""Names what a microphone hears: ``python -m serving.microphone MODEL.tflite [--hop S]``.

An example of ``TFLiteClassifier.stream``. Needs ``pip install sounddevice`` and PortAudio.
"""

from __future__ import annotations

import argparse
import queue
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from serving.tflite_classifier import (
    MissingLibraryError,
    TFLiteClassifier,
    add_interpreter_arguments,
)

# Seconds of sound that may wait while the model computes.
_LONGEST_QUEUE_S = 10.0
_BLOCK_S = 0.1


def listen(sample_rate_hz: int, device: Any = None) -> Iterator[np.ndarray]:
    """Yield what a microphone hears, for ever, in float32 chunks ``(samples,)`` of 0.1 s.

    Args:
        sample_rate_hz: the rate wanted.
        device: number or name of the microphone; None: the system's.

    Raises:
        MissingLibraryError: ``sounddevice`` or PortAudio is missing, there is no such microphone,
            or it does not record at this rate.
    """
    try:
        import sounddevice
    except ImportError:
        raise MissingLibraryError(
            "a microphone needs sounddevice: pip install sounddevice"
        ) from None
    except OSError as error:
        raise MissingLibraryError(
            f"sounddevice finds no PortAudio ({error}); on Debian: apt-get install libportaudio2"
        ) from None
    chunks: queue.Queue[np.ndarray] = queue.Queue(maxsize=round(_LONGEST_QUEUE_S / _BLOCK_S))

    def keep(sound: np.ndarray, frames: int, time: Any, status: Any) -> None:
        del frames, time
        if status or chunks.full():
            print("warning: sound was lost; use a longer --hop or more threads", file=sys.stderr)
        if not chunks.full():
            chunks.put(sound[:, 0].copy())

    try:
        stream = sounddevice.InputStream(
            samplerate=sample_rate_hz,
            blocksize=round(_BLOCK_S * sample_rate_hz),
            device=device,
            channels=1,
            dtype="float32",
            callback=keep,
        )
    except (sounddevice.PortAudioError, ValueError) as error:
        raise MissingLibraryError(
            f"no microphone that records at {sample_rate_hz} Hz ({error}); choose one with "
            "--device, of those that `python -m sounddevice` lists"
        ) from error
    with stream:
        while True:
            yield chunks.get()


def main(argv: Sequence[str] | None = None) -> int:
    """Print the likeliest labels after every hop, until Ctrl-C; 2: the request was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.microphone", description="Name what a microphone hears."
    )
    parser.add_argument("model", metavar="MODEL", help="a .tflite file of `python -m export`")
    parser.add_argument("--hop", type=float, default=0.5, metavar="S", help="seconds (0.5)")
    parser.add_argument("--smoothing", type=float, default=0.5, help="from 0 to below 1 (0.5)")
    parser.add_argument("--top-k", type=int, default=3, metavar="K", help="labels to show (3)")
    parser.add_argument("--device", help="number or name of the microphone")
    add_interpreter_arguments(parser)
    arguments = parser.parse_args(argv)
    device = arguments.device
    if device is not None and device.isdigit():
        device = int(device)
    try:
        classifier = TFLiteClassifier(arguments.model, arguments.num_threads, arguments.delegate)
        chunks = listen(classifier.sample_rate_hz, device)
        for result in classifier.stream(chunks, arguments.hop, arguments.smoothing):
            best = classifier.name_best(result.probabilities, arguments.top_k)
            labels = ", ".join(f"{label} {value:.2f}" for label, value in best)
            print(f"{result.end_s:8.2f} s  {labels}", flush=True)
    except (ValueError, MissingLibraryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
