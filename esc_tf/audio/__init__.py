"""Sounds as NumPy arrays: reading, resampling, filter banks, noise, mixing. No TensorFlow."""

from esc_tf.audio.clip import Clip
from esc_tf.audio.filterbanks import mel_filterbank
from esc_tf.audio.mixing import mix_at_snr, power
from esc_tf.audio.noise import color_noise, generate_noise, noise_amplitudes
from esc_tf.audio.reading import read_clip
from esc_tf.audio.resampling import resample

__all__ = [
    "Clip",
    "color_noise",
    "generate_noise",
    "mel_filterbank",
    "mix_at_snr",
    "noise_amplitudes",
    "power",
    "read_clip",
    "resample",
]
