from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import numpy as np
import soundfile
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.config import AudioConfig, Esc50DataConfig, SyntheticDataConfig
from esc_tf.data import decoded_cache
from esc_tf.data.decoded_cache import DecodedCache, default_cache_dir, read_cached_waveform
from esc_tf.data.factory import load_data_set
from esc_tf.errors import DataError
from tests.data.folder import FolderTestCase, write_folder

RATE_HZ = 8000


class DecodedCacheTest(FolderTestCase):
    def setUp(self):
        super().setUp()
        write_folder(self.root / "set", rate_hz=RATE_HZ)
        config = Esc50DataConfig(name="esc50", root=str(self.root / "set"))
        self.records = load_data_set(config, AudioConfig(), 0).records
        self.cache = DecodedCache(self.root / "cache")

    def fill(self, rate_hz=RATE_HZ, **options):
        """Fill and return the good clips, the bad ones, and how many files were decoded."""
        counted = mock.patch.object(decoded_cache, "read_clip", side_effect=decoded_cache.read_clip)
        with counted as read_clip:
            good, bad = self.cache.fill(self.records, rate_hz, **options)
        return good, bad, read_clip.call_count

    def cache_files(self):
        return sorted(path.name for path in (self.root / "cache").iterdir())

    def test_samples_are_those_of_the_files(self):
        good, bad, decoded = self.fill()
        self.assertEqual(([clip.record for clip in good], bad), (list(self.records), []))
        self.assertEqual(decoded, 12)
        for clip in good:
            expected, _ = soundfile.read(clip.record.path, dtype="float32")
            waveform = read_cached_waveform(tf.constant(str(clip.cache_path)))
            self.assertAllEqual(waveform, expected)
            self.assertLen(expected, clip.num_samples)
        self.assertLen({clip.content_digest for clip in good}, 12)

    def test_nothing_is_decoded_twice(self):
        first = self.fill()
        again = self.fill()
        self.assertEqual(first[:2], again[:2])
        self.assertEqual(again[2], 0)
        # A second cache object, as another process would have it.
        self.cache = DecodedCache(self.root / "cache")
        self.assertEqual(self.fill(), again)

    def test_another_rate_is_another_file(self):
        native, _, _ = self.fill()
        half, _, decoded = self.fill(RATE_HZ // 2)
        self.assertEqual(decoded, 12)
        for one, other in zip(native, half, strict=True):
            self.assertLessEqual(abs(one.num_samples / 2 - other.num_samples), 1)
        self.assertLen(self.cache_files(), 24)

    def test_a_changed_file_is_decoded_again(self):
        self.fill()
        path = self.records[3].path
        soundfile.write(path, np.full(500, 0.25), RATE_HZ)
        good, _, decoded = self.fill()
        self.assertEqual((decoded, good[3].num_samples), (1, 500))
        # Same size, other content, later time.
        soundfile.write(path, np.full(500, 0.5), RATE_HZ)
        os.utime(path, ns=(1, 10**18))
        good, _, decoded = self.fill()
        self.assertEqual(decoded, 1)
        self.assertAllEqual(read_cached_waveform(str(good[3].cache_path)), np.full(500, 0.5))

    @parameterized.parameters("empty", "short", "long", "flipped", "header", "zeros", "removed")
    def test_a_damaged_cache_file_is_decoded_again(self, damage):
        good, _, _ = self.fill()
        path = good[5].cache_path
        content = path.read_bytes()
        middle = len(content) // 2
        damaged = {
            "empty": b"",
            "short": content[:-4],
            "long": content + bytes(4),
            "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "header": b"x" + content[1:],
            "zeros": bytes(len(content)),
        }
        if damage == "removed":
            path.unlink()
        else:
            path.write_bytes(damaged[damage])
        again, bad, decoded = self.fill()
        self.assertEqual((again, bad, decoded), (good, [], 1))
        self.assertEqual(path.read_bytes(), content)

    def test_missing_file_is_bad_though_it_was_decoded_once(self):
        self.fill()
        self.records[2].path.unlink()
        good, bad, _ = self.fill()
        self.assertLen(good, 11)
        self.assertEqual([clip.record for clip in bad], [self.records[2]])
        self.assertIn(str(self.records[2].path), bad[0].reason)

    def test_a_limit_holds_for_what_was_cached_under_a_larger_one(self):
        soundfile.write(self.records[0].path, np.full(4 * RATE_HZ, 0.1), RATE_HZ)
        self.assertLen(self.fill()[0], 12)
        _, bad, _ = self.fill(max_duration_s=3.0)
        self.assertEqual([clip.record for clip in bad], [self.records[0]])

    @parameterized.parameters(KeyboardInterrupt, MemoryError)
    def test_an_interrupted_fill_leaves_no_half_file(self, error):
        calls = []

        def fail_third(source, target):
            calls.append(target)
            if len(calls) == 3:
                raise error
            os.rename(source, target)

        with mock.patch.object(os, "replace", fail_third), self.assertRaises(error):
            self.cache.fill(self.records, RATE_HZ)
        names = self.cache_files()
        self.assertTrue(all(name.endswith(".f32") for name in names), names)
        self.assertBetween(len(names), 2, 11)
        good, bad, decoded = self.fill()
        self.assertEqual((len(good), bad, decoded), (12, [], 12 - len(names)))

    def test_a_full_disk_is_named(self):
        full = mock.patch.object(os, "replace", side_effect=OSError(28, "No space"))
        with full, self.assertRaisesRegex(DataError, "data.cache_dir: .*No space"):
            self.cache.fill(self.records, RATE_HZ)
        self.assertEmpty(self.cache_files())

    def test_leftovers_of_killed_processes_go_away(self):
        old, new = (self.root / "cache" / f"{name}.partial" for name in ("old", "new"))
        old.write_bytes(b"half")
        new.write_bytes(b"half")
        os.utime(old, (1e9, 1e9))
        DecodedCache(self.root / "cache")
        self.assertEqual(self.cache_files(), ["new.partial"])  # may belong to a running process

    def test_folder_that_cannot_be_made(self):
        (self.root / "file").write_text("")
        with self.assertRaisesRegex(DataError, "data.cache_dir: .*ESC_TF_CACHE"):
            DecodedCache(self.root / "file" / "cache")

    def test_generated_clips(self):
        config = SyntheticDataConfig(name="synthetic", clips_per_class_and_fold=1)
        audio = AudioConfig(sample_rate_hz=RATE_HZ, duration_s=0.25)
        self.records = load_data_set(config, audio, 0).records
        good, bad, decoded = self.fill()
        self.assertEqual((len(good), bad, decoded), (50, [], 0))
        self.assertEqual({clip.num_samples for clip in good}, {2000})
        with mock.patch.object(decoded_cache, "generate_clip", side_effect=AssertionError):
            self.assertEqual(self.fill()[0], good)
        self.records = load_data_set(config, audio, 1).records
        digests = {clip.content_digest for clip in good}
        self.assertEmpty(digests & {clip.content_digest for clip in self.fill()[0]})

    def test_default_folder(self):
        with mock.patch.dict(os.environ, {"ESC_TF_CACHE": "/some/where"}):
            self.assertEqual(default_cache_dir(), Path("/some/where"))
        with mock.patch.dict(os.environ, {"XDG_CACHE_HOME": "/cache"}):
            os.environ.pop("ESC_TF_CACHE", None)
            self.assertEqual(default_cache_dir(), Path("/cache/esc_tf/decoded"))


if __name__ == "__main__":
    tf.test.main()
