"""Recordings of any length, read and resampled in blocks, with memory for a few blocks only."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import soxr

from esc_tf.audio.decoding import EXPORT_AGAIN, OpenSound
from esc_tf.audio.reading import find_bad_samples
from esc_tf.errors import AudioError

# Samples of all channels that are decoded at a time: 1.5 s of mono at 44.1 kHz, 256 KiB. What the
# decoder has made of the block in which it fails is lost.
_BLOCK_VALUES = 1 << 16


class AudioStream:
    """A recording as blocks of a mono waveform at one rate, from its start to its end, once.

    A recorder that lost its power leaves a file that ends too early, and hours of good sound in
    it. So a fault behind the first good block is no error here: the stream ends before it and
    ``problem`` says what it was.

    Args:
        path: WAV, FLAC, Ogg, MP3, AIFF or anything else that soundfile decodes.
        sample_rate_hz: the rate of the blocks.

    Attributes:
        promised_duration_s: length in seconds as the file states it, or None.
        problem: after the last block: why the stream is shorter than the recording, or None.

    Raises:
        AudioError: the file is missing, a folder, unreadable, empty or not audio.

    Source: libsoxr's streaming resampler, recipe VHQ; bit for bit what ``resample`` makes of the
    whole file, for blocks of any length.
    """

    def __init__(self, path: str | os.PathLike[str], sample_rate_hz: int) -> None:
        self._sound = OpenSound(path, tolerate_truncation=True)
        self._rate_hz = sample_rate_hz
        promised = self._sound.promised_samples
        self.promised_duration_s = (
            None if promised is None else promised / self._sound.sample_rate_hz
        )
        self.problem: str | None = None

    def __enter__(self) -> AudioStream:
        return self

    def __exit__(self, *exception: object) -> None:
        self._sound.__exit__(*exception)

    def read_blocks(self) -> Iterator[np.ndarray]:
        """Yield float32 blocks ``(samples,)`` of one sample or more, of changing lengths.

        Raises:
            AudioError: there is no good sample at all, or less than one at the new rate.
        """
        num_samples = 0
        for block in self._resample(self._read_good_blocks()):
            if len(block):
                num_samples += len(block)
                yield block
        if num_samples == 0:
            if self.problem is not None:
                raise AudioError(self.problem)
            raise AudioError(f"{self._sound.name}: holds no samples; {EXPORT_AGAIN}")

    def _read_good_blocks(self) -> Iterator[np.ndarray]:
        """Yield blocks at the file's own rate up to the first fault."""
        name, rate_hz = self._sound.name, self._sound.sample_rate_hz
        num_samples = 0
        try:
            for block in self._sound.decode(_BLOCK_VALUES):
                fault = find_bad_samples(block)
                if fault is not None:
                    raise AudioError(
                        f"{name}: from {num_samples / rate_hz:.1f} s on unusable, {fault}; "
                        f"{EXPORT_AGAIN}"
                    )
                num_samples += len(block)
                yield block
        except AudioError as error:
            self.problem = str(error)
            return
        if self._sound.truncation is not None:
            self.problem = str(self._sound.truncation)

    def _resample(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        source_hz = self._sound.sample_rate_hz
        if source_hz == self._rate_hz:
            yield from blocks
            return
        resampler = soxr.ResampleStream(source_hz, self._rate_hz, 1, dtype="float32", quality="VHQ")
        for block in blocks:
            yield resampler.resample_chunk(block)
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
