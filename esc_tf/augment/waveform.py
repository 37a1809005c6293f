"""Augmentation of one waveform: speed, time shift, roll, noise, gain, in this order.

The random draw is apart from its application: `change_speed`, `shift_waveform`, `roll_waveform`,
`mix_noise` and `apply_gain` do what they are told, `build_waveform_augment` draws. The noise comes
after the shift, so that it also fills what the shift emptied; the gain comes last, so that it does
not change the SNR.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy.fft
import tensorflow as tf

from esc_tf import frames
from esc_tf.audio.noise import noise_amplitudes
from esc_tf.augment.chance import draw_chance, draw_uniform, split_seed
from esc_tf.config import AudioConfig, AugmentConfig
from esc_tf.config.augment import GainConfig, NoiseConfig, RollConfig, SpeedConfig, TimeShiftConfig

# (waveform (N,), num_samples, seed (2,)) -> waveform (N,)
WaveformAugment = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]

# Below this the noise is as strong as here. Without a limit brown noise is nothing but rumble that
# nobody hears: in a clip of 5 s most of its power lies below 1 Hz.
_FLAT_BELOW_HZ = 20.0

# The first split of a clip's seed; the numbers are fixed, so that switching one kind off does not
# change the draws of another.
_SHIFT, _NOISE, _GAIN, _ROLL, _SPEED = range(5)
# The second split.
_CHANCE, _VALUE, _COLOR, _SAMPLES = range(4)


def change_speed(waveform: tf.Tensor, num_samples: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Play the valid samples at another speed: ``y[t] = x(t factor)``, in a circle.

    Between samples it interpolates by cubic Hermite splines with Catmull-Rom tangents. Nothing is
    filtered: what a factor above 1 lifts above half the sample rate comes back mirrored.

    Args:
        waveform: ``(samples,)``.
        num_samples: valid samples, int32; those behind stay where they are.
        factor: above 1 is faster.
    """
    valid = waveform[:num_samples]
    # In single precision the fractions of late positions would be noise.
    positions = tf.range(tf.cast(num_samples, tf.float64), dtype=tf.float64) * tf.cast(
        factor, tf.float64
    )
    whole = tf.floor(positions)
    t = tf.cast(positions - whole, waveform.dtype)
    index = tf.cast(whole, tf.int32)
    before, here, after, later = (
        tf.gather(valid, tf.math.floormod(index + step, num_samples)) for step in (-1, 0, 1, 2)
    )
    curve = here + 0.5 * t * (
        after
        - before
        + t
        * (
            2.0 * before
            - 5.0 * here
            + 4.0 * after
            - later
            + t * (3.0 * (here - after) + later - before)
        )
    )
    return tf.ensure_shape(tf.concat([curve, waveform[num_samples:]], axis=0), waveform.shape)


