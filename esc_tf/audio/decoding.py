"""Audio files of any kind that soundfile reads, opened with care and decoded block by block."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from esc_tf.audio.containers import find_truncation
from esc_tf.errors import AudioError

EXPORT_AGAIN = "copy or export it again"

# Samples of all channels that are decoded at a time.
_BLOCK_VALUES = 1 << 20
# Formats that may not state their length are reported with an enormous number of frames.
_UNKNOWN_FRAMES = 1 << 48


class _ForwardSoundFile(soundfile.SoundFile):
    """A sound that is read from its start to its end.

    soundfile seeks after every block of a seekable file, which is inexact in MP3 and impossible
    in a FLAC stream of unstated length.
    """

    def seekable(self) -> bool:
        return False


class OpenSound:
    """An open audio file, to be decoded once from its start to its end; a context manager.

    Args:
        path: WAV, FLAC, Ogg, MP3, AIFF or anything else that soundfile decodes.
        tolerate_truncation: open a file that is shorter than its header promises, too.

    Attributes:
        name: the path as one line that every terminal can print.
        sample_rate_hz: the file's own rate.
        promised_samples: length of each channel as the file states it; None: it states none.
        truncation: the error of a file that is shorter than its header promises, or None.

    Raises:
        AudioError: the file is missing, a folder, unreadable, empty or not audio, or truncated
            and that is not tolerated. One sentence names the file, the reason and the remedy.
    """

    def __init__(self, path: str | os.PathLike[str], *, tolerate_truncation: bool = False) -> None:
        self.name = _printable(path)
        self._file = _open_regular_file(path, self.name)
        try:
            self.truncation = self._find_truncation()
            if self.truncation is not None and not tolerate_truncation:
                raise self.truncation
            self._sound = self._open_sound()
        except BaseException:
            self._file.close()
            raise
        self.sample_rate_hz: int = self._sound.samplerate
        frames = self._sound.frames
        self.promised_samples: int | None = frames if frames < _UNKNOWN_FRAMES else None

    def __enter__(self) -> OpenSound:
        return self

    def __exit__(self, *exception: object) -> None:
        self._sound.close()
        self._file.close()

    def decode(self, block_values: int | None = None) -> Iterator[np.ndarray]:
        """Yield the sound in blocks, float32 ``(samples,)``, the mean of all channels.

        Args:
            block_values: samples of all channels that are decoded at a time, a million if None;
                each block is mixed down at once, so that many channels need little memory.

        Raises:
            AudioError: the rest cannot be decoded, or is not there; the blocks before it are good.
        """
        channels = self._sound.channels
        block_samples = max(1, (block_values or _BLOCK_VALUES) // channels)
        num_samples = 0
        try:
            while True:
                block = self._sound.read(block_samples, dtype="float32", always_2d=True)
                num_samples += len(block)
                if len(block):
                    yield block.mean(axis=1, dtype=np.float32)
                if len(block) < block_samples:
                    break
        except soundfile.SoundFileError as error:
            raise AudioError(
                f"{self.name}: truncated or damaged, decoding fails ({_reason(error)}); "
                f"{EXPORT_AGAIN}"
            ) from None
        if self.promised_samples is not None and num_samples < self.promised_samples:
            raise AudioError(
                f"{self.name}: truncated, the header promises {self.promised_samples} samples and "
                f"{num_samples} can be decoded; {EXPORT_AGAIN}"
            )

    def _find_truncation(self) -> AudioError | None:
        try:
            file_size = os.fstat(self._file.fileno()).st_size
            if file_size == 0:
                raise AudioError(f"{self.name}: the file is empty (0 bytes); {EXPORT_AGAIN}")
            truncation = find_truncation(self._file, file_size)
            # Below Python's own buffer, which the decoder does not know of.
            os.lseek(self._file.fileno(), 0, os.SEEK_SET)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise AudioError(f"{self.name}: cannot be read ({reason}); check the disk") from None
        if truncation is None:
            return None
        return AudioError(f"{self.name}: truncated, {truncation}; {EXPORT_AGAIN}")

    def _open_sound(self) -> _ForwardSoundFile:
        try:
            # By descriptor: the format is then told from the content, never from the file's name.
            return _ForwardSoundFile(self._file.fileno(), closefd=False)
        except soundfile.SoundFileError as error:
            raise AudioError(
                f"{self.name}: not audio that can be decoded ({_reason(error)}); {EXPORT_AGAIN} "
                "as WAV, FLAC, Ogg or MP3"
            ) from None


def _printable(path: str | os.PathLike[str]) -> str:
    """Return the path as one line that every terminal can print."""
    text = os.fsdecode(os.fspath(path)).encode("utf-8", "backslashreplace").decode("utf-8")
    return text if text.isprintable() else repr(text)


def _open_regular_file(path: str | os.PathLike[str], name: str) -> BinaryIO:
    """Open the path for reading bytes if it is a regular file that may be read."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise AudioError(f"{name}: is a folder, not an audio file; name the files in it")
        if not stat.S_ISREG(mode):
            raise AudioError(f"{name}: is not a regular file; name an audio file")
        return Path(path).open("rb")
    except (FileNotFoundError, NotADirectoryError):
        raise AudioError(f"{name}: no such file; check the path") from None
    except PermissionError:
        raise AudioError(f"{name}: may not be read (permission denied); change its mode") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise AudioError(f"{name}: cannot be read ({reason}); check the disk") from None
    except ValueError:
        raise AudioError(f"{name}: is not a valid path; check its characters") from None


def _reason(error: soundfile.SoundFileError) -> str:
    text = " ".join(str(getattr(error, "error_string", error)).split())
    # What libsndfile says of an MP3 that ends before its first whole frame; the file does exist.
    if text.startswith("File does not exist"):
        return "it ends before the first sound"
    return text.removeprefix("Error : ").rstrip(".")
