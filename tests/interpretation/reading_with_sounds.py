"""A small reading with real sounds whose features are planted: tones that come and go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from esc_tf.audio.filterbanks import mel_band_centres_hz
from esc_tf.config import LogMelConfig
from esc_tf.interpretation.listening import ShortTimeTransform
from esc_tf.interpretation.reading import ReadClip, Reading, write_reading

RATE_HZ = 8000
NUM_SAMPLES = 6000
FEATURE_HZ = (300.0, 900.0, 2700.0)
LAYERS = ("block_1", "block/2 out")
METHODS = ("nmf", "mel_basis")
LABELS = ("low <b>", "middle", "high")
PEAK = 0.8


def write_reading_with_sounds(folder: Path, front_end: dict[str, Any] | None = None) -> Reading:
    """Write clips to ``folder/audio`` and their reading to ``folder/reading``.

    Each clip has all three tones, that of its class loud, each in a part of the time; feature k of
    the first layer stands for tone k. The second layer has twenty features of noise.
    """
    settings = LogMelConfig(
        **{"name": "log_mel", "n_fft": 256, "hop_length": 64, "n_mels": 24, **(front_end or {})}
    )
    transform = ShortTimeTransform.of_front_end(settings)
    num_frames = transform.count_frames(NUM_SAMPLES - (settings.pre_emphasis is not None))
    first = 0 if settings.center else settings.n_fft / 2
    times_s = (first + settings.hop_length * np.arange(num_frames)) / RATE_HZ
    centres_hz = mel_band_centres_hz(RATE_HZ, settings.n_mels)
    (folder / "audio").mkdir(parents=True)
    rng = np.random.default_rng(0)
    clips, activations = [], []
    for row in range(7):
        label = row % 3
        path = folder / "audio" / f"{row}.wav"
        waveform, h = _make_clip(rng, label, times_s)
        soundfile.write(path, waveform, RATE_HZ, subtype="FLOAT")
        predicted = LABELS[(label + (row == 4)) % 3]
        clips.append(
            ReadClip(f"clip {row}", str(path), 1 + row % 2, f"r{row}", LABELS[label], predicted,
                     0.5 + row / 20)
        )  # fmt: skip
        activations.append(h)
    bands = np.stack([np.exp(-0.5 * ((centres_hz - hz) / 200.0) ** 2) for hz in FEATURE_HZ], axis=1)
    filters = {"block_1": bands + 0.01, "block/2 out": rng.gamma(0.5, 1.0, (len(bands), 20))}
    rows = {
        "block_1": np.stack(activations),
        "block/2 out": rng.gamma(0.5, 1.0, (7, 20, num_frames)),
    }
    v = filters["block_1"] @ rows["block_1"] + rng.gamma(0.2, 0.05, (7, len(bands), num_frames))
    with write_reading(folder / "reading") as writer:
        writer.create_spectrograms(v.shape)[:] = v
        for layer in LAYERS:
            writer.create_activations(layer, rows[layer].shape)[:] = rows[layer]
            writer.write_filters(layer, "nmf", filters[layer])
            writer.write_filters(layer, "mel_basis", filters[layer] ** 2)
        writer.write_facts(_describe(settings, centres_hz, times_s), clips)
    return Reading.open(folder / "reading")


def _make_clip(
    rng: np.random.Generator, label: int, times_s: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    sample_times_s = np.arange(NUM_SAMPLES) / RATE_HZ
    waveform, rows = np.zeros(NUM_SAMPLES), []
    for feature, hz in enumerate(FEATURE_HZ):
        level = 1.0 if feature == label else 0.3
        start_s = rng.uniform(0.0, 0.4)
        for times, is_sound in ((sample_times_s, True), (times_s, False)):
            gate = level * ((times >= start_s) & (times < start_s + 0.3))
            if is_sound:
                waveform += gate * np.sin(2 * np.pi * hz * times)
            else:
                rows.append(3.0 * gate)
    waveform += 0.001 * rng.standard_normal(NUM_SAMPLES)
    return (PEAK * waveform / np.abs(waveform).max()).astype(np.float32), np.stack(rows)


def _describe(settings: LogMelConfig, centres_hz: Any, times_s: Any) -> dict[str, Any]:
    score = {
        "rank": 3, "error": 0.25, "variance_explained": 0.5, "roughness": 1.0, "sparsity": 0.75,
        "num_features": 3, "accuracy": None, "eta_squared": 0.125, "errors": [],
    }  # fmt: skip
    scores: list[dict[str, Any]] = [
        {**score, "layer": "block_1", "method": "nmf", "control": "none", "error_std": None},
        {**score, "layer": "block_1", "method": "nmf", "control": "shuffled_time",
         "error": 0.7512, "error_std": 0.01},
        {**score, "layer": "block_1", "method": "plain_nmf", "control": "none", "error": 0.0625,
         "error_std": None},
    ]  # fmt: skip
    effect = (2.0 * np.eye(3) - 1.0).tolist()
    return {
        "model": "models/tones & <noise>.keras",
        "model_digest": "0123abcd",
        "sample_rate_hz": RATE_HZ,
        "audio": {"num_samples": NUM_SAMPLES, "pad": "silence", "crop": "start"},
        "front_end": settings.model_dump(mode="json"),
        "spectrogram": {
            "kind": "log1p",
            "frequencies_hz": np.asarray(centres_hz).tolist(),
            "frame_times_s": np.asarray(times_s).tolist(),
        },
        "label_names": list(LABELS),
        "layers": list(LAYERS),
        "methods": list(METHODS),
        "settings": {"seed": 7, "data": "data/tones", "folds": [1, 2], "clips": None},
        "versions": {"tensorflow": "0.0"},
        "scores": scores,
        "discriminative": {
            "block_1": {
                "statistic": "rank-biserial correlation",
                "test": "a test",
                "classes": list(LABELS),
                "effect": effect,
                "adjusted_p": [[0.01, 0.01, 0.2]] * 3,
                "consistent": [[True, None, True]] * 3,
            }
        },
        "verdicts": {"block_1": "block_1 explains more than chance."},
    }
