"""From an audio file of any kind that soundfile reads to a checked mono ``Clip``."""

from __future__ import annotations

import os

import numpy as np

from esc_tf.audio.clip import Clip
from esc_tf.audio.decoding import EXPORT_AGAIN, OpenSound
from esc_tf.errors import AudioError

# Names of files that are looked for in folders; what is named outright may end otherwise.
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".mp3", ".aif", ".aiff", ".opus")

# Full scale is 1. A float file may overshoot; beyond this the spectrum's powers overflow float32.
_MAX_PEAK = 1e6


def read_clip(
    path: str | os.PathLike[str],
    *,
    max_duration_s: float = 600.0,
    min_duration_s: float = 0.0,
    too_long_remedy: str = "cut it or raise data.max_duration_s",
) -> Clip:
    """Read an audio file as a mono waveform; channels are averaged, silence is accepted.

    Args:
        path: WAV, FLAC, Ogg, MP3, AIFF or anything else that soundfile decodes.
        max_duration_s: longest accepted duration in seconds, checked before decoding.
        min_duration_s: shortest accepted duration in seconds; one sample is always needed.
        too_long_remedy: what the error of a longer file advises.

    Returns:
        The clip at the file's own rate.

    Raises:
        AudioError: the file is missing, a folder, unreadable, empty, not audio, truncated, without
            samples, too long or short, or holds NaN, infinity or absurdly large values. One
            sentence names the file, the reason and the remedy.
    """
    with OpenSound(path) as sound:
        name, rate = sound.name, sound.sample_rate_hz

        def check_length(num_samples: int) -> None:
            if num_samples > max_duration_s * rate:
                raise AudioError(
                    f"{name}: too long, {num_samples / rate:.6g} s where at most "
                    f"{max_duration_s:g} s are accepted; {too_long_remedy}"
                )

        check_length(sound.promised_samples or 0)
        blocks, num_samples = [np.zeros(0, np.float32)], 0
        for block in sound.decode():
            blocks.append(block)
            num_samples += len(block)
            check_length(num_samples)
    waveform = np.concatenate(blocks)
    if waveform.size == 0:
        raise AudioError(f"{name}: holds no samples; {EXPORT_AGAIN}")
    problem = find_bad_samples(waveform)
    if problem:
        raise AudioError(f"{name}: {problem}; {EXPORT_AGAIN}")
    clip = Clip(waveform, rate)
    if clip.duration_s < min_duration_s:
        raise AudioError(
            f"{name}: too short, {clip.duration_s:.3g} s where at least {min_duration_s:g} s are "
            "needed; remove the file"
        )
    return clip


def find_bad_samples(waveform: np.ndarray) -> str | None:
    """Say what is wrong with samples ``(samples,)`` that no model can take; None: nothing is."""
    num_bad = int(waveform.size - np.count_nonzero(np.isfinite(waveform)))
    if num_bad:
        return f"{num_bad} of {waveform.size} samples are NaN or infinite"
    peak = float(np.max(np.abs(waveform), initial=0.0))
    if peak > _MAX_PEAK:
        return f"samples as large as {peak:.2g} where full scale is 1"
    return None
