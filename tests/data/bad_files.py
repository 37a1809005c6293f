"""Two hundred spoilt audio files, the same every time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO

import numpy as np
import soundfile

RATE_HZ = 8000
NUM_FILES = 200

Rng = np.random.Generator


def _encode(samples: np.ndarray, kind: str, subtype: str | None = None) -> bytes:
    buffer = BytesIO()
    soundfile.write(buffer, samples, RATE_HZ, format=kind, subtype=subtype)
    return buffer.getvalue()


def _sound(rng: Rng) -> np.ndarray:
    return rng.uniform(-0.5, 0.5, int(rng.integers(2000, 6000)))


def _valid(rng: Rng) -> bytes:
    kind = ("WAV", "FLAC", "OGG")[rng.integers(3)]
    return _encode(_sound(rng), kind)


def _truncated(rng: Rng) -> bytes:
    """A valid file of which the last 5 to 95 % are missing."""
    content = _valid(rng)
    return content[: int(len(content) * rng.uniform(0.05, 0.95))]


def _empty(rng: Rng) -> bytes:
    return b""


def _garbage(rng: Rng) -> bytes:
    return rng.bytes(int(rng.integers(1, 20000)))


def _text(rng: Rng) -> bytes:
    words = ("<html>", "Not found", "fold", "\n", "dog,1,0", "é", '{"error": 404}')
    return " ".join(rng.choice(words, 200)).encode()


def _no_samples(rng: Rng) -> bytes:
    return _encode(np.zeros(0), ("WAV", "FLAC", "OGG")[rng.integers(3)])


def _not_finite(rng: Rng) -> bytes:
    samples = _sound(rng)
    places = rng.integers(0, samples.size, int(rng.integers(1, 20)))
    samples[places] = rng.choice([np.nan, np.inf, -np.inf], places.size)
    return _encode(samples.astype(np.float32), "WAV", ("FLOAT", "DOUBLE")[rng.integers(2)])


def _too_long(rng: Rng) -> bytes:
    """A file that decodes to much more than is accepted, from few bytes."""
    return _encode(np.zeros(RATE_HZ * 40), ("WAV", "FLAC", "OGG")[rng.integers(3)])


def _header_alone(rng: Rng) -> bytes:
    return _valid(rng)[: int(rng.integers(1, 44))]


def _flipped_header(rng: Rng) -> bytes:
    content = bytearray(_valid(rng))
    for place in rng.integers(0, 64, int(rng.integers(1, 8))):
        content[place] = rng.integers(256)
    return bytes(content)


def _flipped_anywhere(rng: Rng) -> bytes:
    content = bytearray(_valid(rng))
    for place in rng.integers(0, len(content), int(rng.integers(1, 60))):
        content[place] ^= 1 << rng.integers(8)
    return bytes(content)


def _cut_out(rng: Rng) -> bytes:
    """A stretch in the middle is missing or twice there, as after a broken download."""
    content = _valid(rng)
    first, second = sorted(rng.integers(20, len(content), 2))
    return (
        content[:first] + content[second:]
        if rng.integers(2)
        else content[:second] + content[first:]
    )


# Files of the first kinds must all be named; of the others a valid file may be left.
KNOWN_BAD: tuple[Callable[[Rng], bytes], ...] = (
    _truncated,
    _empty,
    _garbage,
    _text,
    _no_samples,
    _not_finite,
    _too_long,
    _header_alone,
)
MAYBE_BAD: tuple[Callable[[Rng], bytes], ...] = (_flipped_header, _flipped_anywhere, _cut_out)


def generate_bad_files() -> Iterator[tuple[str, bytes, bool]]:
    """Yield name, content and whether the file is bad without doubt."""
    kinds = KNOWN_BAD + MAYBE_BAD
    # Truncations and flips have the most ways to go wrong, so they come more often.
    kinds += (_truncated, _truncated, *MAYBE_BAD, *MAYBE_BAD)
    for number in range(NUM_FILES):
        rng = np.random.default_rng([11, number])
        kind = kinds[number % len(kinds)]
        # The name's ending says nothing about the content.
        ending = ("wav", "flac", "ogg", "mp3")[number % 4]
        name = f"{number:03}{kind.__name__}.{ending}"
        yield name, kind(rng), kind in KNOWN_BAD
