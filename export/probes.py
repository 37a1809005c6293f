"""The sounds on which every export is compared with the model it was made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.source import ClipSet

# The customary test tone: unlike 1000 Hz it is no fraction of a sample rate, so that the rounding
# to 16 bits is noise, as in a recording, and not silence between a few lines.
TONE_HZ = 997.0
_FULL_SCALE = 32768.0
_CLIPPING_GAIN = 8.0


@dataclass(frozen=True)
class Probes:
    """Sounds of the model's own rate and length.

    Attributes:
        names: of the sounds.
        waveforms: float32 ``(sounds, samples)``, whole 16-bit steps as a WAV file holds them.
        sample_rate_hz: their rate.
    """

    names: tuple[str, ...]
    waveforms: np.ndarray
    sample_rate_hz: int


def make_probes(sample_rate_hz: int, num_samples: int, clips: ClipSet, num_clips: int) -> Probes:
    """Silence, white noise, a tone, a clipped tone and some clips.

    Args:
        sample_rate_hz: the model's rate.
        num_samples: the model's length.
        clips: where the clips are from.
        num_clips: at most so many of them.
    """
    time_s = np.arange(num_samples) / sample_rate_hz
    tone = 0.5 * np.sin(2 * np.pi * min(TONE_HZ, 0.2 * sample_rate_hz) * time_s)
    sounds = {
        "silence": np.zeros(num_samples),
        "noise": np.random.default_rng(0).normal(0.0, 0.1, num_samples),
        "tone": tone,
        "clipped tone": _CLIPPING_GAIN * tone,
    }
    for name, waveform in zip(clips.names[:num_clips], clips.waveforms, strict=False):
        sounds[f"clip {name}"] = waveform
    return Probes(
        tuple(sounds), quantize_waveforms(np.stack(list(sounds.values()))), sample_rate_hz
    )


def quantize_waveforms(waveforms: np.ndarray) -> np.ndarray:
    """Waveforms as a 16-bit file keeps them: whole steps of 2⁻¹⁵, within full scale."""
    steps = np.clip(np.round(waveforms * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1)
    return (steps / _FULL_SCALE).astype(np.float32)
