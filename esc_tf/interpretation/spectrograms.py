"""The spectrogram V that hidden features are to explain: non-negative, over mel bands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np

from esc_tf import frames
from esc_tf.audio.filterbanks import mel_band_centres_hz
from esc_tf.config import LogMelConfig
from esc_tf.frontends.log_mel import LogMelSpectrogram
from esc_tf.registry import look_up

SpectrogramKind = Literal["log1p", "magnitude", "power"]
"""Of mel magnitudes m, the root of what a mel band has of the power: ``log1p`` is ln(1 + m),
``magnitude`` m and ``power`` m². Waveforms have a full scale of 1 and transforms no scale, so m of
a loud sound is tens to hundreds, and ln(1 + m) tells loud from soft and keeps silence at 0."""
SPECTROGRAM_KINDS: tuple[str, ...] = get_args(SpectrogramKind)

_KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "log1p": lambda power: np.log1p(np.sqrt(power)),
    "magnitude": np.sqrt,
    "power": lambda power: power,
}
# Powers go through a logarithm and back; this is far below any band of 16 bits' rounding.
_FLOOR = 1e-20


class MelSpectrogram:
    """Clips → V, at the frames and bands of a log-mel front end.

    Compression, normalisation and the cutting of frames are left out: they make negative values,
    or other frames for other clips. Pre-emphasis stays, as the network hears it.

    Args:
        front_end: settings of a log-mel front end.
        sample_rate_hz: of the clips.
        num_samples: of each clip.
        kind: see ``SpectrogramKind``.

    Attributes:
        frequencies_hz: float64 ``(bins,)``, rising: the centre of each mel band.
        frame_times_s: float64 ``(frames,)``, rising: the centre of each frame.

    Raises:
        UnknownNameError: no such kind.

    >>> settings = LogMelConfig(name="log_mel", n_fft=256, hop_length=128, n_mels=24)
    >>> MelSpectrogram(settings, 8000, 4000, "log1p").compute(np.zeros(4000, np.float32)).shape
    (24, 32)
    """

    def __init__(
        self, front_end: LogMelConfig, sample_rate_hz: int, num_samples: int, kind: str = "log1p"
    ) -> None:
        self._convert = look_up(_KINDS, kind, "kind of spectrogram")
        settings = front_end.model_copy(
            update={
                "compression": "log",
                "floor": _FLOOR,
                "normalization": "none",
                "num_frames": None,
            }
        )
        self._layer = LogMelSpectrogram(sample_rate_hz, **settings.model_dump(exclude={"name"}))
        self._num_samples = num_samples
        num_frames = int(self._layer.compute_output_shape((1, num_samples))[1] or 0)
        self.frequencies_hz = mel_band_centres_hz(
            sample_rate_hz, settings.n_mels, settings.fmin_hz, settings.fmax_hz, settings.mel_scale
        )
        # As `measure_time_grids` has them, so that network and spectrogram are in step.
        first_s = 0.0 if settings.center else settings.n_fft / 2 / sample_rate_hz
        self.frame_times_s = first_s + np.asarray(
            frames.frame_times_s(num_frames, settings.hop_length, sample_rate_hz)
        )

    def compute(self, waveform: Any) -> np.ndarray:
        """V of a clip: float32 ``(samples,)`` → float32 ``(bins, frames)``; 0 of silence."""
        if np.shape(waveform) != (self._num_samples,):
            raise ValueError(f"{np.shape(waveform)} is not a clip of {self._num_samples} samples")
        logarithm = np.asarray(self._layer(np.asarray(waveform, np.float32)[np.newaxis]))
        power = np.maximum(np.exp(logarithm[0, :, :, 0].astype(np.float64)) - 1.001 * _FLOOR, 0.0)
        return self._convert(power).T.astype(np.float32)
