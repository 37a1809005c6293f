"""The smallest experiment that still exercises everything, for tests of the whole path."""

from __future__ import annotations

from typing import Any

from esc_tf.config import Experiment, build_experiment
from esc_tf.config.loading import merge

TINY: dict[str, Any] = {
    "name": "tiny",
    "audio": {"sample_rate_hz": 8000, "duration_s": 0.5},
    "data": {"name": "synthetic", "clips_per_class_and_fold": 2, "test_fold": 5, "validation": 4},
    "front_end": {"name": "log_mel", "n_fft": 256, "hop_length": 128, "n_mels": 24},
    "model": {
        "name": "se_cnn",
        "block_filters": [8, 16],
        "convs_per_block": 1,
        "squeeze_excitation_blocks": [2],
        "head": {"hidden_units": [16], "dropout": 0.5},
    },
    "augment": {
        "noise": {"probability": 0.5},
        "time_shift": {"probability": 0.5},
        "frequency_mask": {"max_bands": 4},
        "mixup": {"alpha": 0.2},
    },
    "recipe": {
        "epochs": 4,
        "batch_size": 16,
        "schedule": {"name": "reduce_on_plateau", "patience": 1},
        "early_stopping": {"patience": 50},
        "report": False,
    },
}


def tiny_experiment(cache_dir: str, **sections: Any) -> Experiment:
    """The tiny experiment with other values in some sections and its own cache."""
    raw = merge(TINY, sections)
    return build_experiment(merge(raw, {"data": {"cache_dir": str(cache_dir)}}))
