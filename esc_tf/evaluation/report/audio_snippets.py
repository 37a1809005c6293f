"""Sounds inside a page."""

from __future__ import annotations

import base64
import io

import numpy as np
import soundfile

# Vorbis is small, plays in every present browser, and knows these rates; FLAC knows all.
_VORBIS_RATES_HZ = range(8000, 192001)
# Below full scale, since Vorbis overshoots: 0.9 comes back as 0.97.
_LARGEST_PEAK = 0.9


def encode_audio(waveform: np.ndarray, sample_rate_hz: int) -> str:
    """Encode a sound as a ``data:`` URI of Ogg Vorbis, or of FLAC at unusual rates.

    Sounds beyond full scale are turned down so that nothing clips.

    Args:
        waveform: ``(samples,)``, full scale 1.
        sample_rate_hz: its rate.
    """
    waveform = np.asarray(waveform, np.float32)
    peak = float(np.abs(waveform).max(initial=0.0))
    if peak > _LARGEST_PEAK:
        waveform = waveform * (_LARGEST_PEAK / peak)
    stream = io.BytesIO()
    if sample_rate_hz in _VORBIS_RATES_HZ:
        kind = "ogg"
        with soundfile.SoundFile(
            stream,
            "w",
            samplerate=sample_rate_hz,
            channels=1,
            format="OGG",
            subtype="VORBIS",
        ) as file:
            # libsndfile's Vorbis encoder keeps a whole write on its stack.
            for start in range(0, len(waveform), sample_rate_hz):
                file.write(waveform[start : start + sample_rate_hz])
    else:
        kind = "flac"
        soundfile.write(stream, waveform, sample_rate_hz, format="FLAC", subtype="PCM_16")
    return f"data:audio/{kind};base64," + base64.b64encode(stream.getvalue()).decode("ascii")
