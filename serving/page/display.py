"""What the page draws of a sound: its envelope and a mel spectrogram, in bounded memory."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from esc_tf.audio.filterbanks import mel_filterbank

_ENVELOPE_COLUMNS = 1_000
_MEL_COLUMNS = 800
_N_MELS = 80
_WINDOW_S = 0.04
_DENSE_HOP_S = 0.01
# Longer sounds are looked at window by window without overlap: a column is a mean of many anyway.
_DENSE_UP_TO_S = 60.0
_ENVELOPE_STEP_S = 0.002
_DYNAMIC_RANGE_DB = 80.0
_FLOOR = 1e-10


class SoundDisplay:
    """Takes a sound block by block and says how to draw it.

    Args:
        sample_rate_hz: rate of the blocks.
        promised_s: length that is expected, in seconds, or None.
    """

    def __init__(self, sample_rate_hz: int, promised_s: float | None) -> None:
        self._rate_hz = sample_rate_hz
        self._n_fft = 1 << max(5, round(np.log2(_WINDOW_S * sample_rate_hz)))
        is_long = (promised_s or 0.0) > _DENSE_UP_TO_S
        self._hop = self._n_fft if is_long else max(1, round(_DENSE_HOP_S * sample_rate_hz))
        self._window = np.hanning(self._n_fft + 1)[:-1].astype(np.float32)
        self._bank = mel_filterbank(sample_rate_hz, self._n_fft, _N_MELS, scale="kaldi", norm=None)
        # Half a window of silence before the start, so that frame i is centred on sample i · hop.
        self._held = np.zeros(self._n_fft // 2, np.float32)
        self._frames: list[np.ndarray] = []
        self._step = max(1, round(_ENVELOPE_STEP_S * sample_rate_hz))
        self._rest = np.zeros(0, np.float32)
        self._lows: list[np.ndarray] = []
        self._highs: list[np.ndarray] = []
        self.num_samples = 0

    def add(self, block: np.ndarray) -> None:
        """Take the next samples, float32 ``(samples,)``."""
        self.num_samples += len(block)
        self._add_frames(block)
        rest = np.concatenate([self._rest, block])
        whole = len(rest) - len(rest) % self._step
        steps = rest[:whole].reshape(-1, self._step)
        self._lows.append(steps.min(axis=1))
        self._highs.append(steps.max(axis=1))
        self._rest = rest[whole:]

    def describe(self) -> dict[str, Any]:
        """Everything of the sound, as JSON takes it.

        Returns:
            ``duration_s``; ``envelope`` with ``low`` and ``high``, the least and largest sample of
            each column; ``mel`` with ``columns``, ``bands``, ``top_hz`` (the bands are spaced
            equally over 1127 ln(1 + f / 700) from 0 to there), ``db_range``, and ``data``: base64
            of one byte a value, column by column from the lowest band up, 255 for the loudest
            value and 0 for 80 dB below it or less.
        """
        if len(self._rest):
            self._lows.append(self._rest[np.newaxis].min(axis=1))
            self._highs.append(self._rest[np.newaxis].max(axis=1))
            self._rest = self._rest[:0]
        self._add_frames(np.zeros(self._n_fft // 2, np.float32))
        lows, highs = np.concatenate(self._lows), np.concatenate(self._highs)
        starts = _column_starts(len(lows), _ENVELOPE_COLUMNS)
        return {
            "duration_s": self.num_samples / self._rate_hz,
            "envelope": {
                "low": _round(np.minimum.reduceat(lows, starts)),
                "high": _round(np.maximum.reduceat(highs, starts)),
            },
            "mel": self._describe_mel(),
        }

    def _describe_mel(self) -> dict[str, Any]:
        power = np.concatenate(self._frames)
        starts = _column_starts(len(power), _MEL_COLUMNS)
        counts = np.diff(np.append(starts, len(power)))
        mel = np.add.reduceat(power, starts, axis=0) / counts[:, np.newaxis]
        level_db = 10.0 * np.log10(np.maximum(mel, _FLOOR))
        top_db = max(float(level_db.max()), 10.0 * np.log10(_FLOOR) + _DYNAMIC_RANGE_DB)
        scaled = np.clip((level_db - top_db) / _DYNAMIC_RANGE_DB + 1.0, 0.0, 1.0)
        return {
            "columns": len(mel),
            "bands": _N_MELS,
            "top_hz": self._rate_hz / 2,
            "db_range": _DYNAMIC_RANGE_DB,
            "data": encode_bytes(scaled),
        }

    def _add_frames(self, block: np.ndarray) -> None:
        held = np.concatenate([self._held, block])
        num_frames = max(0, (len(held) - self._n_fft) // self._hop + 1)
        if num_frames:
            views = np.lib.stride_tricks.sliding_window_view(held, self._n_fft)[:: self._hop]
            spectrum = np.fft.rfft(views[:num_frames] * self._window)
            power = np.square(np.abs(spectrum)).astype(np.float32)
            self._frames.append(power @ self._bank)
        self._held = held[num_frames * self._hop :]


def encode_bytes(values: np.ndarray) -> str:
    """Values from 0 to 1 as base64 of one byte each.

    >>> encode_bytes(np.array([0.0, 1.0]))
    'AP8='
    """
    return base64.b64encode(np.round(values * 255.0).astype(np.uint8).tobytes()).decode("ascii")


def _column_starts(length: int, max_columns: int) -> np.ndarray:
    """Where each of at most ``max_columns`` columns starts, all of about the same length."""
    num_columns = min(length, max_columns)
    return np.arange(num_columns) * length // num_columns


def _round(values: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values]
