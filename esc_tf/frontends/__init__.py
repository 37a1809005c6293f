"""From waveforms ``(batch, samples)`` to features ``(batch, time, frequency, channel)``."""

from esc_tf.frontends.computation import with_computation, with_tflite_computation
from esc_tf.frontends.factory import FRONT_ENDS, build_front_end
from esc_tf.frontends.heurinet import HeuriNet
from esc_tf.frontends.log_mel import LogMelSpectrogram
from esc_tf.frontends.mel_init import BandSum, FilterPower, MelInit
from esc_tf.frontends.mstnet import MSTNet
from esc_tf.frontends.sublayers import list_sublayers

__all__ = [
    "FRONT_ENDS",
    "BandSum",
    "FilterPower",
    "HeuriNet",
    "LogMelSpectrogram",
    "MSTNet",
    "MelInit",
    "build_front_end",
    "list_sublayers",
    "with_computation",
    "with_tflite_computation",
]
