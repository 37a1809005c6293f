"""Sounds that strangers upload, decoded in memory and block by block, within limits."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import soundfile
import soxr

from esc_tf.audio.containers import find_truncation
from esc_tf.audio.reading import find_bad_samples

# Samples of all channels that are decoded at a time.
_BLOCK_VALUES = 1 << 17
_BYTES_A_VALUE = 2  # a decoded sample counts as one of 16-bit PCM
# Below this much sound no compression is suspicious: seconds of silence in FLAC shrink to nothing.
_NEVER_SUSPICIOUS_BYTES = 8 << 20
# libsndfile reports formats that may not state their length with an enormous number of frames.
_UNKNOWN_FRAMES = 1 << 48
# Damaged headers state any number; recorders know these.
_MIN_RATE_HZ, _MAX_RATE_HZ = 1_000, 768_000


@dataclasses.dataclass(frozen=True)
class PageLimits:
    """What the page accepts.

    Attributes:
        max_upload_bytes: size of a file as it is sent.
        max_duration_s: length of the sound in seconds.
        max_channels: of the sound.
        max_decoded_bytes: of the decoded sound, all channels, as 16-bit PCM.
        max_decompression_ratio: the same for one byte sent.
        max_requests: sounds that are analysed at the same time; more get 503.
    """

    max_upload_bytes: int = 64 << 20
    max_duration_s: float = 600.0
    max_channels: int = 32
    max_decoded_bytes: int = 1 << 30
    max_decompression_ratio: float = 1_000.0
    max_requests: int = 2


class UploadError(ValueError):
    """The uploaded bytes are no sound that the page takes; the message is for its user."""


class _ForwardSoundFile(soundfile.SoundFile):
    """Read from the start to the end: soundfile would seek after each block, inexactly in MP3."""

    def seekable(self) -> bool:
        return False


class _Content(io.BytesIO):
    """Bytes as a file in which a damaged header may ask for any place: before the start is 0."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return super().seek(0)


class UploadedSound:
    """An uploaded file, which is decoded anew by each ``read_blocks``, always within the limits.

    Args:
        content: the bytes of a WAV, FLAC, Ogg, MP3, AIFF file, or of anything else that soundfile
            decodes; the format is told from the content alone.
        limits: what is accepted.

    Attributes:
        sample_rate_hz: the sound's own rate.
        num_channels: of the sound.
        format_name: container and encoding in words, such as ``WAV, Signed 16 bit PCM``.
        promised_s: length in seconds that the file states, or None.
        problem: after reading: why the sound is shorter than the file promises, or None.

    Raises:
        UploadError: not audio, or beyond a limit that can be told from the header.
    """

    def __init__(self, content: bytes, limits: PageLimits) -> None:
        self._content = content
        self._limits = limits
        self.problem: str | None = None
        if not content:
            raise UploadError("The file is empty. Choose another one.")
        with self._open() as sound:
            self.sample_rate_hz: int = sound.samplerate
            self.num_channels: int = sound.channels
            self.format_name = f"{sound.format}, {sound.subtype_info}"
            frames = sound.frames
        if not _MIN_RATE_HZ <= self.sample_rate_hz <= _MAX_RATE_HZ:
            raise UploadError(
                f"The sound has {self.sample_rate_hz} samples a second; {_MIN_RATE_HZ} to "
                f"{_MAX_RATE_HZ} can be heard here."
            )
        self.promised_s = frames / self.sample_rate_hz if 0 < frames < _UNKNOWN_FRAMES else None
        if self.num_channels > limits.max_channels:
            raise UploadError(
                f"The sound has {self.num_channels} channels, and at most {limits.max_channels} "
                "are accepted. Mix it down first."
            )
        if self.promised_s is not None:
            self._check_length(frames)

    def read_blocks(self) -> Iterator[np.ndarray]:
        """Decode; yield float32 ``(samples,)``, the mean of the channels, at the sound's rate.

        Raises:
            UploadError: nothing can be decoded, or a limit is passed; a fault behind the first
                good block ends the sound there and is told by ``problem``.
        """
        self.problem = self._find_truncation()
        num_samples = 0
        block_samples = max(1, _BLOCK_VALUES // self.num_channels)
        with self._open() as sound:
            while True:
                try:
                    block = sound.read(block_samples, dtype="float32", always_2d=True)
                except soundfile.SoundFileError as error:
                    self.problem = f"decoding fails ({_reason(error)})"
                    break
                with np.errstate(invalid="ignore", over="ignore"):  # told as a fault below
                    mono = block.mean(axis=1, dtype=np.float32)
                fault = find_bad_samples(mono)
                if fault is not None:
                    self.problem = fault
                    break
                num_samples += len(mono)
                self._check_length(num_samples)
                if len(mono):
                    yield mono
                if len(mono) < block_samples:
                    break
        if num_samples == 0:
            reason = f": {self.problem}" if self.problem else ""
            raise UploadError(f"The file holds no sound that can be played{reason}.")

    def read_resampled(self, sample_rate_hz: int) -> Iterator[np.ndarray]:
        """As ``read_blocks``, at another rate."""
        if sample_rate_hz == self.sample_rate_hz:
            yield from self.read_blocks()
            return
        resampler = soxr.ResampleStream(
            self.sample_rate_hz, sample_rate_hz, 1, dtype="float32", quality="VHQ"
        )
        for block in self.read_blocks():
            resampled = resampler.resample_chunk(block)
            if len(resampled):
                yield resampled
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)

    def _open(self) -> Any:
        try:
            return _ForwardSoundFile(_Content(self._content))
        except (soundfile.SoundFileError, OSError, ValueError) as error:
            raise UploadError(
                f"This is no sound file that can be read ({_reason(error)}). Choose a WAV, FLAC, "
                "Ogg or MP3 file."
            ) from None

    def _check_length(self, num_samples: int) -> None:
        limits = self._limits
        if num_samples > limits.max_duration_s * self.sample_rate_hz:
            raise UploadError(
                f"The sound is longer than {_format_duration(limits.max_duration_s)}, the most "
                "that is analysed here. Cut it first."
            )
        decoded_bytes = num_samples * self.num_channels * _BYTES_A_VALUE
        allowed = max(_NEVER_SUSPICIOUS_BYTES, limits.max_decompression_ratio * len(self._content))
        if decoded_bytes > limits.max_decoded_bytes:
            raise UploadError(
                f"The sound unpacks to more than {limits.max_decoded_bytes >> 20} MiB. Cut it or "
                "mix it down first."
            )
        if decoded_bytes > allowed:
            raise UploadError(
                f"The file unpacks to more than {limits.max_decompression_ratio:g} times its size, "
                "which no recording does. Send it as WAV."
            )

    def _find_truncation(self) -> str | None:
        return find_truncation(io.BytesIO(self._content), len(self._content))


def _format_duration(duration_s: float) -> str:
    """Seconds in words.

    >>> _format_duration(600.0), _format_duration(90.0), _format_duration(1.5)
    ('10 minutes', '90 s', '1.5 s')
    """
    minutes = duration_s / 60
    return f"{minutes:g} minutes" if minutes > 1 and minutes.is_integer() else f"{duration_s:g} s"


def _reason(error: Exception) -> str:
    text = " ".join(str(getattr(error, "error_string", error)).split())
    return text.removeprefix("Error : ").rstrip(".")
