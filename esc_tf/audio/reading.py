"""From an audio file of any kind that soundfile reads to a checked mono ``Clip``."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from esc_tf.audio.clip import Clip
from esc_tf.audio.containers import find_truncation
from esc_tf.errors import AudioError

# Names of files that are looked for in folders; what is named outright may end otherwise.
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".mp3", ".aif", ".aiff", ".opus")

# Samples of all channels that are decoded at a time.
_BLOCK_VALUES = 1 << 20
# Formats that may not state their length are reported with an enormous number of frames.
_UNKNOWN_FRAMES = 1 << 48
# Full scale is 1. A float file may overshoot; beyond this the spectrum's powers overflow float32.
_MAX_PEAK = 1e6

_EXPORT_AGAIN = "copy or export it again"


class _SoundStream(soundfile.SoundFile):
    """A sound that is read from its start to its end.

    soundfile seeks after every block of a seekable file, which is inexact in MP3 and impossible
    in a FLAC stream of unstated length.
    """

    def seekable(self) -> bool:
        return False


def read_clip(
    path: str | os.PathLike[str], *, max_duration_s: float = 600.0, min_duration_s: float = 0.0
) -> Clip:
    """Read an audio file as a mono waveform; channels are averaged, silence is accepted.

    Args:
        path: WAV, FLAC, Ogg, MP3, AIFF or anything else that soundfile decodes.
        max_duration_s: longest accepted duration in seconds, checked before decoding.
        min_duration_s: shortest accepted duration in seconds; one sample is always needed.

    Returns:
        The clip at the file's own rate.

    Raises:
        AudioError: the file is missing, a folder, unreadable, empty, not audio, truncated, without
            samples, too long or short, or holds NaN, infinity or absurdly large values. One
            sentence names the file, the reason and the remedy.
    """
    name = _printable(path)
    try:
        with _open_regular_file(path, name) as file:
            file_size = os.fstat(file.fileno()).st_size
            if file_size == 0:
                raise AudioError(f"{name}: the file is empty (0 bytes); {_EXPORT_AGAIN}")
            truncation = find_truncation(file, file_size)
            if truncation:
                raise AudioError(f"{name}: truncated, {truncation}; {_EXPORT_AGAIN}")
            # Below Python's own buffer, which the decoder does not know of.
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            waveform, sample_rate_hz = _decode(file.fileno(), name, max_duration_s)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise AudioError(f"{name}: cannot be read ({reason}); check the disk") from None
    _check_waveform(waveform, name)
    clip = Clip(waveform, sample_rate_hz)
    if clip.duration_s < min_duration_s:
        raise AudioError(
            f"{name}: too short, {clip.duration_s:.3g} s where at least {min_duration_s:g} s are "
            "needed; remove the file"
        )
    return clip


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
    except ValueError:
        raise AudioError(f"{name}: is not a valid path; check its characters") from None


def _decode(descriptor: int, name: str, max_duration_s: float) -> tuple[np.ndarray, int]:
    """Decode block by block, each mixed down at once, so that many channels need little memory."""
    try:
        # By descriptor: the format is then told from the content, never from the file's name.
        sound = _SoundStream(descriptor, closefd=False)
    except soundfile.SoundFileError as error:
        raise AudioError(
            f"{name}: not audio that can be decoded ({_reason(error)}); {_EXPORT_AGAIN} as WAV, "
            "FLAC, Ogg or MP3"
        ) from None
    with sound:
        rate, promised = sound.samplerate, sound.frames
        is_known = promised < _UNKNOWN_FRAMES
        if is_known and promised > max_duration_s * rate:
            raise AudioError(_too_long(name, promised / rate, max_duration_s))
        block_frames = max(1, _BLOCK_VALUES // sound.channels)
        blocks, num_frames = [], 0
        try:
            while True:
                block = sound.read(block_frames, dtype="float32", always_2d=True)
                blocks.append(block.mean(axis=1, dtype=np.float32))
                num_frames += len(block)
                if num_frames > max_duration_s * rate:
                    raise AudioError(_too_long(name, num_frames / rate, max_duration_s))
                if len(block) < block_frames:
                    break
        except soundfile.SoundFileError as error:
            raise AudioError(
                f"{name}: truncated or damaged, decoding fails ({_reason(error)}); {_EXPORT_AGAIN}"
            ) from None
    if is_known and num_frames < promised:
        raise AudioError(
            f"{name}: truncated, the header promises {promised} samples and {num_frames} can be "
            f"decoded; {_EXPORT_AGAIN}"
        )
    return np.concatenate(blocks), rate


def _reason(error: soundfile.SoundFileError) -> str:
    text = " ".join(str(getattr(error, "error_string", error)).split())
    # What libsndfile says of an MP3 that ends before its first whole frame; the file does exist.
    if text.startswith("File does not exist"):
        return "it ends before the first sound"
    return text.removeprefix("Error : ").rstrip(".")


def _too_long(name: str, duration_s: float, max_duration_s: float) -> str:
    return (
        f"{name}: too long, {duration_s:.6g} s where at most {max_duration_s:g} s are accepted; "
        "cut it or raise data.max_duration_s"
    )


def _check_waveform(waveform: np.ndarray, name: str) -> None:
    if waveform.size == 0:
        raise AudioError(f"{name}: holds no samples; {_EXPORT_AGAIN}")
    num_bad = int(waveform.size - np.count_nonzero(np.isfinite(waveform)))
    if num_bad:
        raise AudioError(
            f"{name}: {num_bad} of {waveform.size} samples are NaN or infinite; {_EXPORT_AGAIN}"
        )
    peak = float(np.max(np.abs(waveform)))
    if peak > _MAX_PEAK:
        raise AudioError(
            f"{name}: samples as large as {peak:.2g} where full scale is 1; {_EXPORT_AGAIN}"
        )
