"""What every mel front end does around its transform and its bank: one place for all settings."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
from keras import ops

from esc_tf import frames
from esc_tf.audio.filterbanks import mel_filterbank
from esc_tf.config import MelConfig
from esc_tf.errors import ConfigError
from esc_tf.frontends import clip_statistics
from esc_tf.frontends.configured import ConfiguredFrontEnd
from esc_tf.frontends.power_spectrogram import analysis_window

SettingsType = TypeVar("SettingsType", bound=MelConfig)


def build_bank(settings: MelConfig, sample_rate_hz: int) -> np.ndarray:
    """The bank of triangles that settings describe, float32 ``(n_fft // 2 + 1, n_mels)``."""
    return mel_filterbank(
        sample_rate_hz,
        settings.n_fft,
        settings.n_mels,
        settings.fmin_hz,
        settings.fmax_hz,
        settings.mel_scale,
        settings.mel_norm,
    )


class MelFrontEnd(ConfiguredFrontEnd[SettingsType]):
    """Waveform → log-mel spectrogram, in float32 whatever the dtype policy.

    features = normalise(compress(mel(waveform))), cut or filled up to ``num_frames``, with
    time = ``num_frames`` or ``1 + (samples + 2 (n_fft // 2) - n_fft) // hop_length`` (centred).
    Maxima, means and minima are those of each clip alone, so that its features do not depend on
    the batch. Without ``num_samples`` a clip is as long as the waveform; with it, the frames at or
    beyond ``count_frames(num_samples)`` are padding: they count in no statistic and are filled
    like those that ``num_frames`` adds, and the clip has the features it would have alone. A clip
    shorter than one frame counts as one.

    A subclass names the class of its settings and computes the mel spectrogram.

    Args:
        sample_rate_hz: rate of the waveforms.
        name: name of the layer.
        trainable: whether training may change its weights, if it has any.
        **settings: the fields of the class of settings (which documents them) but ``name``.

    Raises:
        ConfigError: a setting is unknown or wrong; all such are listed.
    """

    def __init__(self, sample_rate_hz: int, **settings: Any) -> None:
        super().__init__(sample_rate_hz, **settings)
        _check_against_rate(self._settings, self.sample_rate_hz)

    def build_window(self) -> np.ndarray:
        """The analysis window, float64 ``(win_length,)``."""
        return analysis_window(
            self._settings.window, self._settings.win_length or self._settings.n_fft
        )

    def build_bank(self) -> np.ndarray:
        """The bank of triangles, float32 ``(n_fft // 2 + 1, n_mels)``."""
        return build_bank(self._settings, self.sample_rate_hz)

    def compute_mel(self, waveform: Any) -> Any:
        """Padded waveform ``(batch, samples)`` → mel powers ``(batch, time, n_mels)``.

        Frame ``i`` is of the ``n_fft`` samples from ``i * hop_length`` on.
        """
        raise NotImplementedError

    def call(self, waveform: Any, num_samples: Any = None) -> Any:
        """Compute the features of a batch."""
        waveform = ops.cast(waveform, "float32")
        if num_samples is None:
            return self._extract(waveform, None)
        num_samples = ops.cast(num_samples, "int32")
        # Clips as long as the waveform, as most batches have them, are spared what tells padding
        # apart: up to half of the time.
        return ops.cond(
            ops.all(num_samples >= ops.shape(waveform)[1]),
            lambda: self._extract(waveform, None),
            lambda: self._extract(waveform, num_samples),
        )

    def _extract(self, waveform: Any, num_samples: Any) -> Any:
        if self._settings.pre_emphasis is not None:
            waveform = waveform[:, 1:] - self._settings.pre_emphasis * waveform[:, :-1]
            num_samples = None if num_samples is None else num_samples - 1
        features = self._compress(self.compute_mel(self._pad(waveform, num_samples)))
        is_valid = None
        if num_samples is not None:
            num_valid = ops.maximum(self._count_frames(num_samples), 1)
            positions = ops.arange(ops.shape(features)[1], dtype="int32")
            is_valid = (positions[np.newaxis] < num_valid[:, np.newaxis])[..., np.newaxis]
        if self._settings.compression == "db" and self._settings.top_db is not None:
            loudest = clip_statistics.maximum(features, is_valid)
            features = ops.maximum(features, loudest - self._settings.top_db)
        features = self._fit_frames(self._normalize(features, is_valid), is_valid)
        return features[..., np.newaxis]

    def compute_output_shape(
        self, waveform_shape: tuple[int | None, ...], num_samples_shape: Any = None
    ) -> tuple[int | None, ...]:
        """Shape of the features for a waveform of ``(batch, samples)``."""
        batch, num_samples = waveform_shape
        num_frames = self._settings.num_frames
        if num_frames is None and num_samples is not None:
            num_frames = self._settings.count_frames(num_samples)
        return batch, num_frames, self._settings.n_mels, 1

    def measure_time_grid(self, num_samples: int) -> frames.TimeGrid:
        """Centre times of the frames of a waveform."""
        settings, rate_hz = self._settings, self.sample_rate_hz
        # A frame of a centred transform lies around its first sample, see ``esc_tf.frames``.
        first_s = 0.0 if settings.center else settings.n_fft / 2 / rate_hz
        return frames.TimeGrid(first_s, settings.hop_length / rate_hz)

    def _count_frames(self, num_samples: Any) -> Any:
        settings = self._settings
        return frames.count_frames(
            num_samples, settings.n_fft, settings.hop_length, settings.center
        )

    def _pad(self, waveform: Any, num_samples: Any) -> Any:
        """Put ``n_fft // 2`` samples on both sides of a centred clip, wherever it ends."""
        margin = self._settings.n_fft // 2 if self._settings.center else 0
        length = ops.shape(waveform)[1]
        is_reflected = margin > 0 and self._settings.pad_mode == "reflect"
        if isinstance(length, int):
            shortest = margin + 1 if is_reflected else self._settings.n_fft - 2 * margin
            if length < max(shortest, 1):
                raise ValueError(
                    f"{length} samples are fewer than the {max(shortest, 1)} that one frame of "
                    f"n_fft {self._settings.n_fft} needs; use longer waveforms or a smaller n_fft"
                )
        if num_samples is not None:
            last = ops.maximum(num_samples, 1)[:, np.newaxis] - 1
            positions = ops.arange(length, dtype="int32")[np.newaxis]
            if is_reflected:
                # Each clip is mirrored at its own end, and nothing behind the mirrored part is
                # ever part of a valid frame.
                waveform = ops.pad(waveform, [[0, 0], [0, margin]])
                positions = ops.arange(length + margin, dtype="int32")[np.newaxis]
                mirrored = ops.clip(2 * last - positions, 0, last)
                sources = ops.where(positions <= last, positions, mirrored)
                waveform = ops.take_along_axis(waveform, sources, axis=1)
                return ops.pad(waveform, [[0, 0], [margin, 0]], mode="reflect")
            waveform = ops.where(positions <= last, waveform, 0.0)
        if margin == 0:
            return waveform
        if is_reflected and isinstance(length, int):
            # The same samples, but TFLite's own mirroring takes 0.5 ms for 5 s.
            before, after = waveform[:, 1 : margin + 1], waveform[:, -margin - 1 : -1]
            parts = [ops.flip(before, axis=1), waveform, ops.flip(after, axis=1)]
            return ops.concatenate(parts, axis=1)
        mode = "reflect" if is_reflected else "constant"
        return ops.pad(waveform, [[0, 0], [margin, margin]], mode=mode)

    def _compress(self, mel: Any) -> Any:
        if self._settings.compression == "log":
            return ops.log(mel + self._settings.floor)
        return (10.0 / math.log(10.0)) * ops.log(ops.maximum(mel, self._settings.floor))

    def _normalize(self, features: Any, is_valid: Any) -> Any:
        settings = self._settings
        if settings.normalization == "standardize":
            return clip_statistics.standardize(features, is_valid)
        if settings.normalization == "min_max":
            return clip_statistics.scale_to_unit_range(features, is_valid)
        if settings.normalization == "affine":
            return (features + settings.affine_offset) / settings.affine_scale
        return features

    def _fit_frames(self, features: Any, is_valid: Any) -> Any:
        """Fill padding frames, then cut or fill up to ``num_frames``."""
        wanted, length = self._settings.num_frames, ops.shape(features)[1]
        # The length may be known at run time only: then as many as can be missing are added.
        num_missing = 0
        if wanted is not None:
            num_missing = max(0, wanted - length) if isinstance(length, int) else wanted
        if is_valid is not None or num_missing:
            if self._settings.frame_padding == "minimum":
                filling = clip_statistics.minimum(features, is_valid)
            else:
                filling = ops.zeros_like(features[:, :1, :1])
            if is_valid is not None:
                features = ops.where(is_valid, features, filling)
            if num_missing:
                added = ops.tile(filling, (1, num_missing, self._settings.n_mels))
                features = ops.concatenate([features, added], axis=1)
        return features if wanted is None else features[:, :wanted]


def _check_against_rate(settings: MelConfig, sample_rate_hz: int) -> None:
    problems = []
    nyquist_hz = sample_rate_hz / 2
    fmax_hz = nyquist_hz if settings.fmax_hz is None else settings.fmax_hz
    if not settings.fmin_hz < fmax_hz <= nyquist_hz:
        problems.append(
            f"the band from fmin_hz {settings.fmin_hz:g} to fmax_hz {fmax_hz:g} must rise and end "
            f"at {nyquist_hz:g} Hz at most, half of the sample rate"
        )
    if settings.win_length is not None and settings.win_length > settings.n_fft:
        problems.append(f"win_length {settings.win_length} is longer than n_fft {settings.n_fft}")
    if problems:
        raise ConfigError(problems)
