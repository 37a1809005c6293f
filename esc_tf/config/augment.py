"""Augmentation: each kind has a probability and a range; an absent kind is off."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from esc_tf.config.section import Section

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
NoiseColor = Literal["white", "pink", "brown", "blue", "violet"]
OutlierKind = Literal["silence", "noise", "tone", "chirp", "clicks", "bursts"]


def _check_range(low_high: tuple[float, float], name: str) -> None:
    if low_high[0] > low_high[1]:
        raise ValueError(f"{name} must be [low, high] with low <= high, got {list(low_high)}")


class NoiseConfig(Section):
    """Coloured noise at a signal-to-noise ratio drawn from ``snr_db`` = [low, high] in dB."""

    probability: Probability = 0.3
    colors: Annotated[list[NoiseColor], Field(min_length=1)] = ["white", "pink", "brown"]
    snr_db: tuple[float, float] = (15.0, 15.0)

    @model_validator(mode="after")
    def _ordered(self) -> NoiseConfig:
        _check_range(self.snr_db, "snr_db")
        return self


class SpeedConfig(Section):
    """Played faster or slower by a factor from ``factor`` = [low, high]: pitch and tempo change.

    Above 1 is faster. The factor's logarithm is uniform. The clip keeps its length: a faster one
    starts again, of a slower one the end is lost.
    """

    probability: Probability = 0.5
    factor: tuple[
        Annotated[float, Field(ge=0.25, le=4.0)], Annotated[float, Field(ge=0.25, le=4.0)]
    ] = (0.8, 1.25)

    @model_validator(mode="after")
    def _ordered(self) -> SpeedConfig:
        _check_range(self.factor, "factor")
        return self


class TimeShiftConfig(Section):
    """Shift by up to ``max_fraction`` of the clip in both directions; zeros move in."""

    probability: Probability = 0.3
    max_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2


class RollConfig(Section):
    """Circular shift of the clip's samples by up to ``max_shift_s`` in both directions.

    What leaves at one end comes in at the other; nothing moves into the padding behind a clip.
    Null: every shift of the clip is equally likely.
    """

    probability: Probability = 1.0
    max_shift_s: Annotated[float, Field(gt=0.0)] | None = None


class GainConfig(Section):
    """Gain drawn from ``gain_db`` = [low, high] in dB."""

    probability: Probability = 0.5
    gain_db: tuple[float, float] = (-6.0, 6.0)

    @model_validator(mode="after")
    def _ordered(self) -> GainConfig:
        _check_range(self.gain_db, "gain_db")
        return self


class FrequencyMaskConfig(Section):
    """``num_masks`` bands of up to ``max_bands`` neighbouring bins set to the clip's mean."""

    probability: Probability = 1.0
    num_masks: Annotated[int, Field(ge=1, le=16)] = 1
    max_bands: Annotated[int, Field(ge=1)] = 16


class TimeMaskConfig(Section):
    """``num_masks`` stretches of up to ``max_frames`` frames set to the clip's mean."""

    probability: Probability = 1.0
    num_masks: Annotated[int, Field(ge=1, le=16)] = 1
    max_frames: Annotated[int, Field(ge=1)] = 32


class WaveMixConfig(Section):
    """A second clip mixed into the waveform, before everything else that mixes.

    The means are taken away first. Weight ~ Beta(alpha, alpha), but at least one half, so that a
    clip stays the stronger one in its own row; labels are mixed alike. It may stand beside
    ``mixup`` on features, which then mixes these mixtures.
    """

    probability: Probability = 0.5
    alpha: Annotated[float, Field(gt=0.0, le=10.0)] = 2.0


class MixupConfig(Section):
    """Mixup with weight ~ Beta(alpha, alpha) of waveforms or features, labels mixed alike.

    ``at_least_half``: the weight or one less it, whichever is larger, so that a clip stays the
    stronger one in its own row.
    """

    probability: Probability = 1.0
    alpha: Annotated[float, Field(gt=0.0, le=10.0)] = 0.2
    on: Literal["waveform", "features"] = "features"
    at_least_half: bool = False


class OutlierConfig(Section):
    """Outlier exposure: a training clip gives way to a generated sound that is none of the classes.

    Its target, the teacher's answer included, is the uniform distribution over the classes, or no
    class at all with ``binary_crossentropy``. It takes the clip's place after everything else that
    happens to waveforms, and is not mixed with clips. [Hendrycks et al. 2019]

    ``kinds``, equally likely: ``silence`` (zeros, or noise of -90 to -60 dBFS), ``noise`` of five
    colours, ``tone`` (hum to whistle, harmonics, drift), ``chirp``, ``clicks`` (trains of 0.5 to
    40 Hz) and ``bursts`` of band-passed noise. Up to ``max_layers`` sounds other than silence lie
    over one another. ``level_dbfs`` = [low, high]: RMS of the whole, lowered where it would clip.
    """

    probability: Probability = 0.1
    kinds: Annotated[list[OutlierKind], Field(min_length=1)] = [
        "silence",
        "noise",
        "tone",
        "chirp",
        "clicks",
        "bursts",
    ]
    max_layers: Annotated[int, Field(ge=1, le=8)] = 3
    level_dbfs: tuple[float, float] = (-60.0, -6.0)

    @model_validator(mode="after")
    def _ordered(self) -> OutlierConfig:
        _check_range(self.level_dbfs, "level_dbfs")
        return self


class AugmentConfig(Section):
    """All kinds of augmentation. ``seed`` null: the experiment's seed."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    speed: SpeedConfig | None = None
    noise: NoiseConfig | None = None
    time_shift: TimeShiftConfig | None = None
    roll: RollConfig | None = None
    gain: GainConfig | None = None
    frequency_mask: FrequencyMaskConfig | None = None
    time_mask: TimeMaskConfig | None = None
    wave_mix: WaveMixConfig | None = None
    mixup: MixupConfig | None = None
    outlier: OutlierConfig | None = None
