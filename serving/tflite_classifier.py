"""Names sounds on a device: NumPy and a LiteRT interpreter, no TensorFlow.

    python -m serving.tflite_classifier MODEL.tflite FILE… [--hop S] [--num-threads N]

Labels, sample rate and length are the file's own. A device needs ``tflite_facts.py`` and
``waveforms.py`` of this folder and ``pip install numpy ai-edge-litert``; other sound files than
16-bit WAV need ``soundfile``, and other sample rates than the model's ``soxr``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serving.tflite_facts import OTHER, ModelFacts, ModelFileError, read_facts
from serving.waveforms import (
    MissingLibraryError,
    RingBuffer,
    SoundError,
    convert_to_mono,
    read_blocks,
)

_SIGNATURE, _ACTIVATIONS = "serving_default", "activations"
_PROBABILITIES = "probabilities"
_NO_DELEGATE = "none"
PADS = ("silence", "center", "repeat")
"""Where a shorter clip lies."""
# The resampler looks ahead, so that a clip is heard to its end.
_LOOKAHEAD_S = 1.0
# Files are often some samples longer than they should be.
_SHORTEST_END = 100


@dataclass(frozen=True)
class StreamResult:
    """What was heard in a window of a stream.

    Attributes:
        end_s: where the window ends, in seconds from the start of the stream.
        probabilities: float32 ``(classes,)``, smoothed.
    """

    end_s: float
    probabilities: np.ndarray


class TFLiteClassifier:
    """A model file as a classifier of waveforms, of files and of streams. Not for two threads.

    Args:
        path: a ``.tflite`` file with metadata, as ``python -m export`` writes it.
        num_threads: of the interpreter.
        delegate: what computes: None for LiteRT's own choice (XNNPACK), ``none`` for its plain
            kernels, the path of a delegate's shared library, or a loaded delegate.
        pad: where a clip lies that is shorter than the model's: ``silence`` (zeros behind it),
            ``center`` (zeros on both sides) or ``repeat``; see ``shorter_clips`` in the model card.

    Attributes:
        facts: what the file says of itself.
        num_samples: length of the model's clips.

    Raises:
        ModelFileError: the file cannot be used.
        MissingLibraryError: no LiteRT interpreter, or no such delegate.
    """

    def __init__(
        self,
        path: str | Path,
        num_threads: int = 1,
        delegate: Any = None,
        pad: str = "silence",
    ) -> None:
        if num_threads < 1:
            raise ValueError(f"num_threads must be at least 1, not {num_threads}")
        if pad not in PADS:
            raise ValueError(f"pad must be one of {', '.join(PADS)}, not {pad!r}")
        self.facts: ModelFacts = read_facts(path)
        self._pad = pad
        try:
            self._interpreter = _load_interpreter(path, num_threads, delegate)
            self._signatures = self._interpreter.get_signature_list()
            self._runners = {
                name: self._interpreter.get_signature_runner(name)
                for name in (_SIGNATURE, _ACTIVATIONS)
                if name in self._signatures
            }
        except (ValueError, RuntimeError) as error:
            if isinstance(error, MissingLibraryError):
                raise
            raise ModelFileError(f"{path}: LiteRT cannot load it ({error})") from error
        self.num_samples = self._check_shapes(str(path))

    @property
    def label_names(self) -> tuple[str, ...]:
        """Name of each class, in the order of the probabilities."""
        return self.facts.label_names

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the model's waveforms."""
        return self.facts.sample_rate_hz

    @property
    def duration_s(self) -> float:
        """Length of the model's clips in seconds."""
        return self.num_samples / self.sample_rate_hz

    def classify(self, waveform: np.ndarray, sample_rate_hz: int | None = None) -> np.ndarray:
        """Hear one clip.

        Args:
            waveform: ``(samples,)`` or ``(samples, channels)``: floats of full scale 1 or signed
                integers of their own full scale. A shorter clip is filled up, of a longer one the
                start is heard; ``stream`` hears all of it.
            sample_rate_hz: its rate; None: the model's.

        Returns:
            float32 probabilities ``(classes,)``.

        Raises:
            SoundError: no samples, or NaN or infinite ones.
            MissingLibraryError: another rate than the model's, without ``soxr``.
        """
        return self._score(self._prepare(waveform, sample_rate_hz))

    def compute_activations(
        self, waveform: np.ndarray, sample_rate_hz: int | None = None
    ) -> dict[str, np.ndarray]:
        """As ``classify``, but all that the file's signature ``activations`` gives, by name.

        Raises:
            ModelFileError: the file has no such signature.
        """
        if _ACTIVATIONS not in self._runners:
            raise ModelFileError("the model file has no activations; export it with --activations")
        return self._run(_ACTIVATIONS, self._prepare(waveform, sample_rate_hz))

    def classify_file(self, path: str | Path) -> np.ndarray:
        """Hear the start of a sound file; see ``classify``.

        Raises:
            SoundError: the file cannot be read.
            MissingLibraryError: ``soundfile`` or ``soxr`` would be needed.
        """
        rate_hz, blocks = read_blocks(path)
        wanted, parts, num_read = self.num_samples * rate_hz / self.sample_rate_hz, [], 0
        for block in blocks:
            parts.append(block)
            num_read += len(block)
            if num_read > wanted + _LOOKAHEAD_S * rate_hz:
                break
        if not parts:
            raise SoundError(f"{path}: holds no samples")
        return self.classify(np.concatenate(parts), rate_hz)

    def stream(
        self,
        chunks: Iterable[np.ndarray],
        hop_s: float = 1.0,
        smoothing: float = 0.0,
        sample_rate_hz: int | None = None,
    ) -> Iterator[StreamResult]:
        """Hear a stream window by window, in the memory of one window.

        The first result comes when a window is full, one more after every hop, and the last one at
        the end of the stream, unless less than a hundredth of a window is new in it. A stream
        shorter than a window is filled up as a clip is.

        Args:
            chunks: waveforms as in ``classify``, of any lengths.
            hop_s: seconds from window to window.
            smoothing: share of what was before in a result, from 0 (none) to less than 1:
                p[i] = smoothing · p[i - 1] + (1 - smoothing) · heard[i].
            sample_rate_hz: rate of the chunks; None: the model's.

        Raises:
            ValueError: hop or smoothing is out of its range.
            SoundError, MissingLibraryError: as in ``classify``.
        """
        hop = round(hop_s * self.sample_rate_hz)
        if hop < 1:
            raise ValueError(f"hop_s must be at least one sample, not {hop_s}")
        if not 0.0 <= smoothing < 1.0:
            raise ValueError(f"smoothing must be at least 0 and less than 1, not {smoothing}")
        return self._stream(chunks, hop, smoothing, sample_rate_hz)

    def _stream(
        self,
        chunks: Iterable[np.ndarray],
        hop: int,
        smoothing: float,
        sample_rate_hz: int | None,
    ) -> Iterator[StreamResult]:
        ring = RingBuffer(self.num_samples)
        smoothed: np.ndarray | None = None
        next_end = self.num_samples

        def hear() -> StreamResult:
            nonlocal smoothed
            heard = self._score(self._fit(ring.read()))
            if smoothed is not None:
                heard = np.float32(smoothing) * smoothed + np.float32(1.0 - smoothing) * heard
            smoothed = heard
            return StreamResult(ring.num_written / self.sample_rate_hz, heard)

        last_end = 0
        for chunk in self._resample_chunks(chunks, sample_rate_hz):
            while len(chunk):
                missing = next_end - ring.num_written
                ring.write(chunk[:missing])
                chunk = chunk[missing:]
                if ring.num_written == next_end:
                    yield hear()
                    last_end, next_end = next_end, next_end + hop
        if ring.num_written == 0:
            raise SoundError("the stream has no samples")
        if last_end == 0 or ring.num_written - last_end >= self.num_samples // _SHORTEST_END:
            yield hear()

    def name_best(self, probabilities: np.ndarray, count: int = 5) -> list[tuple[str, float]]:
        """The ``count`` likeliest labels, the first one first, each with its probability."""
        order = np.argsort(-probabilities, kind="stable")[:count]
        return [(self.label_names[i], float(probabilities[i])) for i in order]

    def choose_label(self, probabilities: np.ndarray) -> str:
        """The likeliest label, or ``other`` where the model's file calls none likely enough."""
        return self.facts.choose_label(probabilities)

    def _check_shapes(self, path: str) -> int:
        """The length of the input, of a file whose outputs fit its labels."""
        if _PROBABILITIES not in self._signatures.get(_SIGNATURE, {}).get("outputs", ()):
            raise ModelFileError(
                f"{path}: has no signature {_SIGNATURE} with {_PROBABILITIES}; export the model "
                "again with `python -m export`"
            )
        runner = self._runners[_SIGNATURE]
        shape = tuple(runner.get_output_details()[_PROBABILITIES]["shape"])
        if shape != (1, len(self.label_names)):
            raise ModelFileError(
                f"{path}: {len(self.label_names)} labels do not fit its output of {shape}"
            )
        (details,) = runner.get_input_details().values()
        return int(np.prod(details["shape"]))

    def _score(self, clip: np.ndarray) -> np.ndarray:
        return self._run(_SIGNATURE, clip)[_PROBABILITIES][0]

    def _run(self, signature: str, clip: np.ndarray) -> dict[str, np.ndarray]:
        (name,) = self._signatures[signature]["inputs"]
        return self._runners[signature](**{name: clip[np.newaxis]})

    def _prepare(self, waveform: np.ndarray, sample_rate_hz: int | None) -> np.ndarray:
        return self._fit(np.concatenate(list(self._resample_chunks([waveform], sample_rate_hz))))

    def _fit(self, waveform: np.ndarray) -> np.ndarray:
        """Cut or fill up to the model's length."""
        wanted, length = self.num_samples, len(waveform)
        if length == 0:
            raise SoundError("the waveform has no samples")
        if length >= wanted:
            return waveform[:wanted]
        if self._pad == "repeat":
            return np.resize(waveform, wanted)
        before = (wanted - length) // 2 if self._pad == "center" else 0
        return np.pad(waveform, (before, wanted - length - before))

    def _resample_chunks(
        self, chunks: Iterable[np.ndarray], sample_rate_hz: int | None
    ) -> Iterator[np.ndarray]:
        """Mono float32 at the model's rate."""
        waveforms = (convert_to_mono(chunk) for chunk in chunks)
        if sample_rate_hz is None or sample_rate_hz == self.sample_rate_hz:
            yield from waveforms
            return
        try:
            import soxr
        except ImportError:
            raise MissingLibraryError(
                f"sound at {sample_rate_hz} Hz for a model of {self.sample_rate_hz} Hz needs soxr: "
                "pip install soxr"
            ) from None
        resampler = soxr.ResampleStream(
            sample_rate_hz, self.sample_rate_hz, 1, dtype="float32", quality="VHQ"
        )
        for waveform in waveforms:
            yield resampler.resample_chunk(waveform)
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def _load_interpreter(path: str | Path, num_threads: int, delegate: Any) -> Any:
    """An interpreter of ``ai_edge_litert``, or of the older ``tflite_runtime``."""
    try:
        from ai_edge_litert import interpreter as litert
    except ImportError:
        try:
            from tflite_runtime import interpreter as litert
        except ImportError:
            raise MissingLibraryError(
                "no LiteRT interpreter is installed: pip install ai-edge-litert"
            ) from None
    options: dict[str, Any] = {}
    if delegate == _NO_DELEGATE:
        kinds = litert.OpResolverType
        options["experimental_op_resolver_type"] = kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    elif isinstance(delegate, (str, Path)):
        try:
            delegate = litert.load_delegate(str(delegate))
        except (ValueError, OSError) as error:
            raise MissingLibraryError(f"delegate {delegate}: cannot be loaded ({error})") from error
    if delegate not in (None, _NO_DELEGATE):
        options["experimental_delegates"] = [delegate]
    return litert.Interpreter(model_path=str(path), num_threads=num_threads, **options)


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.tflite_classifier",
        description="Name the sounds in audio files with a .tflite file, without TensorFlow.",
    )
    parser.add_argument("model", metavar="MODEL", help="a .tflite file of `python -m export`")
    parser.add_argument("files", nargs="+", metavar="FILE", help="audio files")
    parser.add_argument("--top-k", type=int, default=5, metavar="K", help="labels to show (5)")
    parser.add_argument(
        "--hop", type=float, metavar="S", help="hear all of each file, a window every S seconds"
    )
    parser.add_argument(
        "--smoothing", type=float, default=0.0, help="share of the windows before, below 1 (0)"
    )
    parser.add_argument("--pad", choices=PADS, default="silence", help="of shorter clips (silence)")
    add_interpreter_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser


