"""A random frequency response, such as another microphone, distance or room would have."""

from __future__ import annotations

import numpy as np
import scipy.fft
import tensorflow as tf

# Octaves up to the highest frequency that any rate in use can hold, so that the same draw is the
# same response at every rate.
OCTAVES_HZ = 62.5 * 2.0 ** np.arange(10)
"""Where the gains lie: 62.5 Hz to 32 kHz."""


class Equalizer:
    """Filters a waveform without delay, by gains at octaves.

    In dB the response is a polygon over the logarithm of frequency, constant below the first
    octave. The filter is applied in the frequency domain, over the waveform as one period.

    Args:
        num_samples: length of the waveforms.
        sample_rate_hz: their rate.
    """

    def __init__(self, num_samples: int, sample_rate_hz: int) -> None:
        self._fft_length = scipy.fft.next_fast_len(max(num_samples, 2), real=True)
        frequencies_hz = np.fft.rfftfreq(self._fft_length, 1.0 / sample_rate_hz)
        position = np.log2(np.maximum(frequencies_hz, OCTAVES_HZ[0]) / OCTAVES_HZ[0])
        position = np.minimum(position, len(OCTAVES_HZ) - 1)
        below = np.minimum(np.floor(position).astype(np.int32), len(OCTAVES_HZ) - 2)
        self._below = tf.constant(below)
        self._fraction = tf.constant(position - below, tf.float32)

    def __call__(
        self, waveform: tf.Tensor, num_samples: tf.Tensor, gains_db: tf.Tensor
    ) -> tf.Tensor:
        """Filter the valid samples; what is behind them is zero.

        Args:
            waveform: ``(samples,)``, zero from ``num_samples`` on.
            num_samples: valid samples, int32.
            gains_db: one for each of ``OCTAVES_HZ``.
        """
        low, high = tf.gather(gains_db, self._below), tf.gather(gains_db, self._below + 1)
        response = 10.0 ** ((low + self._fraction * (high - low)) / 20.0)
        spectrum = tf.signal.rfft(waveform, [self._fft_length])
        filtered = tf.signal.irfft(
            spectrum * tf.cast(response, spectrum.dtype), [self._fft_length]
        )[: tf.shape(waveform)[0]]
        valid = tf.range(tf.shape(waveform)[0]) < num_samples
        return tf.ensure_shape(tf.where(valid, filtered, 0.0), waveform.shape)
