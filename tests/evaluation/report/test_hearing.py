"""What the network hears: stages and augmentation of one clip, against what they must be."""

from __future__ import annotations

import tempfile

import numpy as np
import tensorflow as tf

from esc_tf.evaluation.report.findings import Sound
from esc_tf.evaluation.report.sections.hearing import (
    MIXUP_WEIGHT,
    augment_sound,
    compute_stages,
)
from esc_tf.tasks.classifier import Classifier, build_classifier
from tests.tiny import tiny_experiment

_ALL_KINDS = {
    "noise": {"probability": 0.0, "snr_db": [0.0, 0.0]},
    "time_shift": {"probability": 0.0, "max_fraction": 0.5},
    "gain": {"probability": 0.0, "gain_db": [6.0, 6.0]},
    "frequency_mask": {"probability": 0.0, "max_bands": 8},
    "time_mask": {"probability": 0.0, "max_frames": 16},
    "mixup": {"probability": 0.0},
    "roll": {"probability": 0.0},
    "wave_mix": {"probability": 0.0},
}


def make_sound(hz: float, num_samples: int = 4000) -> Sound:
    waveform = np.zeros(4000, np.float32)
    waveform[:num_samples] = 0.1 * np.sin(2 * np.pi * hz * np.arange(num_samples) / 8000)
    return Sound(waveform, num_samples)


class HearingTest(tf.test.TestCase):
    def build(self, **front_end: object) -> tuple[object, Classifier]:
        experiment = tiny_experiment(tempfile.gettempdir(), front_end=front_end, augment=_ALL_KINDS)
        return experiment, build_classifier(experiment, ("a", "b"))

    def test_difference_is_what_the_limit_and_the_filling_changed(self) -> None:
        _, model = self.build(normalization="standardize", top_db=30.0)
        stages = compute_stages(model.front_end, make_sound(1000.0, 2000))
        num_valid = 1 + 2000 // 128
        raw, kept = stages.raw[:num_valid], stages.kept[:num_valid]
        self.assertAllClose(kept, np.maximum(raw, raw.max() - 30.0), atol=1e-3)
        # Raising what lies too low: the difference is never negative among valid frames.
        self.assertAllClose(raw + stages.difference[:num_valid], kept)
        self.assertGreater(stages.difference[:num_valid].max(), 1.0)
        self.assertAllClose(
            stages.kept[num_valid:], np.full_like(stages.kept[num_valid:], kept.min()), atol=1e-3
        )
        self.assertAllClose(stages.raw[-1], np.full(24, -100.0), atol=1e-3)
        # The normalisation shifts and scales alone.
        expected = (kept - kept.mean()) / kept.std()
        self.assertAllClose(stages.features[:num_valid], expected, atol=1e-3)

    def test_without_limit_and_padding_nothing_is_changed(self) -> None:
        _, model = self.build(normalization="standardize")
        stages = compute_stages(model.front_end, make_sound(1000.0))
        self.assertAllEqual(stages.kept, stages.raw)

    def test_every_configured_kind_acts_alone_whatever_its_probability(self) -> None:
        experiment, model = self.build()
        sound, partner = make_sound(500.0), make_sound(2500.0)
        # A tone that goes on for ever is the same when it is rolled by whole periods.
        sound = Sound(sound.waveform * np.geomspace(1.0, 1e-3, 4000, dtype=np.float32), 4000)
        found = augment_sound(model, experiment, sound, partner)
        self.assertCountEqual(found, _ALL_KINDS)
        clean = compute_stages(model.front_end, sound).features
        other = compute_stages(model.front_end, partner).features
        for kind, augmented in found.items():
            with self.subTest(kind):
                self.assertEqual(augmented.shape, clean.shape)
                self.assertGreater(np.abs(augmented - clean).max(), 1.0)
        loud = clean > clean.max() - 40.0
        self.assertAllClose(found["gain"][loud], clean[loud] + 6.0, atol=0.05)
        self.assertAllClose(
            found["mixup"], MIXUP_WEIGHT * clean + (1 - MIXUP_WEIGHT) * other, atol=1e-3
        )
        means = [item.waveform - item.waveform.mean() for item in (sound, partner)]
        mixed = MIXUP_WEIGHT * means[0] + (1 - MIXUP_WEIGHT) * means[1]
        expected = compute_stages(model.front_end, Sound(mixed, 4000)).features
        self.assertAllClose(found["wave_mix"], expected, atol=1e-3)
        masked_bands = np.all(found["frequency_mask"] == found["frequency_mask"][:1], axis=0)
        self.assertEqual(masked_bands.sum(), 8)
        self.assertAllEqual(found["frequency_mask"][:, ~masked_bands], clean[:, ~masked_bands])
        # The same seed draws the same.
        again = augment_sound(model, experiment, sound, partner)
        for kind, augmented in found.items():
            self.assertAllEqual(augmented, again[kind])

    def test_kinds_that_are_not_configured_are_not_shown(self) -> None:
        experiment = tiny_experiment(
            tempfile.gettempdir(), augment={**dict.fromkeys(_ALL_KINDS), "mixup": {}}
        )
        model = build_classifier(experiment, ("a", "b"))
        self.assertEqual(augment_sound(model, experiment, make_sound(500.0), None), {})


if __name__ == "__main__":
    tf.test.main()
