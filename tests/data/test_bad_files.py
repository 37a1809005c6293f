from __future__ import annotations

import numpy as np
import tensorflow as tf

from esc_tf.config import AudioConfig, Esc50DataConfig
from esc_tf.data.clips import load_clips
from esc_tf.data.pipeline import build_dataset
from esc_tf.errors import DataError
from tests.data.bad_files import NUM_FILES, generate_bad_files
from tests.data.folder import CLASSES, FolderTestCase, make_row, write_folder, write_table

AUDIO = AudioConfig(sample_rate_hz=4000, duration_s=0.5)


class BadFilesTest(FolderTestCase):
    def setUp(self):
        super().setUp()
        good = write_folder(self.root / "set")
        self.good = {row["filename"] for row in good}
        self.known_bad, rows = set(), []
        categories = list(CLASSES.items())
        for number, (name, content, is_bad) in enumerate(generate_bad_files()):
            (self.root / "set" / "audio" / name).write_bytes(content)
            category, target = categories[number % 3]
            rows.append(make_row(name, 1 + number % 2, category, target, f"bad{number}"))
            if is_bad:
                self.known_bad.add(name)
        self.all = [row["filename"] for row in rows]
        # Three more ways that need no content.
        odd = {"missing.wav": "missing", "folder.wav": "folder", "loop.wav": "loop"}
        (self.root / "set" / "audio" / "folder.wav").mkdir()
        (self.root / "set" / "audio" / "loop.wav").symlink_to("loop.wav")
        rows += [make_row(name, 1, "dog", 0, source) for name, source in odd.items()]
        self.known_bad.update(odd)
        write_table(self.root / "set", good + rows)

    def load(self, on_bad_file):
        config = Esc50DataConfig(
            name="esc50",
            root=str(self.root / "set"),
            cache_dir=str(self.root / "cache"),
            on_bad_file=on_bad_file,
            max_duration_s=30.0,
        )
        return load_clips(config, AUDIO, 0)

    def test_none_crashes_and_none_passes_silently(self):
        self.assertLen(self.all, NUM_FILES)
        data_set, clips, bad = self.load("skip")
        kept = {clip.record.clip_id for clip in clips}
        named = {clip.record.clip_id for clip in bad}
        # Every file is either kept or named, and all that are bad without doubt are named.
        self.assertEqual(kept | named, {record.clip_id for record in data_set.records})
        self.assertEmpty(kept & named)
        self.assertEmpty(self.known_bad - named)
        self.assertEmpty(self.good - kept)
        for clip in bad:
            self.assertIn(clip.record.clip_id, clip.reason)
            self.assertNotIn("\n", clip.reason)
            self.assertIn(";", clip.reason)  # the reason, then the remedy
        # Some mutations leave a valid file; measured: 17 of 200.
        survivors = kept - self.good
        self.assertBetween(len(survivors), 5, NUM_FILES // 3)
        for clip in clips:
            waveform = np.frombuffer(clip.cache_path.read_bytes()[64:], "<f4")
            self.assertEqual(waveform.size, clip.num_samples)
            self.assertGreater(waveform.size, 0)
            self.assertTrue(np.isfinite(waveform).all())
        # What was kept can be batched.
        seen = 0
        for batch in build_dataset(
            clips, audio=AUDIO, num_classes=3, batch_size=16, training=False
        ):
            self.assertTrue(np.isfinite(batch["waveform"]).all())
            seen += int(tf.reduce_sum(batch["weight"]))
        self.assertLen(clips, seen)

        # The same files under `fail`: all of them at once, one line each.
        with self.assertRaises(DataError) as caught:
            self.load("fail")
        self.assertEqual(caught.exception.problems[:-1], [clip.reason for clip in bad])
        self.assertIn(f"{len(bad)} of {len(data_set.records)} files", caught.exception.problems[-1])


if __name__ == "__main__":
    tf.test.main()
