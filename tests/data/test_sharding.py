"""Writing shards: what is in them, going on after an interruption, what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from unittest import mock

import numpy as np
import tensorflow as tf

from esc_tf.config import SyntheticDataConfig
from esc_tf.data import sharding
from esc_tf.data.batches import load_waveform
from esc_tf.data.clips import load_clips
from esc_tf.errors import DataError, RequestError
from tests.data.sharded import AUDIO, CLIPS_PER_FOLD, FOLDS, RATE_HZ, ShardsTestCase, write_quietly


class ShardingTest(ShardsTestCase):
    def test_the_index_says_what_is_there(self):
        index = json.loads((self.shards / "index.json").read_text())
        self.assertEqual(index, self.index)
        self.assertEqual(index["label_names"], ["dog", "rooster", "rain"])
        self.assertEqual(index["sample_rate_hz"], RATE_HZ)
        self.assertEqual(index["encoding"], "int16")
        self.assertEqual(index["num_clips"], FOLDS * CLIPS_PER_FOLD)
        self.assertEqual(set(index["folds"]), {"1", "2", "3"})
        for fold in index["folds"].values():
            self.assertEqual(fold["clips_per_class"], {"dog": 4, "rooster": 4, "rain": 4})
        self.assertLen(index["shards"], 12)
        for entry in index["shards"]:
            content = (self.shards / entry["file"]).read_bytes()
            self.assertLen(content, entry["num_bytes"])
            self.assertEqual(hashlib.sha256(content).hexdigest(), entry["sha256"])
            self.assertEqual(entry["num_clips"], 3)
            self.assertStartsWith(entry["file"], f"fold{entry['fold']}-")

    def test_holds_the_waveforms_of_the_files(self):
        # PCM files of 16 bits at their own rate: the same bits.
        _, clips, _ = load_clips(self.config(), AUDIO, 0)
        _, files, _ = load_clips(self.files(), AUDIO, 0, progress=False)
        self.assertCountEqual([c.record.clip_id for c in clips], [f.record.clip_id for f in files])
        by_id = {clip.record.clip_id: clip for clip in clips}
        for file in files:
            clip = by_id[file.record.clip_id]
            self.assertEqual(clip.num_samples, file.num_samples)
            self.assertEqual(clip.content_digest, file.content_digest)
            for name in ("label_id", "label_name", "fold", "source_id"):
                self.assertEqual(getattr(clip.record, name), getattr(file.record, name))
            np.testing.assert_array_equal(
                load_waveform(clip, RATE_HZ), load_waveform(file, RATE_HZ)
            )

    def test_generated_clips_can_be_sharded(self):
        config = SyntheticDataConfig(name="synthetic", clips_per_class_and_fold=1)
        index, _ = write_quietly(config, self.root / "generated", encoding="float32")
        self.assertEqual((index["num_clips"], len(index["shards"])), (50, 5))

    def test_again_writes_nothing(self):
        before = {path: path.stat().st_mtime_ns for path in self.shards.glob("*.tfrecord")}
        index, lines = write_quietly(self.files(), self.shards, num_shards=4)
        self.assertEqual(index, self.index)
        self.assertIn("36 clips in 12 shards (12 were there already)", lines)
        self.assertEqual(before, {path: path.stat().st_mtime_ns for path in before})

    def test_goes_on_where_it_was_stopped(self):
        count = 0
        real = sharding._write_shard

        def stop_after_five(*arguments):
            nonlocal count
            count += 1
            if count > 5:
                raise KeyboardInterrupt
            return real(*arguments)

        half = self.root / "half"
        with (
            mock.patch.object(sharding, "_write_shard", stop_after_five),
            self.assertRaises(KeyboardInterrupt),
        ):
            write_quietly(self.files(), half, num_shards=4)
        self.assertFalse((half / "index.json").exists())
        self.assertLen(list(half.glob("*.tfrecord")), 5)
        index, lines = write_quietly(self.files(), half, num_shards=4)
        self.assertIn("(5 were there already)", lines)
        self.assertEqual(index, self.index)  # digests and all

    def test_an_interrupted_shard_leaves_nothing(self):
        half = self.root / "half"
        with (
            mock.patch.object(sharding, "serialize_clip", side_effect=KeyboardInterrupt),
            self.assertRaises(KeyboardInterrupt),
        ):
            write_quietly(self.files(), half)
        self.assertEqual([path.name for path in half.iterdir()], ["plan.json"])

    def test_writes_damaged_and_missing_shards_anew(self):
        first, second, third = sorted(self.shards.glob("*.tfrecord"))[:3]
        content = bytearray(first.read_bytes())
        content[len(content) // 2] ^= 1
        first.write_bytes(content)
        second.unlink()
        third.with_suffix(".json").unlink()
        index, lines = write_quietly(self.files(), self.shards, num_shards=4)
        self.assertIn("(9 were there already)", lines)
        self.assertEqual(index, self.index)

    def test_a_set_that_is_being_mended_has_no_index(self):
        next(self.shards.glob("*.tfrecord")).unlink()
        with (
            mock.patch.object(sharding, "_write_shard", side_effect=KeyboardInterrupt),
            self.assertRaises(KeyboardInterrupt),
        ):
            write_quietly(self.files(), self.shards, num_shards=4)
        self.assertFalse((self.shards / "index.json").exists())

    def test_a_changed_file_changes_its_shard_alone(self):
        shutil.copytree(self.original / "set", self.root / "set")
        config = self.files(root=str(self.root / "set"))
        out = self.root / "out"
        write_quietly(config, out, num_shards=4)
        path = sorted((self.root / "set" / "audio").iterdir())[0]
        shutil.copy(sorted((self.root / "set" / "audio").iterdir())[1], path)
        os.utime(path, ns=(1, 1))
        _, lines = write_quietly(config, out, num_shards=4)
        self.assertIn("(11 were there already)", lines)

    def test_bad_files_are_all_named_and_whole_shards_stay(self):
        shutil.copytree(self.original / "set", self.root / "set")
        config = self.files(root=str(self.root / "set"))
        bad = [sorted((self.root / "set" / "audio").glob(f"{fold}-*"))[0] for fold in (1, 3)]
        for path in bad:
            path.write_bytes(b"no sound")
        out = self.root / "out"
        with self.assertRaises(DataError) as caught:
            write_quietly(config, out, num_shards=4)
        problems = caught.exception.problems
        self.assertLen(problems, 3)
        self.assertIn(bad[0].name, problems[0])
        self.assertIn(bad[1].name, problems[1])
        self.assertIn("2 of 36 files are bad; repair or remove them, or set", problems[2])
        self.assertLen(list(out.glob("*.tfrecord")), 10)
        self.assertFalse((out / "index.json").exists())

        skipping = self.files(root=str(self.root / "set"), on_bad_file="skip")
        index, lines = write_quietly(skipping, out, num_shards=4)
        self.assertIn("34 clips in 12 shards (10 were there already)", lines)
        self.assertIn("2 bad files skipped", lines)
        self.assertCountEqual(
            [item["clip"] for item in index["skipped_files"]], [path.name for path in bad]
        )
        # Those that were skipped are remembered beside shards that are kept.
        again, _ = write_quietly(skipping, out, num_shards=4)
        self.assertEqual(again, index)

    def test_a_class_without_good_files_is_refused(self):
        shutil.copytree(self.original / "set", self.root / "set")
        for path in (self.root / "set" / "audio").glob("*-10.wav"):
            path.write_bytes(b"")
        config = self.files(root=str(self.root / "set"), on_bad_file="skip")
        with self.assertRaisesRegex(DataError, "every file of rain is bad"):
            write_quietly(config, self.root / "out")

    def test_folders_of_something_else_are_refused(self):
        with self.assertRaisesRegex(RequestError, "other classes, rate, encoding or number"):
            write_quietly(self.files(), self.shards, num_shards=2)
        with self.assertRaisesRegex(RequestError, "other classes, rate, encoding or number"):
            write_quietly(self.files(), self.shards, num_shards=4, encoding="float32")
        self.assertTrue((self.shards / "index.json").exists())
        (self.root / "mine").mkdir()
        (self.root / "mine" / "letter.txt").write_text("dear")
        with self.assertRaisesRegex(RequestError, "is not empty and holds no shards"):
            write_quietly(self.files(), self.root / "mine")
        with self.assertRaisesRegex(RequestError, "'shards' is sharded already"):
            write_quietly(self.config(), self.root / "out")

    def test_a_disk_that_takes_no_more_is_named(self):
        error = tf.errors.ResourceExhaustedError(None, None, "No space left on device")
        with (
            mock.patch.object(tf.io.TFRecordWriter, "write", side_effect=error),
            self.assertRaisesRegex(OSError, "cannot be written .No space left on device") as caught,
        ):
            write_quietly(self.files(), self.root / "out")
        self.assertIn("fold1-00000-of-00001.tfrecord", caught.exception.filename)


if __name__ == "__main__":
    tf.test.main()
