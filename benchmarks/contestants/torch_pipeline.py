"""The input pipeline as a PyTorch DataLoader with NumPy and librosa."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import scipy.fft
import torch

from benchmarks.contestants.settings import Round
from esc_tf.config import load_experiment

LOADER_WORKERS = 2


class TorchSounds:
    """The peer's data set: decoded clips in memory, augmented and transformed one by one."""

    def __init__(self, experiment: Any, paths: list[str]) -> None:
        self.experiment, self.paths = experiment, paths
        self.rate_hz, self.length = experiment.audio.sample_rate_hz, experiment.num_samples
        self.clips = [librosa.load(path, sr=self.rate_hz)[0][: self.length] for path in paths]

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> np.ndarray:
        augment, rng = self.experiment.augment, np.random.default_rng()
        clip, valid = self.clips[index], len(self.clips[index])
        waveform = np.zeros(self.length, np.float32)
        waveform[:valid] = clip
        if rng.random() < augment.time_shift.probability:
            furthest = int(augment.time_shift.max_fraction * valid)
            shift = int(rng.integers(-furthest, furthest + 1))
            waveform[:valid] = 0.0
            waveform[max(shift, 0) : valid + min(shift, 0)] = clip[
                max(-shift, 0) : valid - max(shift, 0)
            ]
        if rng.random() < augment.noise.probability:
            noise = self.make_noise(rng)[:valid]
            power = np.mean(waveform[:valid] ** 2) / np.mean(noise**2)
            snr_db = rng.uniform(*augment.noise.snr_db)
            waveform[:valid] += noise * np.float32(np.sqrt(power * 10.0 ** (-snr_db / 10.0)))
        return self.transform(waveform)

    def make_noise(self, rng: np.random.Generator) -> np.ndarray:
        """White, pink or brown noise, made in the frequency domain."""
        length = scipy.fft.next_fast_len(self.length, real=True)
        parts = rng.standard_normal((2, length // 2 + 1), dtype=np.float32)
        slope = -0.5 * rng.integers(0, 3)
        frequencies = np.fft.rfftfreq(length, 1.0 / self.rate_hz).astype(np.float32)
        amplitudes = np.maximum(frequencies, np.float32(20.0)) ** np.float32(slope)
        noise: np.ndarray = scipy.fft.irfft((parts[0] + 1j * parts[1]) * amplitudes, length)
        return noise

    def transform(self, waveform: np.ndarray) -> np.ndarray:
        """Waveform → standardised log-mel ``(time, frequency)``."""
        settings = self.experiment.front_end
        mel = librosa.feature.melspectrogram(
            y=waveform,
            sr=self.rate_hz,
            n_fft=settings.n_fft,
            hop_length=settings.hop_length,
            n_mels=settings.n_mels,
            fmin=settings.fmin_hz,
            fmax=settings.fmax_hz,
        )
        features = librosa.power_to_db(mel, amin=settings.floor, top_db=settings.top_db).T
        features = (features - features.mean()) / (features.std() + 1e-6)
        return features[: settings.num_frames].astype(np.float32)


def set_up(settings: dict[str, Any]) -> Round:
    """A function that reads the features of one epoch and returns the seconds of a clip."""
    folder = Path(settings["folder"])
    torch.set_num_threads(settings["threads"])
    sounds = TorchSounds(
        load_experiment(settings["config"]), json.loads((folder / "paths.json").read_text())
    )
    batch_size = min(32, len(sounds))
    loader = torch.utils.data.DataLoader(
        sounds,  # type: ignore[arg-type]
        batch_size=batch_size,
        shuffle=True,
        num_workers=LOADER_WORKERS,
        drop_last=True,
        persistent_workers=True,
    )
    with np.load(folder / "clip.npz") as clip:
        index = sounds.paths.index(str(clip["path"]))
        found = sounds.transform(sounds.clips[index])
        error = float(np.abs(found - clip["features"][..., 0]).max())
    (folder / "feature_error.json").write_text(json.dumps(error))

    def pass_over() -> float:
        start = time.perf_counter()
        for batch in loader:
            assert batch.shape[0] == batch_size
        return (time.perf_counter() - start) / (len(loader) * batch_size)

    return pass_over
