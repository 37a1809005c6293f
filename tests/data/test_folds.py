from __future__ import annotations

from collections import Counter

import tensorflow as tf
from absl.testing import parameterized

from esc_tf.data.folds import split_clips
from esc_tf.errors import DataError
from tests.data.folder import make_clip


def make_clips(num_classes=3, folds=5, per_fold=8, per_recording=1):
    """Clips named class-fold-number, ``per_recording`` neighbours from one recording."""
    return [
        make_clip(f"{c}-{f}-{n}", c, f, f"rec-{c}-{f}-{n // per_recording}")
        for f in range(1, folds + 1)
        for c in range(num_classes)
        for n in range(per_fold)
    ]


def names(clips):
    return [clip.record.clip_id for clip in clips]


class SplitTest(tf.test.TestCase, parameterized.TestCase):
    def test_folds_keep_the_order_of_clips(self):
        clips = make_clips()
        split = split_clips(clips, 5, 4, seed=0)
        self.assertEqual(list(split.test), [c for c in clips if c.record.fold == 5])
        self.assertEqual(list(split.validation), [c for c in clips if c.record.fold == 4])
        self.assertEqual(list(split.train), [c for c in clips if c.record.fold <= 3])
        self.assertEmpty(split.dropped)

    def test_nothing_held_out(self):
        clips = make_clips()
        split = split_clips(clips, None, None, seed=0)
        self.assertEqual(list(split.train), clips)
        self.assertEmpty(split.validation + split.test)

    @parameterized.parameters((0.2, 1), (0.25, 2), (0.1, 1), (0.5, 4), (0.2, 4))
    def test_fraction_is_by_class_and_keeps_recordings_together(self, fraction, per_recording):
        clips = make_clips(per_recording=per_recording)
        split = split_clips(clips, 5, fraction, seed=3)
        self.assertCountEqual(names(split.train + split.validation + split.test), names(clips))
        self.assertEqual({clip.record.fold for clip in split.test}, {5})
        self.assertNotIn(5, {clip.record.fold for clip in split.validation})
        counts = Counter(clip.record.label_id for clip in split.validation)
        for label_id in range(3):
            self.assertLessEqual(abs(counts[label_id] - fraction * 32), per_recording / 2)
        sources = [{c.record.source_id for c in part} for part in (split.train, split.validation)]
        self.assertEmpty(sources[0] & sources[1])

    def test_fraction_follows_the_seed_and_not_the_order_of_clips(self):
        clips = make_clips()
        first = split_clips(clips, 5, 0.2, seed=0).validation
        again = split_clips(clips[::-1], 5, 0.2, seed=0).validation
        self.assertCountEqual(names(first), names(again))
        other = split_clips(clips, 5, 0.2, seed=1).validation
        self.assertNotEqual(names(first), names(other))

    def test_fraction_keeps_recordings_with_several_classes_together(self):
        clips = [
            make_clip(f"{c}-{n}", c, 1 + n % 4, f"shared-{n}") for c in range(3) for n in range(20)
        ]
        split = split_clips(clips, None, 0.25, seed=0)
        self.assertEqual(Counter(c.record.label_id for c in split.validation), {0: 5, 1: 5, 2: 5})
        sources = [{c.record.source_id for c in part} for part in (split.train, split.validation)]
        self.assertEmpty(sources[0] & sources[1])

    def test_fraction_keeps_identical_sounds_together(self):
        clips = [make_clip(f"{n}", 0, 1, f"rec{n}", f"same-{n // 4}") for n in range(40)]
        split = split_clips(clips, None, 0.3, seed=0)
        digests = [{c.content_digest for c in part} for part in (split.train, split.validation)]
        self.assertLen(split.validation, 12)
        self.assertEmpty(digests[0] & digests[1])

    def test_fraction_never_takes_a_class_away_from_training(self):
        clips = make_clips(per_fold=1, folds=4) + [make_clip("rare", 3, 1)]
        split = split_clips(clips, None, 0.9, seed=0)
        self.assertEqual({clip.record.label_id for clip in split.train}, {0, 1, 2, 3})

    def test_fraction_that_leaves_nothing(self):
        clips = [make_clip(f"{c}", c) for c in range(3)]
        with self.assertRaisesRegex(DataError, "data.validation: 0.2 leaves no clip"):
            split_clips(clips, None, 0.2, seed=0)

    @parameterized.parameters(
        (6, None, "data.test_fold: fold 6 does not exist; the folds are 1, 2, 3, 4, 5"),
        (5, 9, "data.validation: fold 9 does not exist"),
        (5, 5, "data.validation: fold 5 is also data.test_fold"),
    )
    def test_folds_that_cannot_be(self, test_fold, validation, message):
        with self.assertRaisesRegex(DataError, message):
            split_clips(make_clips(), test_fold, validation, seed=0)

    def test_both_folds_wrong_are_both_named(self):
        with self.assertRaises(DataError) as caught:
            split_clips(make_clips(), 7, 8, seed=0)
        self.assertLen(caught.exception.problems, 2)

    @parameterized.parameters(
        ({"source": "rec-0-5-0"}, "recording rec-0-5-0"),
        ({"digest": "digest of 0-5-0"}, "same samples"),
    )
    def test_leak_into_the_test(self, extra, message):
        clips = [*make_clips(), make_clip("leak", 0, 1, **extra)]
        for validation in (None, 0.2, 4):
            with self.assertRaisesRegex(DataError, f"training and test: leak and 0-5-0.*{message}"):
                split_clips(clips, 5, validation, seed=0)
            split = split_clips(clips, 5, validation, seed=0, on_leak="drop")
            self.assertEqual(names(split.dropped), ["leak"])
            self.assertNotIn("leak", names(split.train + split.validation))
            self.assertIn("0-5-0", names(split.test))

    def test_leak_into_a_validation_fold(self):
        clips = [*make_clips(), make_clip("leak", 0, 1, "rec-0-4-0")]
        with self.assertRaisesRegex(DataError, "between training and validation: leak and 0-4-0"):
            split_clips(clips, 5, 4, seed=0)
        split = split_clips(clips, 5, 4, seed=0, on_leak="drop")
        self.assertEqual(names(split.dropped), ["leak"])
        self.assertIn("0-4-0", names(split.validation))
        # With a fraction they can be kept together, and none is a leak.
        split = split_clips(clips, 5, 0.2, seed=0)
        self.assertEqual("leak" in names(split.train), "0-4-0" in names(split.train))

    def test_many_leaks_are_counted(self):
        clips = make_clips() + [make_clip(f"x{n}", 0, 1, f"rec-0-5-{n % 8}") for n in range(30)]
        with self.assertRaisesRegex(DataError, "and 20 more; .*data.on_leak"):
            split_clips(clips, 5, None, seed=0)

    def test_class_that_only_the_test_has(self):
        clips = [*make_clips(), make_clip("alone", 7, 5)]
        with self.assertRaisesRegex(DataError, "no clip to train on is left of class7"):
            split_clips(clips, 5, None, seed=0)


if __name__ == "__main__":
    tf.test.main()
