"""Batches of segments, against the cut and normalised samples of the decoded files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from esc_tf.config import AudioConfig, Esc50DataConfig
from esc_tf.data import (
    Segment,
    build_pipeline,
    cut_clips,
    load_clips,
    load_waveform,
    split_clips,
    take_one_each,
)
from esc_tf.data.segments import cut_split
from esc_tf.errors import DataError
from tests.data.folder import FolderTestCase, write_folder

# Clips last 0.1 to 0.2 s, 800 to 1599 samples: some of them two segments and more, some one.
AUDIO = AudioConfig.model_validate(
    {"sample_rate_hz": 8000, "segments": {"num_samples": 900, "hop_samples": 300}}
)


class SegmentsTest(FolderTestCase):
    def setUp(self) -> None:
        super().setUp()
        write_folder(self.root / "set", folds=3, clips=4)
        # Silence of both kinds: in the middle of a clip, and all of one.
        self.half, self.mute = sorted((self.root / "set" / "audio").glob("*.wav"))[:2]
        loud = np.random.default_rng(1).uniform(-0.5, 0.5, 900)
        soundfile.write(self.half, np.concatenate([loud, np.zeros(900)]), 8000)
        soundfile.write(self.mute, np.zeros(1800), 8000)
        self.config = Esc50DataConfig(
            name="esc50", root=str(self.root / "set"), cache_dir=str(self.root / "cache")
        )
        self.clips = load_clips(self.config, AUDIO, 0)[1]

    def waveform(self, path: Path) -> np.ndarray:
        return soundfile.read(path, dtype="float32")[0]

    def test_batches_hold_the_files_samples(self) -> None:
        segments = cut_clips(self.clips, AUDIO)
        self.assertGreater(len(segments), len(self.clips))
        pipeline = build_pipeline(
            segments, audio=AUDIO, num_classes=3, batch_size=7, training=False
        )
        rows = {}
        for batch in pipeline.epoch():
            for index, weight, waveform, valid, label in zip(
                *(batch[key].numpy() for key in
                  ("index", "weight", "waveform", "num_samples", "label")), strict=True,
            ):  # fmt: skip
                if weight:
                    rows[int(index)] = waveform, int(valid), int(label.argmax())
        self.assertLen(rows, len(segments))
        seen: dict[str, int] = {}
        for index, segment in enumerate(segments):
            self.assertIsInstance(segment, Segment)
            whole = self.waveform(segment.record.path)
            waveform, valid, label = rows[index]
            number = seen[segment.record.clip_id] = seen.get(segment.record.clip_id, -1) + 1
            expected = whole[300 * number : 300 * number + 900]
            if segment.record.path != self.mute:
                expected = expected / np.abs(expected).max()
            self.assertEqual((valid, label), (len(expected), segment.record.label_id))
            np.testing.assert_allclose(waveform[:valid], expected, rtol=1e-6)
            self.assertFalse(waveform[valid:].any())
            np.testing.assert_allclose(load_waveform(segment, 8000), expected, rtol=1e-6)
        # Windows 0, 300, 600 of the first file hold sound, the one from 900 on does not.
        self.assertEqual(seen[self.half.name], 2)
        self.assertEqual(seen[self.mute.name], 0)

    def test_training_draws_the_order_anew_and_does_without_silence(self) -> None:
        segments = cut_clips(self.clips, AUDIO, keep_loudest=False)
        self.assertNotIn(self.mute.name, {item.record.clip_id for item in segments})
        pipeline = build_pipeline(segments, audio=AUDIO, num_classes=3, batch_size=8, training=True)
        orders = [
            np.concatenate([batch["index"] for batch in pipeline.epoch(number)])
            for number in (0, 1, 0)
        ]
        self.assertAllEqual(orders[0], orders[2])
        self.assertNotAllEqual(orders[0], orders[1])
        self.assertLen(set(orders[0].tolist()), 8 * (len(segments) // 8))

    def test_a_split_is_made_of_clips_and_then_cut(self) -> None:
        split = split_clips(self.clips, test_fold=3, validation=0.25, seed=0)
        heard = cut_split(split, AUDIO)
        ids = [
            {item.record.clip_id for item in part}
            for part in (heard.train, heard.validation, heard.test)
        ]
        self.assertEqual(len(set.union(*ids)), sum(map(len, ids)))
        # The silent clip lies in fold 1; where it is not trained on, it is heard all the same.
        wanted = {item.record.clip_id for item in split.train} - {self.mute.name}
        self.assertEqual(ids[0], wanted)
        self.assertEqual(ids[1], {item.record.clip_id for item in split.validation})

    def test_one_of_each_clip_is_its_first_that_is_not_silent(self) -> None:
        samples = self.waveform(self.half)
        soundfile.write(self.half, samples[::-1], 8000)  # now silent for 900 samples
        clips = load_clips(self.config, AUDIO, 0)[1]
        chosen = take_one_each(clips, AUDIO)
        self.assertEqual(
            [item.record.clip_id for item in chosen], [clip.record.clip_id for clip in clips]
        )
        starts = {item.record.clip_id: item.place.start for item in chosen}
        self.assertEqual(starts.pop(self.half.name), 300)
        self.assertEqual(set(starts.values()), {0})
        plain = AudioConfig(sample_rate_hz=8000, duration_s=0.15)
        self.assertEqual(take_one_each(clips, plain), clips)

    def test_without_segments_clips_are_what_is_heard(self) -> None:
        plain = AudioConfig(sample_rate_hz=8000, duration_s=0.15)
        self.assertIs(cut_clips(self.clips, plain), self.clips)

    def test_nothing_but_silence_is_said(self) -> None:
        mute = [clip for clip in self.clips if clip.record.path == self.mute]
        with self.assertRaisesRegex(DataError, "every segment of 1 clips is silent; lower it"):
            cut_clips(mute, AUDIO, keep_loudest=False)

    def test_a_vanished_cache_file_is_named(self) -> None:
        self.clips[0].cache_path.unlink()
        with self.assertRaisesRegex(DataError, "cannot be read .*decodes it anew"):
            cut_clips(self.clips, AUDIO)

    def test_segments_and_clips_do_not_mix(self) -> None:
        mixed = [*cut_clips(self.clips, AUDIO)[:3], self.clips[0]]
        with self.assertRaisesRegex(DataError, "clips and segments cannot be mixed"):
            build_pipeline(mixed, audio=AUDIO, num_classes=3, batch_size=2, training=False)