def shift_waveform(waveform: tf.Tensor, num_samples: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """Shift the valid samples: ``y[t] = x[t - shift]``, zero where ``x`` has no such sample.

    Nothing wraps around, and nothing moves into the padding behind ``num_samples``.

    Args:
        waveform: ``(samples,)``, zero from ``num_samples`` on.
        num_samples: valid samples, int32.
        shift: samples, int32; positive delays the sound.
    """
    length = tf.shape(waveform)[0]
    later = tf.maximum(shift, 0)
    earlier = tf.maximum(-shift, 0)
    # Only what stays within the valid samples is kept before the zeros move in.
    kept = waveform[earlier : tf.maximum(num_samples - later, earlier)]
    shifted = tf.pad(kept, [[later, tf.maximum(length - later - tf.shape(kept)[0], 0)]])[:length]
    return tf.ensure_shape(shifted, waveform.shape)


def roll_waveform(waveform: tf.Tensor, num_samples: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """Shift the valid samples in a circle: ``y[t] = x[(t - shift) mod num_samples]``.

    Args:
        waveform: ``(samples,)``.
        num_samples: valid samples, int32; those behind stay where they are.
        shift: samples, int32; positive delays the sound.
    """
    rolled = tf.roll(waveform[:num_samples], shift, axis=0)
    return tf.ensure_shape(tf.concat([rolled, waveform[num_samples:]], axis=0), waveform.shape)


def mix_noise(
    waveform: tf.Tensor, noise: tf.Tensor, num_samples: tf.Tensor, snr_db: tf.Tensor
) -> tf.Tensor:
    """Add noise at a signal-to-noise ratio: ``x + a * n``, ``a = sqrt(Px / Pn * 10^(-SNR/10))``.

    Powers are mean squares over the valid samples, and noise is added to these alone. A silent
    waveform or silent noise gives the waveform unchanged.

    Args:
        waveform: ``(samples,)``.
        noise: ``(samples,)``.
        num_samples: valid samples, int32.
        snr_db: the ratio in dB.
    """
    valid = tf.cast(tf.range(tf.shape(waveform)[0]) < num_samples, waveform.dtype)
    noise = noise * valid
    signal_energy = tf.reduce_sum(tf.square(waveform * valid))
    noise_energy = tf.reduce_sum(tf.square(noise))
    ratio = tf.math.divide_no_nan(signal_energy, noise_energy)
    return waveform + noise * tf.sqrt(ratio * 10.0 ** (-snr_db / 10.0))


def apply_gain(waveform: tf.Tensor, gain_db: tf.Tensor) -> tf.Tensor:
    """Scale by ``10^(gain_db / 20)``; the result may exceed ±1 and is not clipped."""
    return waveform * 10.0 ** (gain_db / 20.0)


class NoiseGenerator:
    """Coloured Gaussian noise made in the frequency domain: one inverse FFT, no forward one.

    The spectrum is complex Gaussian times the colour's amplitudes; its inverse transform is cut to
    ``num_samples``. The FFT is as long as the next number of small factors. The slopes of
    `esc_tf.audio.noise.noise_amplitudes` hold from 20 Hz, the lowest audible frequency, upwards.

    Args:
        num_samples: length of the noise.
        sample_rate_hz: rate of the noise.
        colors: their names; a colour is chosen by position.
    """

    def __init__(self, num_samples: int, sample_rate_hz: int, colors: Sequence[str]) -> None:
        self.num_samples = num_samples
        self._fft_length = scipy.fft.next_fast_len(max(num_samples, 2), real=True)
        flat_below = _FLAT_BELOW_HZ / sample_rate_hz
        self._bin_hz = sample_rate_hz / self._fft_length
        amplitudes = [noise_amplitudes(self._fft_length, color, flat_below) for color in colors]
        self._amplitudes = tf.constant(np.stack(amplitudes), tf.float32)

    def __call__(
        self,
        seed: tf.Tensor,
        color_id: tf.Tensor,
        band_hz: tuple[tf.Tensor, tf.Tensor] | None = None,
    ) -> tf.Tensor:
        """Return noise ``(num_samples,)``; its scale is arbitrary.

        Args:
            seed: ``(2,)`` int32.
            color_id: position in ``colors``, int32.
            band_hz: lower and upper limit of what is left of the noise; None: all of it.
        """
        amplitudes = tf.gather(self._amplitudes, color_id)
        if band_hz is not None:
            bins_hz = tf.range(self._fft_length // 2 + 1, dtype=tf.float32) * self._bin_hz
            inside = (bins_hz >= band_hz[0]) & (bins_hz <= band_hz[1])
            amplitudes = tf.where(inside, amplitudes, tf.zeros_like(amplitudes))
        parts = tf.random.stateless_normal([2, self._fft_length // 2 + 1], seed) * amplitudes
        noise = tf.signal.irfft(tf.complex(parts[0], parts[1]), [self._fft_length])
        return noise[: self.num_samples]


def build_waveform_augment(augment: AugmentConfig, audio: AudioConfig) -> WaveformAugment | None:
    """Build the augmentation of one clip, or None where no kind for waveforms is configured.

    Returns:
        ``(waveform (N,), num_samples, seed (2,)) -> waveform (N,)``. What is not drawn is not
        computed.
    """
    steps: list[WaveformAugment] = []
    if augment.speed is not None:
        steps.append(_build_speed(augment.speed))
    if augment.time_shift is not None:
        steps.append(_build_shift(augment.time_shift))
    if augment.roll is not None:
        steps.append(_build_roll(augment.roll, audio))
    if augment.noise is not None:
        steps.append(_build_noise(augment.noise, audio))
    if augment.gain is not None:
        steps.append(_build_gain(augment.gain))
    if not steps:
        return None

    def augment_waveform(waveform: tf.Tensor, num_samples: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        for step in steps:
            waveform = step(waveform, num_samples, seed)
        return waveform

    return augment_waveform


def _build_speed(config: SpeedConfig) -> WaveformAugment:
    lowest, highest = (math.log(factor) for factor in config.factor)

    def change_sometimes(waveform: tf.Tensor, num_samples: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        seed = split_seed(seed, _SPEED)

        def change() -> tf.Tensor:
            factor = tf.exp(draw_uniform(split_seed(seed, _VALUE), lowest, highest))
            return change_speed(waveform, num_samples, factor)

        drawn = draw_chance(split_seed(seed, _CHANCE), config.probability)
        return tf.cond(drawn, change, lambda: waveform)

    return change_sometimes


def _build_shift(config: TimeShiftConfig) -> WaveformAugment:
    def shift_sometimes(waveform: tf.Tensor, num_samples: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        seed = split_seed(seed, _SHIFT)

        def shift() -> tf.Tensor:
            furthest = tf.cast(num_samples, tf.float32) * config.max_fraction
            drawn = draw_uniform(split_seed(seed, _VALUE), -1.0, 1.0) * furthest
            # The cast rounds towards zero, so that the furthest shift is never exceeded.
            return shift_waveform(waveform, num_samples, tf.cast(drawn, tf.int32))

        drawn = draw_chance(split_seed(seed, _CHANCE), config.probability)
        return tf.cond(drawn, shift, lambda: waveform)

    return shift_sometimes


def _build_roll(config: RollConfig, audio: AudioConfig) -> WaveformAugment:
    furthest = None
    if config.max_shift_s is not None:
        furthest = frames.count_samples(config.max_shift_s, audio.sample_rate_hz)

    def roll_sometimes(waveform: tf.Tensor, num_samples: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        seed = split_seed(seed, _ROLL)

        def roll() -> tf.Tensor:
            low, high = (0, num_samples) if furthest is None else (-furthest, furthest + 1)
            low, high = (tf.cast(bound, tf.float64) for bound in (low, high))
            # A fraction and not an integer, so that the same seed gives the same shift in seconds
            # at any rate: a student and its teacher may hear one clip at two rates.
            fraction = tf.random.stateless_uniform([], split_seed(seed, _VALUE), dtype=tf.float64)
            shift = tf.floor(low + fraction * (high - low))
            return roll_waveform(waveform, num_samples, tf.cast(shift, tf.int32))

        drawn = draw_chance(split_seed(seed, _CHANCE), config.probability)
        return tf.cond(drawn, roll, lambda: waveform)

    return roll_sometimes


def _build_noise(config: NoiseConfig, audio: AudioConfig) -> WaveformAugment:
    num_samples_total = frames.count_samples(audio.duration_s, audio.sample_rate_hz)
    generate = NoiseGenerator(num_samples_total, audio.sample_rate_hz, config.colors)
    num_colors = len(config.colors)

    def add_sometimes(waveform: tf.Tensor, num_samples: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        seed = split_seed(seed, _NOISE)

        def add() -> tf.Tensor:
            color_id = tf.random.stateless_uniform(
                [], split_seed(seed, _COLOR), maxval=num_colors, dtype=tf.int32
            )
            snr_db = draw_uniform(split_seed(seed, _VALUE), *config.snr_db)
            noise = generate(split_seed(seed, _SAMPLES), color_id)
            return mix_noise(waveform, noise, num_samples, snr_db)

        drawn = draw_chance(split_seed(seed, _CHANCE), config.probability)
        return tf.cond(drawn, add, lambda: waveform)

    return add_sometimes


def _build_gain(config: GainConfig) -> WaveformAugment:
    def scale_sometimes(waveform: tf.Tensor, num_samples: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        del num_samples
        seed = split_seed(seed, _GAIN)

        def scale() -> tf.Tensor:
            return apply_gain(waveform, draw_uniform(split_seed(seed, _VALUE), *config.gain_db))

        drawn = draw_chance(split_seed(seed, _CHANCE), config.probability)
        return tf.cond(drawn, scale, lambda: waveform)

    return scale_sometimes
