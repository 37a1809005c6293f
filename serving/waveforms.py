"""Sound as a device has it: chunks, channels, integers, files; NumPy alone where that will do."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_BLOCK_S = 1.0
_NUM_BITS = {1: 8, 2: 16, 3: 24, 4: 32}


class SoundError(ValueError):
    """A waveform or a sound file cannot be used."""


class MissingLibraryError(RuntimeError):
    """Something is asked for that needs a library that is not installed."""


class RingBuffer:
    """The last samples of a stream.

    >>> ring = RingBuffer(3)
    >>> ring.write(np.arange(2)), ring.read().tolist()
    (None, [0.0, 1.0])
    >>> ring.write(np.arange(2, 7)), ring.read().tolist()
    (None, [4.0, 5.0, 6.0])

    Args:
        capacity: how many samples are kept.

    Attributes:
        num_written: samples since the start.
    """

    def __init__(self, capacity: int) -> None:
        self._samples = np.zeros(capacity, np.float32)
        self.num_written = 0

    def write(self, chunk: np.ndarray) -> None:
        """Append samples ``(samples,)``; the oldest ones make room."""
        capacity = len(self._samples)
        self.num_written += len(chunk)
        chunk = chunk[-capacity:]
        start = (self.num_written - len(chunk)) % capacity
        before_end = chunk[: capacity - start]
        self._samples[start : start + len(before_end)] = before_end
        self._samples[: len(chunk) - len(before_end)] = chunk[len(before_end) :]

    def read(self) -> np.ndarray:
        """A copy of the samples, the oldest one first: fewer than ``capacity`` at the start."""
        if self.num_written < len(self._samples):
            return self._samples[: self.num_written].copy()
        return np.roll(self._samples, -(self.num_written % len(self._samples)))


def convert_to_mono(waveform: np.ndarray) -> np.ndarray:
    """Any waveform as ``classify`` takes it → float32 ``(samples,)``, the mean of its channels.

    >>> convert_to_mono(np.array([[16384, 0], [-32768, -32768]], np.int16)).tolist()
    [0.25, -1.0]

    Raises:
        SoundError: another shape or type, or samples that are not finite.
    """
    waveform = np.asarray(waveform)
    if waveform.ndim not in (1, 2) or waveform.ndim == 2 and waveform.shape[1] == 0:
        raise SoundError(
            f"a waveform has the shape (samples,) or (samples, channels), not {waveform.shape}"
        )
    if waveform.dtype.kind == "i":
        waveform = waveform / -float(np.iinfo(waveform.dtype).min)
    elif waveform.dtype.kind != "f":
        raise SoundError(f"a waveform holds floats or signed integers, not {waveform.dtype}")
    if waveform.ndim == 2:
        waveform = waveform.mean(axis=1)
    if not np.isfinite(waveform).all():
        raise SoundError("the waveform holds NaN or infinite samples")
    return waveform.astype(np.float32)


def read_blocks(path: str | Path) -> tuple[int, Iterator[np.ndarray]]:
    """Open a sound file: its rate in Hz, and its samples in blocks of one second.

    With ``soundfile`` all that it decodes, without it WAV files of 16-bit PCM.

    Raises:
        SoundError: the file cannot be read.
        MissingLibraryError: ``soundfile`` would be needed.
    """
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: without libsndfile
        return _read_wav_blocks(path)
    try:
        file = soundfile.SoundFile(path)
    except (OSError, RuntimeError) as error:
        raise SoundError(f"{path}: cannot be read ({error})") from error

    def read() -> Iterator[np.ndarray]:
        with file:
            try:
                yield from file.blocks(_count_frames(file.samplerate), dtype="float32")
            except RuntimeError as error:
                raise SoundError(f"{path}: is damaged ({error})") from error

    return file.samplerate, read()


def _read_wav_blocks(path: str | Path) -> tuple[int, Iterator[np.ndarray]]:
    try:
        file = wave.open(str(path), "rb")  # noqa: SIM115 - closed by the generator
    except OSError as error:
        raise SoundError(f"{path}: cannot be read ({error.strerror})") from error
    except (wave.Error, EOFError) as error:
        raise MissingLibraryError(
            f"{path}: is no WAV file of PCM samples ({error}), and others need soundfile: "
            "pip install soundfile"
        ) from error
    if file.getsampwidth() != 2:
        num_bits = _NUM_BITS[file.getsampwidth()]
        file.close()
        raise MissingLibraryError(
            f"{path}: has {num_bits} bits a sample, and others than 16 need soundfile: "
            "pip install soundfile"
        )

    def read() -> Iterator[np.ndarray]:
        with file:
            while frames := file.readframes(_count_frames(file.getframerate())):
                whole = len(frames) - len(frames) % (2 * file.getnchannels())
                samples = np.frombuffer(frames[:whole], "<i2")
                yield samples.reshape(-1, file.getnchannels())

    return file.getframerate(), read()


def _count_frames(rate_hz: int) -> int:
    return max(1, round(_BLOCK_S * rate_hz))