def add_interpreter_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--num-threads`` and ``--delegate``."""
    parser.add_argument("--num-threads", type=int, default=1, metavar="N", help="(1)")
    parser.add_argument(
        "--delegate", help="`none`, or a delegate's shared library (default: XNNPACK)"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Name sounds; 0 done, 2 the request was wrong (of the files that could be read all are)."""
    arguments = _build_parser().parse_args(argv)
    code = 0
    try:
        classifier = TFLiteClassifier(
            arguments.model, arguments.num_threads, arguments.delegate, arguments.pad
        )
    except (ValueError, MissingLibraryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in arguments.files:
        try:
            for result in _hear_file(classifier, path, arguments.hop, arguments.smoothing):
                print(_format(path, classifier, result, arguments), flush=True)
        except (ValueError, MissingLibraryError) as error:
            print(f"error: {error}", file=sys.stderr)
            code = 2
    return code


def _hear_file(
    classifier: TFLiteClassifier, path: str, hop_s: float | None, smoothing: float
) -> Iterator[StreamResult]:
    if hop_s is None:
        yield StreamResult(classifier.duration_s, classifier.classify_file(path))
        return
    rate_hz, blocks = read_blocks(path)
    yield from classifier.stream(blocks, hop_s, smoothing, rate_hz)


def _format(
    path: str, classifier: TFLiteClassifier, result: StreamResult, arguments: argparse.Namespace
) -> str:
    best = classifier.name_best(result.probabilities, arguments.top_k)
    label, whole = classifier.choose_label(result.probabilities), arguments.hop is None
    if arguments.json:
        labels = [{"label": name, "probability": value} for name, value in best]
        times = {} if whole else {"end_s": result.end_s}
        return json.dumps({"file": path, **times, "label": label, "labels": labels})
    time = "" if whole else f" {result.end_s:.1f} s"
    scores = ", ".join(f"{name} {value:.3f}" for name, value in best)
    return f"{path}{time}: " + (f"{label} ({scores})" if label == OTHER else scores)


if __name__ == "__main__":
    sys.exit(main())
