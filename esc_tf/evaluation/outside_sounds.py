"""Sounds that belong to no class, to be heard by finished models; not those they trained on.

They come from other code than those of outlier exposure (`esc_tf.augment.outliers`), and the
generated and mixed ones are of other kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from esc_tf.audio.noise import POWER_EXPONENTS, generate_noise
from esc_tf.data.records import SynthesisKey
from esc_tf.data.synthetic import GENERATORS, generate_clip

_FLAT_BELOW_HZ = 20.0
_SILENCE_DBFS = (-90.0, -60.0)
_HUM_DBFS = (-70.0, -50.0)
_NOISE_DBFS = (-50.0, -6.0)
_MIXED_DB = (0.0, 20.0)
_SMALLEST_STEP = 2.0**-15

_Make = Callable[[np.random.Generator, int, int, int], np.ndarray]


def _set_level(sound: np.ndarray, level_dbfs: float) -> np.ndarray:
    """Give a sound an RMS in dB of full scale, or what of it does not clip."""
    sound = sound * (10.0 ** (level_dbfs / 20.0) / np.sqrt(np.mean(np.square(sound))))
    return sound / max(1.0, float(np.abs(sound).max()))


def _make_silence(
    rng: np.random.Generator, number: int, num_samples: int, rate_hz: int
) -> np.ndarray:
    """In turn: zeros, white noise, pink noise, the last bit's noise, an offset, mains hum."""
    kind = number % 6
    if kind in (1, 2):
        noise = generate_noise(rng, num_samples, ("white", "pink")[kind - 1])
        return _set_level(noise, rng.uniform(*_SILENCE_DBFS))
    if kind == 3:
        return rng.integers(-1, 2, num_samples) * _SMALLEST_STEP
    if kind == 4:
        return np.full(num_samples, rng.uniform(-0.05, 0.05))
    if kind == 5:
        mains_hz, phases = rng.choice([50.0, 60.0]), rng.uniform(0.0, 2.0 * np.pi, 5)
        time_s = np.arange(num_samples) / rate_hz
        parts = [
            np.sin(2.0 * np.pi * n * mains_hz * time_s + phase) / n
            for n, phase in enumerate(phases, start=1)
        ]
        return _set_level(np.sum(parts, axis=0), rng.uniform(*_HUM_DBFS))
    return np.zeros(num_samples)


def _make_noise(
    rng: np.random.Generator, number: int, num_samples: int, rate_hz: int
) -> np.ndarray:
    """Steady noise of each colour in turn."""
    color = tuple(POWER_EXPONENTS)[number % len(POWER_EXPONENTS)]
    noise = generate_noise(rng, num_samples, color, _FLAT_BELOW_HZ / rate_hz)
    return _set_level(noise, rng.uniform(*_NOISE_DBFS))


def _make_generated(
    rng: np.random.Generator, number: int, num_samples: int, rate_hz: int
) -> np.ndarray:
    """A clip of each class of the generated data set in turn."""
    name = tuple(GENERATORS)[number % len(GENERATORS)]
    seed = int(rng.integers(2**31))
    return generate_clip(SynthesisKey(seed, name, 1, number, rate_hz, num_samples))


def _make_mixture(
    rng: np.random.Generator, number: int, num_samples: int, rate_hz: int
) -> np.ndarray:
    """Two generated clips of different classes and a noise, the later ones up to 20 dB softer."""
    other = number + int(rng.integers(1, len(GENERATORS)))
    parts = [
        _make_generated(rng, number, num_samples, rate_hz),
        _make_generated(rng, other, num_samples, rate_hz),
        _make_noise(rng, number, num_samples, rate_hz),
    ]
    softer_db = (0.0, *rng.uniform(*_MIXED_DB, 2))
    mixed = [_set_level(part, -12.0 - db) for part, db in zip(parts, softer_db, strict=True)]
    return _set_level(np.sum(mixed, axis=0), rng.uniform(*_NOISE_DBFS))


OUTSIDE: dict[str, _Make] = {
    "silence": _make_silence,
    "noise": _make_noise,
    "generated": _make_generated,
    "mixtures": _make_mixture,
}


def generate_outside(
    kind: str, count: int, num_samples: int, sample_rate_hz: int, seed: int = 0
) -> Iterator[np.ndarray]:
    """Yield windows of one kind, float32 ``(num_samples,)`` within ±1; equal for equal seeds.

    Args:
        kind: of ``OUTSIDE``: ``silence`` (nothing, or hardly anything: -90 to -50 dBFS), ``noise``
            (five colours, -50 to -6 dBFS), ``generated`` (the generated data set) or ``mixtures``
            of these.
        count: how many windows.
        num_samples: length of each.
        sample_rate_hz: their rate.
        seed: decides all of them.

    >>> [len(window) for window in generate_outside("noise", 2, 100, 8000)]
    [100, 100]
    """
    make, stream = OUTSIDE[kind], list(OUTSIDE).index(kind)
    for number in range(count):
        rng = np.random.default_rng([seed, 0x0DD, stream, number])
        yield make(rng, number, num_samples, sample_rate_hz).astype(np.float32)
