"""What the network hears of one clip: raw mel, input, and what augmentation makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from esc_tf.augment.features import apply_feature_augment, build_feature_draw
from esc_tf.augment.mixup import WAVE_MIX_WEIGHT, build_wave_mix, mix_rows
from esc_tf.augment.waveform import build_waveform_augment
from esc_tf.config import AugmentConfig, Experiment
from esc_tf.config.augment import MixupConfig, WaveMixConfig
from esc_tf.evaluation.report.audio_snippets import encode_audio
from esc_tf.evaluation.report.figures.sounds import draw_spectrogram
from esc_tf.evaluation.report.findings import Findings, Sound, read_sounds
from esc_tf.evaluation.report.markup import (
    Html,
    Section,
    element,
    figure,
    grid,
    heading,
    inline,
    join,
    paragraph,
)
from esc_tf.frontends.log_mel import LogMelSpectrogram
from esc_tf.tasks.classifier import Classifier

# Mixup draws its weight anew for each clip; this one lets both sounds be seen.
MIXUP_WEIGHT = 0.7
_WAVEFORM_KINDS = ("time_shift", "noise", "gain", "roll")
_MASK_KINDS = ("frequency_mask", "time_mask")
_UNITS = {"db": "dB", "log": "ln power"}
_NORMALIZED_UNITS = {
    "standardize": "standard deviations",
    "min_max": "share of the clip's range",
    "affine": "network's units",
}


@dataclass(frozen=True)
class Stages:
    """A clip on its way into the network, each ``(time, frequency)``.

    Attributes:
        raw: the compressed mel of the whole waveform, padding included, without any limit.
        kept: the same limited below the clip's maximum and with its padding filled, not normalised.
        features: what the network gets.
    """

    raw: np.ndarray
    kept: np.ndarray
    features: np.ndarray

    @property
    def difference(self) -> np.ndarray:
        """What the limit and the filling changed, in the unit of the compressed mel."""
        return self.kept - self.raw


@dataclass(frozen=True)
class _Scale:
    """How spectrograms of one model are drawn."""

    frame_step_s: float
    band_centres_hz: Sequence[float]
    raw_unit: str
    input_unit: str


def hearing_section(
    model: Classifier, experiment: Experiment, findings: Findings, position: int
) -> Section | None:
    """Raw mel, input and difference of a clip; None for front ends that are no log-mel."""
    front_end = model.front_end
    if not isinstance(front_end, LogMelSpectrogram):
        return None
    record = findings.clips[position].record
    (sound,) = read_sounds([findings.clips[position]], experiment)
    heard = sound.waveform[: sound.num_samples]
    rate_hz = experiment.audio.sample_rate_hz
    scale = _find_scale(front_end)
    body: list[object] = [
        paragraph(
            f"Clip {record.clip_id} of class {record.label_name}, {len(heard) / rate_hz:.1f} s."
        ),
        element(
            "audio",
            controls=True,
            preload="metadata",
            src=encode_audio(heard, rate_hz),
            aria_label=f"{record.clip_id}, class {record.label_name}",
        ),
        heading("Raw mel and the network's input"),
        _draw_stages(front_end, sound, scale),
    ]
    rows = _draw_augmentations(model, experiment, findings, position, sound, scale)
    if rows:
        body += [
            heading("What augmentation changes"),
            paragraph(
                "Each kind alone, drawn once from the run's seed as if its turn had come; beside "
                "it the augmented input minus the clean one, in the network's units. Training "
                "draws every kind with its own probability, clip by clip and epoch by epoch."
            ),
            *rows,
        ]
    return Section("hearing", "What the network hears", join(body))


def _find_scale(front_end: LogMelSpectrogram) -> _Scale:
    settings, rate_hz = front_end.settings, front_end.sample_rate_hz
    bank = front_end.build_bank()
    bins_hz = np.arange(len(bank)) * rate_hz / settings.n_fft
    weight = bank.sum(axis=0)
    # A band narrower than a bin may be empty: it has no frequency to be labelled with.
    centres = np.divide(bins_hz @ bank, weight, out=np.full(len(weight), np.nan), where=weight > 0)
    unit = _UNITS[settings.compression]
    return _Scale(
        frame_step_s=settings.hop_length / rate_hz,
        band_centres_hz=centres.tolist(),
        raw_unit=unit,
        input_unit=_NORMALIZED_UNITS.get(settings.normalization, unit),
    )


def _draw(values: np.ndarray, scale: _Scale, unit: str, key: str, **options: Any) -> str:
    return draw_spectrogram(
        values,
        frame_step_s=scale.frame_step_s,
        band_centres_hz=scale.band_centres_hz,
        unit=unit,
        key=key,
        **options,
    )


def compute_stages(front_end: LogMelSpectrogram, sound: Sound) -> Stages:
    """Compute a sound's mel before and after preprocessing."""
    settings = {**front_end.settings.model_dump(exclude={"name"}), "normalization": "none"}
    limited = LogMelSpectrogram(front_end.sample_rate_hz, **settings)
    unlimited = LogMelSpectrogram(front_end.sample_rate_hz, **{**settings, "top_db": None})
    waveform, num_samples = sound.waveform[np.newaxis], np.array([sound.num_samples])
    return Stages(
        # Without the number of samples padding is sound like any other: digital silence.
        raw=np.asarray(unlimited(waveform))[0, :, :, 0],
        kept=np.asarray(limited(waveform, num_samples))[0, :, :, 0],
        features=np.asarray(front_end(waveform, num_samples))[0, :, :, 0],
    )


