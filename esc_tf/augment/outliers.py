"""Outlier exposure: generated sounds in the place of clips, to be called none of the classes.

A network that has met nothing but its classes is as sure of noise and hum as of a dog. Training on
sounds from outside with the uniform distribution as their target teaches it to be unsure of them.

Source: Hendrycks et al., Deep Anomaly Detection with Outlier Exposure, ICLR 2019.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from esc_tf import frames
from esc_tf.audio.noise import POWER_EXPONENTS
from esc_tf.augment.chance import draw_chance, draw_uniform, split_seed
from esc_tf.augment.mixup import MIXUP_WEIGHT, build_batch_mix
from esc_tf.augment.waveform import NoiseGenerator
from esc_tf.config import AudioConfig, AugmentConfig, RecipeConfig
from esc_tf.config.augment import OutlierConfig

IS_OUTLIER = "is_outlier"
OUTLIER_SEED = "draw/outlier_seed"

Batch = dict[str, tf.Tensor]

# Pitches, bands and rates are the same at every sample rate as far as it holds them.
_TOP_HZ = 8000.0
_SILENCE_DBFS = (-90.0, -60.0)
_LAYER_DB = (-20.0, 0.0)
_ENVELOPE_DB = (-40.0, 0.0)
# What changes slowly (pitch, loudness) is computed on this grid, with straight lines in between.
_CONTROL_S = 0.01
_MAX_KNOTS = 24
# Below this a sound counts as silent and is not made louder.
_SMALLEST_RMS = 1e-12

# Splits of a seed.
_KIND, _COUNT, _LEVEL, _LAYERS = range(4)
_SOUND, _ENVELOPE, _HAS_ENVELOPE, _LAYER_LEVEL = range(4)
_A, _B, _C, _D, _E, _F = range(6)


def build_batch_augment(
    augment: AugmentConfig, audio: AudioConfig, recipe: RecipeConfig
) -> Callable[[Batch], Batch] | None:
    """Build all that is done to the waveforms of a batch together; None where nothing is.

    Wave mixing, then mixup on waveforms, then outliers, which so remain what they are.

    Args:
        augment: which kinds are configured.
        audio: rate and length of the waveforms.
        recipe: its loss decides what an outlier's target is.
    """
    mix = build_batch_mix(augment)
    if augment.outlier is None:
        return mix
    binary = recipe.loss == "binary_crossentropy"
    replace = build_outliers(augment.outlier, audio, binary)
    if mix is None:
        return replace
    return lambda batch: replace(mix(batch))


def build_outliers(
    config: OutlierConfig, audio: AudioConfig, multi_label: bool
) -> Callable[[Batch], Batch]:
    """Build what puts outliers into the rows of a batch for which they were drawn.

    Returns:
        ``batch -> batch``: the seeds are taken out, ``is_outlier`` (batch,) stays. Rows for which
        it holds have a generated ``waveform`` of full length, and a ``label`` of ``1 / classes``
        throughout, or of zeros with ``multi_label``. A second waveform for a teacher stays as it
        is, for its answer does not count. Mixup later on leaves these rows and those that would
        take from them as they are.
    """
    generate = OutlierGenerator(config, audio)

    def replace(batch: Batch) -> Batch:
        batch = dict(batch)
        seeds, is_outlier = batch.pop(OUTLIER_SEED), batch[IS_OUTLIER]
        rows = tf.where(is_outlier)
        sounds = tf.map_fn(
            generate,
            tf.gather_nd(seeds, rows),
            fn_output_signature=tf.TensorSpec([generate.num_samples], tf.float32),
        )
        batch["waveform"] = tf.tensor_scatter_nd_update(batch["waveform"], rows, sounds)
        batch["num_samples"] = tf.where(is_outlier, generate.num_samples, batch["num_samples"])
        label = batch["label"]
        target = 0.0 if multi_label else 1.0 / label.shape[1]
        batch["label"] = tf.where(is_outlier[:, tf.newaxis], target, label)
        if MIXUP_WEIGHT in batch:
            unmixed = is_outlier | tf.roll(is_outlier, 1, axis=0)
            batch[MIXUP_WEIGHT] = tf.where(unmixed, 1.0, batch[MIXUP_WEIGHT])
        return batch

    return replace


class OutlierGenerator:
    """One generated sound for each seed, of the kinds that a configuration names.

    Args:
        config: kinds, layers and levels.
        audio: rate and length.
    """

    def __init__(self, config: OutlierConfig, audio: AudioConfig) -> None:
        self.num_samples = frames.count_samples(audio.duration_s, audio.sample_rate_hz)
        self._config = config
        self._rate_hz, self._duration_s = audio.sample_rate_hz, audio.duration_s
        self._top_hz = min(_TOP_HZ, 0.45 * audio.sample_rate_hz)
        self._colors = list(POWER_EXPONENTS)
        self._noise = NoiseGenerator(self.num_samples, audio.sample_rate_hz, self._colors)
        self._hop = max(1, round(_CONTROL_S * audio.sample_rate_hz))
        self._hop_s = self._hop / audio.sample_rate_hz
        self._num_frames = -(-self.num_samples // self._hop)
        makers = {
            "noise": self._make_noise,
            "tone": self._make_tone,
            "chirp": self._make_chirp,
            "clicks": self._make_clicks,
            "bursts": self._make_bursts,
        }
        self._makers = [makers[kind] for kind in config.kinds if kind != "silence"]
        self._has_silence = "silence" in config.kinds
        # One graph for all layers, which takes a third of the time to trace.
        self._layer = tf.function(self._make_layer, autograph=False)

    def __call__(self, seed: tf.Tensor) -> tf.Tensor:
        """Return a sound ``(num_samples,)``, within ±1.

        Args:
            seed: ``(2,)`` int32; everything is drawn from it.
        """
        if not self._makers:
            return self._make_silence(seed)
        if not self._has_silence:
            return self._make_layers(seed)
        is_silence = draw_chance(split_seed(seed, _KIND), 1.0 / (1 + len(self._makers)))
        return tf.cond(
            is_silence, lambda: self._make_silence(seed), lambda: self._make_layers(seed)
        )

    def _make_silence(self, seed: tf.Tensor) -> tf.Tensor:
        def make_noise() -> tf.Tensor:
            noise = self._make_noise(split_seed(seed, _LAYERS))
            return _set_level(noise, draw_uniform(split_seed(seed, _LEVEL), *_SILENCE_DBFS))

        is_digital = draw_chance(split_seed(seed, _COUNT), 0.5)
        return tf.cond(is_digital, lambda: tf.zeros([self.num_samples]), make_noise)

    def _make_layers(self, seed: tf.Tensor) -> tf.Tensor:
        most = self._config.max_layers
        count = tf.random.stateless_uniform(
            [], split_seed(seed, _COUNT), minval=1, maxval=most + 1, dtype=tf.int32
        )
        sound = self._layer(split_seed(seed, _LAYERS))
        for number in range(1, most):
            own = split_seed(seed, _LAYERS + number)
            sound = tf.cond(
                number < count,
                lambda own=own, sound=sound: sound + self._layer(own),
                lambda sound=sound: sound,
            )
        return _set_level(sound, draw_uniform(split_seed(seed, _LEVEL), *self._config.level_dbfs))

    def _make_layer(self, seed: tf.Tensor) -> tf.Tensor:
        """One sound of a kind, half of the time with an envelope, at a level beside the others."""
        own = split_seed(seed, _SOUND)
        kind = tf.random.stateless_uniform(
            [], split_seed(own, _KIND), maxval=len(self._makers), dtype=tf.int32
        )
        own = split_seed(own, _LAYERS)
        makers = [lambda make=make: make(own) for make in self._makers]
        sound = tf.switch_case(kind, makers)

        def shape() -> tf.Tensor:
            level_db = self._draw_curve(split_seed(seed, _ENVELOPE), *_ENVELOPE_DB)
            return sound * self._expand(10.0 ** (level_db / 20.0))

        has_envelope = draw_chance(split_seed(seed, _HAS_ENVELOPE), 0.5)
        sound = tf.cond(has_envelope, shape, lambda: sound)
        return _set_rms(sound, draw_uniform(split_seed(seed, _LAYER_LEVEL), *_LAYER_DB))

    # --- kinds, each (seed) -> (num_samples,) of any scale

    def _make_noise(self, seed: tf.Tensor) -> tf.Tensor:
        return self._noise(split_seed(seed, _A), self._draw_color(split_seed(seed, _B)))

    def _make_tone(self, seed: tf.Tensor) -> tf.Tensor:
        """``exp(k (cos(phase) - 1))``: harmonics that fall smoothly, the later the larger k is."""
        pitch_hz = _draw_log_uniform(split_seed(seed, _A), 40.0, self._top_hz)
        octaves = _draw_log_uniform(split_seed(seed, _B), 0.001, 1.0)
        drift = self._draw_curve(split_seed(seed, _C), -1.0, 1.0)
        frequency_hz = tf.minimum(pitch_hz * 2.0 ** (octaves * drift), self._top_hz)
        # Harmonic n is about exp(-n^2 / 2k) of the first: -60 dB at half the rate.
        highest = tf.reduce_max(frequency_hz)
        steepest = tf.square(0.5 * self._rate_hz / highest) / 14.0
        bend = tf.minimum(_draw_log_uniform(split_seed(seed, _D), 0.1, 10.0), steepest)
        phase = self._integrate(frequency_hz)
        tone = tf.exp(bend * (tf.cos(2.0 * np.pi * phase) - 1.0))
        return tone - tf.reduce_mean(tone)

    def _make_chirp(self, seed: tf.Tensor) -> tf.Tensor:
        """Sweeps between two pitches, from 10 a second to one; one way or back and forth."""
        first_hz = _draw_log_uniform(split_seed(seed, _A), 100.0, self._top_hz)
        last_hz = _draw_log_uniform(split_seed(seed, _B), 100.0, self._top_hz)
        period_s = _draw_log_uniform(split_seed(seed, _C), 0.1, 5.0)
        time_s = tf.range(self._num_frames + 1, dtype=tf.float32) * self._hop_s
        start = draw_uniform(split_seed(seed, _D), 0.0, 1.0)
        progress = tf.math.floormod(time_s / period_s + start, 1.0)
        comes_back = draw_chance(split_seed(seed, _E), 0.5)
        progress = tf.where(comes_back, 1.0 - tf.abs(2.0 * progress - 1.0), progress)
        phase = self._integrate(first_hz * (last_hz / first_hz) ** progress)
        return tf.sin(2.0 * np.pi * phase)

    def _make_clicks(self, seed: tf.Tensor) -> tf.Tensor:
        """Decays of a tone or of a noise band, one after the other, more or less regularly."""
        decay_s = _draw_log_uniform(split_seed(seed, _A), 3e-4, 0.08)
        rate_hz, phase = self._draw_rate(split_seed(seed, _B), 0.5, 40.0)
        since_s = phase / self._expand(rate_hz)

        def ring() -> tf.Tensor:
            pitch_hz = _draw_log_uniform(split_seed(seed, _C), 100.0, self._top_hz)
            return tf.cos(2.0 * np.pi * pitch_hz * since_s)

        rings = draw_chance(split_seed(seed, _D), 0.5)
        carrier = tf.cond(rings, ring, lambda: self._make_band(split_seed(seed, _C)))
        return carrier * tf.exp(-since_s / decay_s)

    def _make_bursts(self, seed: tf.Tensor) -> tf.Tensor:
        """A noise band that is on for a part of each period."""
        _, phase = self._draw_rate(split_seed(seed, _A), 0.3, 12.0)
        share = draw_uniform(split_seed(seed, _B), 0.1, 0.7)
        is_on = tf.cast(phase[:: self._hop] < share, tf.float32)
        gate = self._expand(tf.concat([is_on, is_on[-1:]], axis=0))
        return self._make_band(split_seed(seed, _C)) * gate

    # --- what they are made of

    def _make_band(self, seed: tf.Tensor) -> tf.Tensor:
        center_hz = _draw_log_uniform(split_seed(seed, _A), 80.0, self._top_hz)
        half_octaves = draw_uniform(split_seed(seed, _B), 0.15, 1.5)
        band_hz = (center_hz * 2.0**-half_octaves, center_hz * 2.0**half_octaves)
        return self._noise(split_seed(seed, _C), self._draw_color(split_seed(seed, _D)), band_hz)

    def _draw_color(self, seed: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform([], seed, maxval=len(self._colors), dtype=tf.int32)

    def _draw_rate(
        self, seed: tf.Tensor, low_hz: float, high_hz: float
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """A rate that drifts, on the control grid, and its phase in cycles, in [0, 1)."""
        # At the slowest there is a whole period in the clip, so that something is heard.
        low_hz = max(low_hz, 2.0 / self._duration_s)
        rate_hz = _draw_log_uniform(split_seed(seed, _A), low_hz, max(low_hz, high_hz))
        octaves = _draw_log_uniform(split_seed(seed, _B), 0.001, 1.0)
        rate_hz *= 2.0 ** (octaves * self._draw_curve(split_seed(seed, _C), -1.0, 1.0))
        start = draw_uniform(split_seed(seed, _D), 0.0, 1.0)
        return rate_hz, tf.math.floormod(self._integrate(rate_hz) + start, 1.0)

    def _draw_curve(self, seed: tf.Tensor, low: float, high: float) -> tf.Tensor:
        """Straight lines between 2 to 24 random values, on the control grid ``(frames + 1,)``."""
        values = tf.random.stateless_uniform([_MAX_KNOTS], split_seed(seed, _A), low, high)
        count = tf.random.stateless_uniform(
            [], split_seed(seed, _B), minval=2, maxval=_MAX_KNOTS + 1, dtype=tf.int32
        )
        place = tf.linspace(0.0, tf.cast(count - 1, tf.float32), self._num_frames + 1)
        knot = tf.minimum(tf.cast(place, tf.int32), count - 2)
        share = place - tf.cast(knot, tf.float32)
        return (1.0 - share) * tf.gather(values, knot) + share * tf.gather(values, knot + 1)

    def _expand(self, curve: tf.Tensor) -> tf.Tensor:
        """Bring a curve ``(frames + 1,)`` from the control grid to samples."""
        share = tf.range(self._hop, dtype=tf.float32) / self._hop
        steps = curve[1:] - curve[:-1]
        lines = curve[:-1, tf.newaxis] + steps[:, tf.newaxis] * share
        return tf.reshape(lines, [-1])[: self.num_samples]

    def _integrate(self, frequency_hz: tf.Tensor) -> tf.Tensor:
        """The phase in cycles of a frequency on the control grid; whole cycles may be left out."""
        first, steps = frequency_hz[:-1], frequency_hz[1:] - frequency_hz[:-1]
        cycles = tf.cast(first + 0.5 * steps, tf.float64) * self._hop_s
        # float64, since a float32 sum over seconds would be noise in the phase.
        start = tf.math.floormod(tf.cumsum(cycles, exclusive=True), 1.0)
        share = tf.range(self._hop, dtype=tf.float32) / self._hop
        within = first[:, tf.newaxis] * share + steps[:, tf.newaxis] * (0.5 * share**2)
        phase = tf.cast(start, tf.float32)[:, tf.newaxis] + within * self._hop_s
        return tf.reshape(phase, [-1])[: self.num_samples]


def _draw_log_uniform(seed: tf.Tensor, low: float, high: float) -> tf.Tensor:
    return tf.exp(draw_uniform(seed, float(np.log(low)), float(np.log(high))))


def _set_rms(sound: tf.Tensor, level_db: tf.Tensor) -> tf.Tensor:
    rms = tf.sqrt(tf.reduce_mean(tf.square(sound)))
    return sound * 10.0 ** (level_db / 20.0) / tf.maximum(rms, _SMALLEST_RMS)


def _set_level(sound: tf.Tensor, level_dbfs: tf.Tensor) -> tf.Tensor:
    """Set the RMS level in dB of full scale, or as much of it as does not clip."""
    sound = _set_rms(sound, level_dbfs)
    return sound / tf.maximum(tf.reduce_max(tf.abs(sound)), 1.0)
