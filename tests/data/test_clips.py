from __future__ import annotations

import numpy as np
import soundfile
import tensorflow as tf

from esc_tf.config import AudioConfig, Esc50DataConfig
from esc_tf.data.clips import load_clips
from esc_tf.data.esc50 import load_known_classes
from esc_tf.errors import DataError
from tests.data.folder import FolderTestCase, write_folder
from tests.shared_files import shared_path

AUDIO = AudioConfig(sample_rate_hz=8000, duration_s=0.2)


class LoadClipsTest(FolderTestCase):
    def load(self, data_set=None, audio=AUDIO, **options):
        config = Esc50DataConfig(
            name="esc50",
            root=str(self.root / "set"),
            cache_dir=str(self.root / "cache"),
            **options,
        )
        return load_clips(config, audio, 0, data_set)

    def write_bad(self):
        """Spoil three files, each in another way."""
        rows = write_folder(self.root / "set")
        paths = [self.root / "set" / "audio" / rows[number]["filename"] for number in (0, 4, 7)]
        paths[0].unlink()
        paths[1].write_bytes(b"")
        paths[2].write_text("this is no sound")
        return paths

    def test_good_folder(self):
        rows = write_folder(self.root / "set")
        data_set, clips, bad = self.load()
        self.assertEqual([clip.record for clip in clips], list(data_set.records))
        self.assertEqual([c.record.clip_id for c in clips], [row["filename"] for row in rows])
        self.assertEmpty(bad)

    def test_fail_names_all_bad_files_at_once(self):
        paths = self.write_bad()
        with self.assertRaises(DataError) as caught:
            self.load()
        problems = caught.exception.problems
        self.assertLen(problems, 4)
        for path, problem in zip(paths, problems[:3], strict=True):
            self.assertIn(str(path), problem)
        self.assertIn("3 of 12 files are bad", problems[3])
        self.assertIn("data.on_bad_file to skip", problems[3])

    def test_skip_returns_them(self):
        paths = self.write_bad()
        _, clips, bad = self.load(on_bad_file="skip")
        self.assertLen(clips, 9)
        self.assertEqual([clip.record.path for clip in bad], paths)
        self.assertNoCommonElements(paths, [clip.record.path for clip in clips])

    def test_skip_that_leaves_a_class_empty(self):
        rows = write_folder(self.root / "set")
        for row in rows:
            if row["category"] == "rain":
                (self.root / "set" / "audio" / row["filename"]).write_bytes(b"RIFF")
        with self.assertRaisesRegex(DataError, "every file of rain is bad"):
            self.load(on_bad_file="skip")
        # Files of a class that was not selected are not looked at.
        self.assertLen(self.load(classes=["dog", "rooster"])[1], 8)

    def test_records_of_another_folder(self):
        write_folder(self.root / "set")
        data_set = load_known_classes(self.root / "set", ["siren", "rain"])
        _, clips, _ = self.load(data_set)
        self.assertEqual({clip.record.label_id for clip in clips}, {1})

    def test_files_of_other_kinds_rates_and_channels(self):
        rows = write_folder(self.root / "set")
        time_s = np.arange(44100 // 2) / 44100
        tone = 0.5 * np.sin(2 * np.pi * 440 * time_s)
        kinds = {"wav": "PCM_24", "flac": "PCM_16", "ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}
        for row, (kind, subtype) in zip(rows, kinds.items(), strict=False):
            path = self.root / "set" / "audio" / row["filename"]
            with path.open("wb") as file:
                # Opposite parts in both channels cancel out when mixed down.
                stereo = np.stack([1.5 * tone, 0.5 * tone], axis=1)
                soundfile.write(file, stereo, 44100, format=kind.upper(), subtype=subtype)
        for clip in self.load()[1][: len(kinds)]:
            samples = np.frombuffer(clip.cache_path.read_bytes()[64:], "<f4")
            # MP3 adds up to two frames of delay and padding.
            self.assertBetween(samples.size, 3990, 4500)
            spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
            peak_hz = np.argmax(spectrum) * 8000 / samples.size
            self.assertAllClose(peak_hz, 440, atol=2)
            self.assertAllClose(np.std(samples[500:3500]), 0.5 / np.sqrt(2), atol=0.01)

    def test_real_clips(self):
        root = shared_path("esc10")
        data_set = load_known_classes(root, ["dog", "clock_tick"])
        chosen = [record for record in data_set.records if record.fold == 1]
        data_set = type(data_set)(tuple(chosen), data_set.label_names, root)
        _, clips, bad = self.load(data_set, AudioConfig())
        self.assertEqual((len(clips), bad), (16, []))
        self.assertTrue(all(3.5 < clip.num_samples / 44100 < 7.3 for clip in clips))


if __name__ == "__main__":
    tf.test.main()