def _draw_stages(front_end: LogMelSpectrogram, sound: Sound, scale: _Scale) -> Html:
    stages = compute_stages(front_end, sound)
    raw, features, difference = stages.raw, stages.features, stages.difference
    largest = float(np.abs(difference).max())
    raw_unit, input_unit = scale.raw_unit, scale.input_unit
    raw_range = f"from {raw.min():.1f} to {raw.max():.1f} {raw_unit}"
    input_range = f"from {features.min():.2f} to {features.max():.2f} {input_unit}"
    change = (
        f"Largest change {largest:.1f} {raw_unit}."
        if largest > 0
        else "Here nothing: the clip has no padding and nothing lies below a limit."
    )
    return grid(
        [
            figure(
                _draw(raw, scale, raw_unit, "mel-raw"),
                alt=f"Raw mel spectrogram, {raw_range}",
                caption=inline(
                    element("strong", "Raw mel. "), f"It goes {raw_range}; padding is as it is."
                ),
            ),
            figure(
                _draw(features, scale, input_unit, "mel-input"),
                alt=f"The network's input, {input_range}",
                caption=inline(
                    element("strong", "Network's input. "),
                    _describe_input(front_end, stages.kept),
                ),
            ),
            figure(
                _draw(difference, scale, raw_unit, "mel-difference", is_difference=True),
                alt=f"Preprocessed minus raw mel; largest change {largest:.1f} {raw_unit}",
                caption=inline(
                    element("strong", "Difference. "),
                    f"Preprocessed minus raw, in {raw_unit} before the normalisation, which only "
                    "shifts and scales all values alike: what the limit below the clip's maximum "
                    f"and the filling of the padding changed. {change}",
                ),
            ),
        ]
    )


def _describe_input(front_end: LogMelSpectrogram, kept: np.ndarray) -> str:
    settings, unit = front_end.settings, _UNITS[front_end.settings.compression]
    limit = (
        "" if settings.top_db is None else f"limited to {settings.top_db:g} dB below its maximum, "
    )
    how = {
        "none": "as it is",
        "standardize": f"standardised by its own mean and deviation (about {kept.mean():.1f} and "
        f"{kept.std():.1f} {unit})",
        "min_max": "scaled to its own range",
        "affine": f"plus {settings.affine_offset:g}, divided by {settings.affine_scale:g}",
    }[settings.normalization]
    return f"The mel {limit}{how}."


def _draw_augmentations(
    model: Classifier,
    experiment: Experiment,
    findings: Findings,
    position: int,
    sound: Sound,
    scale: _Scale,
) -> list[Html]:
    augment = experiment.augment
    partner = _find_partner(findings, position)
    other = None if partner is None else read_sounds([findings.clips[partner]], experiment)[0]
    clean = _extract(model, sound.waveform, sound.num_samples)
    rows = []
    for name, augmented in augment_sound(model, experiment, sound, other).items():
        if name in ("mixup", "wave_mix") and partner is not None:
            explanation = _explain_mix(getattr(augment, name), findings, partner)
        else:
            explanation = _explain(getattr(augment, name))
            explanation += " Shown at its widest." if name in _MASK_KINDS else ""
        changed = augmented - clean
        limits = (float(clean.min()), float(clean.max()))
        words = name.replace("_", " ")
        unit = scale.input_unit
        rows.append(
            grid(
                [
                    figure(
                        _draw(augmented, scale, unit, f"augmented-{name}", limits=limits),
                        alt=f"The network's input with {words}",
                        caption=inline(element("strong", f"{words.capitalize()}. "), explanation),
                    ),
                    figure(
                        _draw(changed, scale, unit, f"changed-{name}", is_difference=True),
                        alt=f"Input with {words} minus the clean input; largest change "
                        f"{np.abs(changed).max():.2f} {unit}",
                        caption=f"Augmented minus clean; mean change {np.abs(changed).mean():.2f} "
                        f"{unit}.",
                    ),
                ]
            )
        )
    return rows


