"""Reading the index of a folder of shards: what is checked, what is named."""

from __future__ import annotations

import json
import shutil

import tensorflow as tf

from esc_tf.config import AudioConfig, ShardsDataConfig
from esc_tf.data.batches import load_waveform
from esc_tf.data.clips import load_clips
from esc_tf.data.factory import load_data_set
from esc_tf.data.folds import split_clips
from esc_tf.errors import ConfigError, DataError
from tests.data.sharded import AUDIO, RATE_HZ, ShardsTestCase


class ShardsTest(ShardsTestCase):
    def test_splits_as_files_do(self):
        _, clips, bad = load_clips(self.config(), AUDIO, 0)
        self.assertEmpty(bad)
        split = split_clips(clips, 3, 0.25, 0)
        self.assertEqual(list(map(len, (split.train, split.validation, split.test))), [18, 6, 12])
        _, files, _ = load_clips(self.files(), AUDIO, 0, progress=False)
        # The same draw: it goes by the clips' names.
        for part in ("train", "validation", "test"):
            expected = {c.record.clip_id for c in getattr(split_clips(files, 3, 0.25, 0), part)}
            self.assertEqual({c.record.clip_id for c in getattr(split, part)}, expected)

    def test_a_part_of_the_records_gives_their_clips(self):
        data_set = load_data_set(self.config(), AUDIO, 0)
        self.assertEqual(data_set.label_names, ("dog", "rooster", "rain"))
        one = type(data_set)(data_set.records[:5], data_set.label_names, data_set.root)
        _, clips, _ = load_clips(self.config(), AUDIO, 0, one)
        self.assertEqual([clip.record for clip in clips], list(one.records))

    def test_counts_its_classes(self):
        self.assertEqual(self.config().num_classes, 3)
        with self.assertRaisesRegex(ConfigError, "index.json cannot be read .No such file"):
            ShardsDataConfig(name="shards", root=str(self.root)).num_classes  # noqa: B018
        (self.root / "index.json").write_text("[]")
        with self.assertRaisesRegex(ConfigError, "not an index of shards"):
            ShardsDataConfig(name="shards", root=str(self.root)).num_classes  # noqa: B018

    def test_another_rate_is_refused(self):
        audio = AudioConfig(sample_rate_hz=16000, duration_s=0.15)
        with self.assertRaisesRegex(DataError, "16000 Hz, and the shards in .* at 8000 Hz"):
            load_clips(self.config(), audio, 0)

    def test_damage_is_named_shard_by_shard(self):
        first, second, third = sorted(self.shards.glob("*.tfrecord"))[:3]
        first.unlink()
        second.write_bytes(second.read_bytes()[:-1])
        third.with_suffix(".json").write_text("{")
        with self.assertRaises(DataError) as caught:
            load_clips(self.config(), AUDIO, 0)
        problems = caught.exception.problems
        self.assertLen(problems, 3)
        self.assertRegex(
            problems[0], f"{first.name}: cannot be read .No such file.*; run python -m"
        )
        self.assertRegex(problems[1], f"{second.name}: damaged, it has .* bytes where the index")
        self.assertRegex(problems[2], f"{third.with_suffix('.json').name}: missing, damaged or not")

    def test_lists_of_another_set_are_refused(self):
        first, second = sorted(self.shards.glob("fold*.json"))[:2]
        shutil.copy(first, second)
        with self.assertRaisesRegex(DataError, f"{second.name}: missing, damaged or not of this"):
            load_clips(self.config(), AUDIO, 0)

    def test_shards_of_other_workers_may_be_elsewhere(self):
        sorted(self.shards.glob("*.tfrecord"))[0].unlink()
        _, clips, _ = load_clips(self.config(local_shards=True), AUDIO, 0)
        self.assertLen(clips, 36)

    def test_what_is_no_folder_of_shards(self):
        index = self.shards / "index.json"
        content = json.loads(index.read_text())
        stranger = {**content, "format": "other"}
        climber = json.loads(index.read_text())
        climber["shards"][0]["file"] = "../../etc/passwd"
        for text in ("", "{}", "[1]", json.dumps(stranger), json.dumps(climber)):
            index.write_text(text)
            with self.assertRaisesRegex(DataError, "damaged, or not an index of shards"):
                load_clips(self.config(), AUDIO, 0)
        index.unlink()
        with self.assertRaisesRegex(DataError, "index.json does not exist .unfinished"):
            load_clips(self.config(), AUDIO, 0)
        shutil.rmtree(self.shards)
        with self.assertRaisesRegex(DataError, "data.root: there is no folder"):
            load_clips(self.config(), AUDIO, 0)

    def test_one_waveform_of_a_damaged_shard(self):
        _, clips, _ = load_clips(self.config(), AUDIO, 0)
        path = clips[0].shard.path
        content = bytearray(path.read_bytes())
        content[40] ^= 1
        path.write_bytes(content)
        with self.assertRaisesRegex(DataError, f"{path.name}: damaged"):
            load_waveform(clips[0], RATE_HZ)


if __name__ == "__main__":
    tf.test.main()
