"""What a model says of clips, and the clips themselves, in their own order."""

from __future__ import annotations

import shutil
import tempfile

import numpy as np
import tensorflow as tf

from esc_tf.data import load_waveform
from esc_tf.errors import DataError, EscTfError
from esc_tf.evaluation.report.findings import Findings, classify_clips, find_clips, read_sounds
from esc_tf.tasks.classifier import build_classifier
from tests.tiny import tiny_experiment


class FindingsTest(tf.test.TestCase):
    def setUp(self) -> None:
        super().setUp()
        cache = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, cache)
        self.experiment = tiny_experiment(cache, data={"classes": ["warble", "clicks"]})
        self.model = build_classifier(self.experiment, ("warble", "clicks"))

    def test_clips_of_a_part_and_nothing_else(self) -> None:
        self.assertEqual({clip.record.fold for clip in find_clips(self.experiment, "test")}, {5})
        self.assertEqual(
            {clip.record.fold for clip in find_clips(self.experiment, "validation")}, {4}
        )

    def test_every_clip_gets_its_own_scores_and_its_own_sound(self) -> None:
        clips = find_clips(self.experiment, "test")
        found = classify_clips(self.model, self.experiment, "test", clips)
        self.assertEqual(found.label_ids.tolist(), [clip.record.label_id for clip in clips])
        sounds = read_sounds(clips[::-1], self.experiment)
        for place, clip in enumerate(clips):
            sound = sounds[len(clips) - 1 - place]
            self.assertAllEqual(sound.waveform, load_waveform(clip, 8000))
            alone = self.model(sound.waveform[np.newaxis])["probabilities"][0]
            # A batch is summed in another order; measured below 1e-6.
            self.assertAllClose(alone, found.probabilities[place], atol=1e-5)
        self.assertEqual(read_sounds([], self.experiment), [])

    def test_errors_are_sorted_by_confidence(self) -> None:
        scores = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
        found = Findings("test", (), np.array([1, 1, 1, 0]), scores)
        self.assertEqual(found.errors, [1, 3, 0])

    def test_other_classes_and_broken_weights_are_refused(self) -> None:
        clips = find_clips(self.experiment, "test")
        other = build_classifier(self.experiment, ("clicks", "warble"))
        with self.assertRaisesRegex(DataError, "the data has changed"):
            classify_clips(other, self.experiment, "test", clips)
        self.model.head.layers[-2].bias.assign([np.nan, 0.0])
        with self.assertRaisesRegex(EscTfError, "not finite"):
            classify_clips(self.model, self.experiment, "test", clips)


if __name__ == "__main__":
    tf.test.main()