def augment_sound(
    model: Classifier, experiment: Experiment, sound: Sound, partner: Sound | None
) -> dict[str, np.ndarray]:
    """The input ``(time, frequency)`` with each configured kind of augmentation, one at a time.

    Args:
        model: its front end makes the features.
        experiment: says which kinds there are; draws come from its seed.
        sound: the clip.
        partner: the clip that is mixed in, ``1 - MIXUP_WEIGHT`` of it; None: nothing is.
    """
    augment, found = experiment.augment, {}
    for stream, kind in enumerate((*_WAVEFORM_KINDS, *_MASK_KINDS)):
        section = getattr(augment, kind)
        if section is None:
            continue
        alone = AugmentConfig(**{kind: section.model_copy(update={"probability": 1.0})})
        seed = tf.constant([experiment.seed, stream], tf.int32)
        change, draw = (
            build_waveform_augment(alone, experiment.audio),
            build_feature_draw(alone),
        )
        if change is not None:
            waveform = change(tf.constant(sound.waveform), tf.constant(sound.num_samples), seed)
            found[kind] = _extract(model, waveform.numpy(), sound.num_samples)
        elif draw is not None:
            ((key, masks),) = draw(seed).items()
            # At its widest: a mask of no width at all would be a fair draw and a poor picture.
            widest = section.max_bands if kind == "frequency_mask" else section.max_frames
            masks = tf.stack([tf.fill([section.num_masks], float(widest)), masks[:, 1]], axis=1)
            drawn = {key: masks[tf.newaxis]}
            clean = tf.constant(_extract(model, sound.waveform, sound.num_samples))
            batch = clean[tf.newaxis, ..., tf.newaxis]
            masked = apply_feature_augment(batch, tf.zeros([1, 1]), drawn, alone)[0]
            found[kind] = masked.numpy()[0, :, :, 0]
    if partner is None:
        return found
    weights, pair = tf.constant([MIXUP_WEIGHT, MIXUP_WEIGHT]), (sound, partner)
    wave_mix = build_wave_mix(augment)
    if wave_mix is not None:
        batch = {
            "waveform": tf.constant(np.stack([item.waveform for item in pair])),
            "num_samples": tf.constant([item.num_samples for item in pair]),
            "label": tf.eye(2),
            WAVE_MIX_WEIGHT: weights,
        }
        mixed_batch = wave_mix(batch)
        mixed, num_samples = (mixed_batch[key][0].numpy() for key in ("waveform", "num_samples"))
        found["wave_mix"] = _extract(model, mixed, num_samples)
    if augment.mixup is not None:
        # Row 0 is mixed with the last row, which here is the partner.
        if augment.mixup.on == "waveform":
            waveforms = tf.constant(np.stack([item.waveform for item in pair]))
            num_samples = max(item.num_samples for item in pair)
            mixed = mix_rows(waveforms, weights)[0].numpy()
            found["mixup"] = _extract(model, mixed, num_samples)
        else:
            rows = [_extract(model, item.waveform, item.num_samples) for item in pair]
            found["mixup"] = mix_rows(tf.constant(np.stack(rows)), weights)[0].numpy()
    return found


def _explain(section: Any) -> str:
    """The settings of one kind of augmentation as a sentence."""
    words = [f"Probability {section.probability:g} in training"]
    for key, value in section.model_dump(exclude={"probability"}).items():
        if isinstance(value, tuple):
            shown = f"{value[0]:g} to {value[1]:g}" if value[0] != value[1] else f"{value[0]:g}"
        elif value is None:
            words.append(f"{key.removesuffix('_s').replace('_', ' ')}: none")
            continue
        else:
            shown = ", ".join(value) if isinstance(value, list) else str(value)
        unit = next((unit for unit in ("dB", "s") if key.endswith(f"_{unit.lower()}")), "")
        quantity = key.removesuffix(f"_{unit.lower()}").replace("_", " ").replace("snr", "SNR")
        words.append(f"{quantity} {shown} {unit}".rstrip())
    return "; ".join(words) + "."


def _find_partner(findings: Findings, position: int) -> int | None:
    """The next clip, of another class if there is one."""
    others = np.roll(np.arange(len(findings.clips)), -position - 1)[:-1]
    if not len(others):
        return None
    different = others[findings.label_ids[others] != findings.label_ids[position]]
    return int(different[0] if len(different) else others[0])


def _explain_mix(mix: MixupConfig | WaveMixConfig, findings: Findings, partner: int) -> str:
    record = findings.clips[partner].record
    on = mix.on if isinstance(mix, MixupConfig) else "waveform"
    return (
        f"{MIXUP_WEIGHT:.0%} this clip and {1 - MIXUP_WEIGHT:.0%} {record.clip_id} "
        f"({record.label_name}), mixed as {on}; training mixes with probability "
        f"{mix.probability:g} and draws the weight from Beta({mix.alpha:g}, {mix.alpha:g})."
    )


def _extract(model: Classifier, waveform: np.ndarray, num_samples: int) -> np.ndarray:
    """The features ``(time, frequency)`` of one waveform."""
    features = model.extract_features(waveform[np.newaxis], np.array([num_samples]))
    return np.asarray(features)[0, :, :, 0]
