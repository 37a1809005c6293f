"""Ten classes of generated sounds that need time AND frequency to be told apart.

Chirps up and down share their mean spectrum and their envelope; slow and fast pulses and steady
noise share spectra; the two noises share an envelope. Pitch, level, onset, length and background
noise are drawn for each clip, so that no single number gives a class away.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

from esc_tf import frames
from esc_tf.config import AudioConfig, SyntheticDataConfig
from esc_tf.data.classes import select_classes
from esc_tf.data.records import DataSet, Record, SynthesisKey
from esc_tf.errors import DataError

NUM_FOLDS = 5
# Part of the key of every cached clip: raise it whenever a generated waveform changes.
GENERATOR_VERSION = 1
# Sounds are laid out below this frequency, or below half the rate where that is lower.
_TOP_HZ = 8000.0

Array = np.ndarray


def _sweep(rng: np.random.Generator, time_s: Array, top_hz: float, rising: bool) -> Array:
    """Exponential sweep over two to three octaves in one direction."""
    low_hz = top_hz * rng.uniform(0.04, 0.10)
    octaves = rng.uniform(2.0, 3.0)
    progress = time_s / time_s[-1] if time_s.size > 1 else time_s
    position = progress if rising else 1.0 - progress
    step_s = time_s[1] if time_s.size > 1 else 0.0
    return np.sin(2 * np.pi * np.cumsum(low_hz * 2.0 ** (octaves * position)) * step_s)


def _chirp_up(rng: np.random.Generator, time_s: Array, top_hz: float) -> Array:
    return _sweep(rng, time_s, top_hz, rising=True)


def _chirp_down(rng: np.random.Generator, time_s: Array, top_hz: float) -> Array:
    return _sweep(rng, time_s, top_hz, rising=False)


def _warble(rng: np.random.Generator, time_s: Array, top_hz: float) -> Array:
    """A tone whose pitch swings up and down several times."""
    center_hz = top_hz * rng.uniform(0.12, 0.25)
    rate_hz = rng.uniform(4.0, 7.0) / min(1.0, _span_s(time_s))
    depth = rng.uniform(0.4, 0.6)
    swing = depth * np.sin(2 * np.pi * rate_hz * time_s + rng.uniform(0, 2 * np.pi))
    step_s = time_s[1] if time_s.size > 1 else 0.0
    return np.sin(2 * np.pi * np.cumsum(center_hz * 2.0**swing) * step_s)


def _band_noise(rng: np.random.Generator, num_samples: int, low: float, high: float) -> Array:
    """Noise between two frequencies given as fractions of the sample rate."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequencies = np.fft.rfftfreq(num_samples)
    spectrum[(frequencies < low) | (frequencies > high)] = 0.0
    noise = np.fft.irfft(spectrum, num_samples)
    return noise / (np.max(np.abs(noise)) + 1e-12)


def _octave_noise(
    rng: np.random.Generator, time_s: Array, top_hz: float, low: float, high: float
) -> Array:
    low_hz = top_hz * rng.uniform(low, high)
    step_s = time_s[1] if time_s.size > 1 else 1.0
    return _band_noise(rng, time_s.size, low_hz * step_s, 2.0 * low_hz * step_s)


def _low_noise(rng: np.random.Generator, time_s: Array, top_hz: float) -> Array:
    return _octave_noise(rng, time_s, top_hz, 0.03, 0.08)


def _high_noise(rng: np.random.Generator, time_s: Array, top_hz: float) -> Array:
    return _octave_noise(rng, time_s, top_hz, 0.25, 0.45)


def _pulses(
    rng: np.random.Generator, time_s: Array, top_hz: float, low_hz: float, high_hz: float
) -> Array:
    """Noise of a random octave, switched on and off at a rate between two rates."""
    carrier = _octave_noise(rng, time_s, top_hz, 0.03, 0.45)
    rate_hz = rng.uniform(low_hz, high_hz) / min(1.0, _span_s(time_s))
    wave = np.sin(2 * np.pi * rate_hz * time_s + rng.uniform(0, 2 * np.pi))
    return carrier / (1.0 + np.exp(-12.0 * wave))


def _slow_pulses(rng: np.random.Generator, time_s: Array, top_hz: float) -> Array:
    return _pulses(rng, time_s, top_hz, 3.0, 5.0)


def _fast_pulses(rng: np.random.Generator, time_s: Array, top_hz: float) -> Array:
    return _pulses(rng, time_s, top_hz, 10.0, 15.0)


def _pure_tone(rng: np.random.Generator, time_s: Array, top_hz: float) -> Array:
    pitch_hz = top_hz * rng.uniform(0.04, 0.5)
    return np.sin(2 * np.pi * pitch_hz * time_s + rng.uniform(0, 2 * np.pi))


