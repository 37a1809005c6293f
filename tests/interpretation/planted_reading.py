"""A small reading of which it is known what every figure must show. NumPy alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from esc_tf.config import LogMelConfig
from esc_tf.interpretation.discriminative import compare_classes
from esc_tf.interpretation.filter_history import FilterHistory
from esc_tf.interpretation.reading import ReadClip, Reading, write_reading

LAYER = "block/1"
CLASSES = ("dog", "rain", "a_class_with_a_very_long_name_indeed")
BINS, FRAMES, RANK, FOLDS = 24, 16, 6, 4
SILENT_ROW = 5


def write_planted_reading(folder: Path, clips_of_each: int = 2, **facts: Any) -> Reading:
    """Features 0 and 1 fire in dog, 2 and 3 in rain, 4 and 5 in the third class.

    Feature k's pattern lies around bin 4 k + 1, the later features the higher. One clip is silent,
    one is misclassified.
    """
    rng = np.random.default_rng(0)
    clips, loud = [], []
    for fold in range(1, FOLDS + 1):
        for label, name in enumerate(CLASSES):
            for take in range(clips_of_each):
                source = f"{fold}{label}{take}"
                clips.append(ReadClip(f"{source}.wav", "", fold, source, name, name, 0.9))
                loud.append(np.isin(np.arange(RANK) // 2, label))
    activations = rng.gamma(2.0, 0.02, (len(clips), RANK, FRAMES)).astype(np.float32)
    for row, fires in enumerate(loud):
        activations[row, fires] += rng.uniform(0.5, 1.5, (2, FRAMES)).astype(np.float32)
    activations[SILENT_ROW] = 0.0
    clips[SILENT_ROW] = ReadClip("silent.wav", "", 1, "silent", CLASSES[2], is_silent=True)
    clips[0] = ReadClip("wrong.wav", "", 1, "wrong", "dog", "rain", 0.6)
    distances = np.arange(BINS)[:, np.newaxis] - (4.0 * np.arange(RANK) + 1.0)
    patterns = np.exp(-0.5 * (distances / 1.2) ** 2).astype(np.float32)
    heard = [row for row in range(len(clips)) if row != SILENT_ROW]
    differences = compare_classes(
        activations[heard].mean(axis=2),
        [clips[row].true for row in heard],
        CLASSES,
        [clips[row].fold for row in heard],
        [clips[row].source_id for row in heard],
    )
    spectrograms = np.einsum("bk,nkt->nbt", patterns, activations)
    frequencies = np.geomspace(60.0, 3800.0, BINS)
    described: dict[str, Any] = {
        "model": "model.keras",
        "model_digest": None,
        "sample_rate_hz": 8000,
        "audio": {"num_samples": 1920, "pad": "silence", "crop": "start"},
        "front_end": LogMelConfig(
            name="log_mel", n_fft=256, hop_length=128, n_mels=BINS
        ).model_dump(mode="json"),
        "spectrogram": {
            "kind": "log1p",
            "frequencies_hz": frequencies.tolist(),
            "frame_times_s": (0.016 * np.arange(FRAMES)).tolist(),
        },
        "label_names": list(CLASSES),
        "layers": [LAYER],
        "methods": ["nmf", "mel_basis"],
        "settings": {"seed": 3},
        "versions": {},
        "scores": [
            _score("nmf", "none", 0.1),
            _score("nmf", "shuffled_time", 0.5, [0.49, 0.51]),
            _score("nmf", "shuffled_clips", 0.7, [0.68, 0.72]),
            _score("mel_basis", "none", 0.12),
            _score("plain_nmf", "none", 0.05),
        ],
        "discriminative": {LAYER: differences.describe()},
        "verdicts": {LAYER: "better than chance"},
    }
    start = np.full_like(patterns, 0.5)
    history = FilterHistory(
        np.geomspace(1.0, 0.01, 40),
        np.array([0, 20, 40]),
        np.stack([start, 0.5 * (start + patterns), patterns]),
    )
    with write_reading(folder) as writer:
        writer.create_spectrograms(spectrograms.shape)[:] = spectrograms
        writer.create_activations(LAYER, activations.shape)[:] = activations
        writer.write_filters(LAYER, "nmf", patterns)
        writer.write_filters(LAYER, "mel_basis", patterns, history)
        floor = patterns / patterns.sum(axis=0)
        whole = np.concatenate(list(activations), axis=1) * patterns.sum(axis=0)[:, np.newaxis]
        writer.write_plain_nmf(LAYER, floor[:, ::-1], whole[::-1])
        writer.write_facts({**described, **facts}, clips)
    return Reading.open(folder)


def _score(
    method: str, control: str, error: float, errors: list[float] | None = None
) -> dict[str, Any]:
    return {
        "layer": LAYER, "method": method, "control": control, "rank": RANK, "error": error,
        "errors": errors or [],
    }  # fmt: skip
