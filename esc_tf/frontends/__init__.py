"""From waveforms ``(batch, samples)`` to features ``(batch, time, frequency, channel)``."""

from esc_tf.frontends.computation import with_computation, with_tflite_computation
from esc_tf.frontends.factory import FRONT_ENDS, build_front_end
from esc_tf.frontends.log_mel import LogMelSpectrogram

__all__ = [
    "FRONT_ENDS",
    "LogMelSpectrogram",
    "build_front_end",
    "with_computation",
    "with_tflite_computation",
]