def _harmonic_tone(rng: np.random.Generator, time_s: Array, top_hz: float) -> Array:
    """A fundamental with all its overtones below ``top_hz``, falling by 1/n."""
    pitch_hz = top_hz * rng.uniform(0.02, 0.06)
    tone = np.zeros_like(time_s)
    for number in range(1, int(min(12, top_hz // pitch_hz)) + 1):
        phase = rng.uniform(0, 2 * np.pi)
        tone += np.sin(2 * np.pi * number * pitch_hz * time_s + phase) / number
    return tone / np.max(np.abs(tone))


def _clicks(rng: np.random.Generator, time_s: Array, top_hz: float) -> Array:
    """Regular clicks of a millisecond over the whole spectrum."""
    rate_hz = rng.uniform(5.0, 12.0) / min(1.0, _span_s(time_s))
    since_click_s = np.mod(time_s + rng.uniform(0, 1.0 / rate_hz), 1.0 / rate_hz)
    return rng.standard_normal(time_s.size) * np.exp(-since_click_s / 1e-3)


GENERATORS: dict[str, Callable[[np.random.Generator, Array, float], Array]] = {
    "chirp_up": _chirp_up,
    "chirp_down": _chirp_down,
    "warble": _warble,
    "slow_pulses": _slow_pulses,
    "fast_pulses": _fast_pulses,
    "low_noise": _low_noise,
    "high_noise": _high_noise,
    "pure_tone": _pure_tone,
    "harmonic_tone": _harmonic_tone,
    "clicks": _clicks,
}


def _span_s(time_s: Array) -> float:
    return float(time_s[-1]) if time_s.size > 1 else 1.0


def generate_clip(key: SynthesisKey) -> Array:
    """Generate the waveform ``(samples,)`` of ``key``, float32 within ±1; never silent.

    An event of 60 to 95 % of the clip at a random place with 10 ms ramps, peak between -20 and
    -1 dB of full scale, over white background noise 10 to 25 dB below the event.

    >>> key = SynthesisKey(0, "clicks", 1, 0, 8000, 4000)
    >>> generate_clip(key).shape
    (4000,)
    """
    name_number = zlib.crc32(key.label_name.encode())
    rng = np.random.default_rng([key.seed, name_number, key.fold, key.index])
    length = max(2, int(rng.uniform(0.6, 0.95) * key.num_samples))
    length = min(length, key.num_samples)
    onset = int(rng.integers(0, key.num_samples - length + 1))
    time_s = np.arange(length) / key.sample_rate_hz
    top_hz = min(_TOP_HZ, 0.45 * key.sample_rate_hz)
    event = GENERATORS[key.label_name](rng, time_s, top_hz)
    to_edge_s = np.minimum(time_s, time_s[::-1])
    event = event * np.minimum(1.0, to_edge_s / 0.01 + 1e-3)
    background_rms = np.sqrt(np.mean(event**2)) * 10.0 ** (-rng.uniform(10.0, 25.0) / 20.0)
    waveform = rng.standard_normal(key.num_samples) * (background_rms + 1e-6)
    waveform[onset : onset + length] += event
    peak = 10.0 ** (rng.uniform(-20.0, -1.0) / 20.0)
    return (waveform * (peak / np.max(np.abs(waveform)))).astype(np.float32)


def load_synthetic(config: SyntheticDataConfig, audio: AudioConfig, seed: int) -> DataSet:
    """Load the records of the generated set: ten classes, five folds; nothing is generated yet.

    Args:
        config: classes and the number of clips a class and fold.
        audio: rate and duration of the clips.
        seed: decides every clip together with its class, fold and index.

    Raises:
        DataError: an unknown class, or a selection of ESC-50's classes.
    """
    if config.classes in ("esc10", "esc19"):
        raise DataError(
            f"data.classes: '{config.classes}' selects classes of ESC-50; the synthetic set has "
            f"'all' or a list out of {', '.join(GENERATORS)}"
        )
    label_names = select_classes(config.classes, list(GENERATORS), "the synthetic set")
    num_samples = frames.count_samples(audio.duration_s, audio.sample_rate_hz)
    records = []
    for fold in range(1, NUM_FOLDS + 1):
        for label_id, name in enumerate(label_names):
            for index in range(config.clips_per_class_and_fold):
                clip_id = f"{fold}-{index}-{name}"
                key = SynthesisKey(seed, name, fold, index, audio.sample_rate_hz, num_samples)
                records.append(Record(clip_id, label_id, name, fold, clip_id, synthesis=key))
    return DataSet(records=tuple(records), label_names=label_names)
