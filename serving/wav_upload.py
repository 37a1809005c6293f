"""Sound files as a server takes them: 16-bit WAV, or floats at the model's rate.

A file that is 16-bit WAV already is sent as it is, without NumPy and without soundfile.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

from esc_tf.errors import RequestError

_PCM = 1


def read_wav(path: str | Path) -> bytes:
    """A sound file of any kind as a WAV file of 16-bit PCM, of its own rate and channels.

    Raises:
        RequestError: the file cannot be read, or soundfile would be needed and is not there.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror})") from None
    if is_wav_of_16_bits(content):
        return content
    try:
        import numpy as np
        import soundfile
    except (ImportError, OSError):  # OSError: without libsndfile
        raise RequestError(
            f"{path}: is no WAV file of 16-bit PCM, and others need soundfile: "
            "pip install soundfile"
        ) from None
    try:
        samples, rate_hz = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        reason = getattr(error, "error_string", str(error)).strip().rstrip(".")
        raise RequestError(f"{path}: no sound that can be read ({reason})") from None
    if not len(samples):
        raise RequestError(f"{path}: holds no samples")
    converted = io.BytesIO()
    # Rounded here, since libsndfile would round down: half a step too low on average.
    steps = np.clip(np.round(samples * 32768.0), -32768, 32767).astype(np.int16)
    soundfile.write(converted, steps, rate_hz, format="WAV", subtype="PCM_16")
    return converted.getvalue()


def is_wav_of_16_bits(content: bytes) -> bool:
    """Whether these are a WAV file of plain 16-bit PCM, which every server of ours decodes."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return False
    position = 12
    while position + 24 <= len(content):
        name, length = struct.unpack_from("<4sI", content, position)
        if name == b"fmt ":
            encoding, _, _, _, _, bits = struct.unpack_from("<HHIIHH", content, position + 8)
            return (encoding, bits) == (_PCM, 16)
        position += 8 + length + length % 2
    return False


def read_waveform(path: str | Path, sample_rate_hz: int) -> list[float]:
    """A sound file as mono samples at a rate, full scale 1; needs NumPy, other rates soxr.

    Raises:
        RequestError: the file cannot be read, or a library would be needed that is not there.
    """
    import numpy as np

    from serving.waveforms import MissingLibraryError, SoundError, convert_to_mono, read_blocks

    try:
        rate_hz, blocks = read_blocks(path)
        parts = [convert_to_mono(block) for block in blocks]
    except (SoundError, MissingLibraryError) as error:
        raise RequestError(str(error)) from None
    waveform = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if not len(waveform):
        raise RequestError(f"{path}: holds no samples")
    if rate_hz != sample_rate_hz:
        try:
            import soxr
        except ImportError:
            raise RequestError(
                f"{path}: sound at {rate_hz} Hz for a model of {sample_rate_hz} Hz needs soxr: "
                "pip install soxr"
            ) from None
        waveform = soxr.resample(waveform, rate_hz, sample_rate_hz, quality="VHQ")
    return waveform.tolist()
