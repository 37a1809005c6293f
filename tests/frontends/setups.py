"""The published set-ups, as they stand in configs/front_end, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from esc_tf.config import AnyFrontEndConfig, AudioConfig, FrontEndConfig
from esc_tf.config.loading import read_config_file
from esc_tf.frontends import HeuriNet, LogMelSpectrogram, MelInit, MSTNet, build_front_end

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "front_end"
NAMES = (
    "se_cnn_log_mel",
    "efficientat_log_mel",
    "efficientat_log_mel_20ms",
    "panns_log_mel",
    "tfnet_log_mel",
    "student_log_mel",
    "log_mel_60",
)
LEARNED = ("mel_init_60", "heurinet", "mstnet")
COMPUTATIONS = ("rfft", "dft_conv", "factored_dft")
PRODUCT = [(name, computation) for name in NAMES for computation in COMPUTATIONS]


def read_setup(name: str, **changes: Any) -> tuple[AnyFrontEndConfig, AudioConfig]:
    """Read the two sections of a file, with other values for some front-end settings."""
    raw = read_config_file(FOLDER / f"{name}.yaml")
    assert set(raw) == {"front_end", "audio"}
    front_end = TypeAdapter(FrontEndConfig).validate_python(raw["front_end"] | changes)
    return front_end, AudioConfig.model_validate(raw["audio"])


def build_setup(name: str, **changes: Any) -> LogMelSpectrogram | MelInit | HeuriNet | MSTNet:
    """Build the layer of a file."""
    front_end, audio = read_setup(name, **changes)
    return build_front_end(front_end, audio.sample_rate_hz)


def make_waveforms(num_clips: int, num_samples: int, seed: int = 0) -> np.ndarray:
    """Clips of a gliding tone in noise, each at another level."""
    rng = np.random.default_rng(seed)
    phase = np.cumsum(np.linspace(0.02, 0.9, num_samples))
    clips = np.sin(phase) * rng.uniform(0.1, 1.0, (num_clips, 1))
    clips += 0.05 * rng.standard_normal((num_clips, num_samples))
    levels = np.geomspace(1.0, 1e-3, num_clips)[:, np.newaxis]
    return (0.5 * levels * clips).astype(np.float32)
