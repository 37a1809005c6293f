"""Folder-per-class sets: what is found, what is a recording, what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import soundfile
import tensorflow as tf

from esc_tf.config import AudioConfig, FolderDataConfig
from esc_tf.data.clips import load_clips
from esc_tf.data.factory import load_data_set
from esc_tf.data.folder import load_known_folder
from esc_tf.data.folds import split_clips
from esc_tf.errors import ConfigError, DataError
from tests.data.folder import FolderTestCase

AUDIO = AudioConfig(sample_rate_hz=4000, duration_s=0.2)


def write_class_folders(root: Path, *, names=("bell", "dog", "rain"), sources=5, pieces=2) -> None:
    """Write noise into a folder a class: ``rec3-1.wav`` is the second piece of recording 3."""
    rng = np.random.default_rng(0)
    for name in names:
        (root / name).mkdir(parents=True)
        for source in range(sources):
            for piece in range(pieces):
                path = root / name / f"{name}{source}-{piece}.wav"
                soundfile.write(path, rng.uniform(-0.5, 0.5, 600), 4000)


class FolderSetTest(FolderTestCase):
    def config(self, **options) -> FolderDataConfig:
        cache = str(self.root / "cache")
        return FolderDataConfig(
            name="folder", root=str(self.root / "set"), cache_dir=cache, **options
        )

    def load(self, **options):
        return load_data_set(self.config(**options), AUDIO, 0)

    def test_finds_audio_files_and_nothing_else(self):
        root = self.root / "set"
        write_class_folders(root)
        (root / "dog" / "notes.txt").write_text("no sound")
        (root / "README.md").write_text("no class")
        (root / ".git").mkdir()
        (root / "dog" / ".hidden.wav").write_bytes(b"")
        (root / "rain" / "spring").mkdir()
        (root / "rain" / "rain0-0.wav").rename(root / "rain" / "spring" / "RAIN0-0.WAV")
        data_set = self.load()
        self.assertEqual(data_set.label_names, ("bell", "dog", "rain"))
        self.assertLen(data_set.records, 30)
        ids = [record.clip_id for record in data_set.records]
        self.assertIn("rain/spring/RAIN0-0.WAV", ids)
        self.assertEqual(ids, [r.path.relative_to(root).as_posix() for r in data_set.records])
        self.assertEqual([record.source_id for record in data_set.records], ids)
        counts = Counter((record.label_name, record.fold) for record in data_set.records)
        self.assertEqual(set(counts.values()), {2})
        self.assertLen(counts, 15)

    def test_pieces_of_a_recording_share_a_fold(self):
        write_class_folders(self.root / "set")
        data_set = self.load(source_pattern=r"^(\w+?)-")
        folds = {(record.source_id, record.fold) for record in data_set.records}
        self.assertLen(folds, 15)
        self.assertIn("dog3", {source for source, _ in folds})
        _, clips, _ = load_clips(self.config(source_pattern=r"^(\w+?)-"), AUDIO, 0, progress=False)
        split = split_clips(clips, 5, 4, 0)
        self.assertEqual(list(map(len, (split.train, split.validation, split.test))), [18, 6, 6])

    def test_folds_follow_their_own_seed_alone(self):
        write_class_folders(self.root / "set")
        self.assertEqual(self.load(), load_data_set(self.config(), AUDIO, 7))
        self.assertNotEqual(self.load(), self.load(fold_seed=1))
        self.assertEqual({record.fold for record in self.load(num_folds=3).records}, {1, 2, 3})

    def test_counts_its_classes(self):
        write_class_folders(self.root / "set")
        self.assertEqual(self.config().num_classes, 3)
        self.assertEqual(self.config(classes=["dog", "cat"]).num_classes, 2)
        with self.assertRaisesRegex(ConfigError, "cannot be read .* list them in data.classes"):
            FolderDataConfig(name="folder", root=str(self.root / "absent")).num_classes  # noqa: B018
        data_set = self.load(classes=["rain", "dog"])
        self.assertEqual(data_set.label_names, ("rain", "dog"))

    def test_what_is_wrong_is_named(self):
        with self.assertRaisesRegex(DataError, "cannot be read .No such file.*one folder of audio"):
            self.load()
        root = self.root / "set"
        (root / "dog").mkdir(parents=True)
        with self.assertRaisesRegex(DataError, r"holds 1 folder\(s\); a folder set holds one"):
            self.load()
        (root / "cat").mkdir()
        with self.assertRaises(DataError) as caught:
            self.load()
        self.assertLen(caught.exception.problems, 2)
        self.assertRegex(caught.exception.problems[0], "set/cat: holds no audio file .*remove the")

    def test_names_that_tell_no_recording_are_named(self):
        write_class_folders(self.root / "set")
        (self.root / "set" / "dog" / "dog0-0.wav").rename(self.root / "set" / "dog" / "odd.wav")
        with self.assertRaises(DataError) as caught:
            self.load(source_pattern="^([^-]+)-")
        self.assertLen(caught.exception.problems, 2)
        self.assertRegex(caught.exception.problems[0], r"dog/odd.wav does not match '\^\(\[")
        self.assertRegex(caught.exception.problems[1], "1 of 30 files name no recording")

    def test_fewer_recordings_than_folds(self):
        write_class_folders(self.root / "set", sources=3)
        with self.assertRaises(DataError) as caught:
            self.load(source_pattern="^([^-]+)-")
        self.assertLen(caught.exception.problems, 3)
        self.assertRegex(
            caught.exception.problems[0],
            r"data.num_folds: bell has 3 recording\(s\), fewer than the 5 folds; lower it",
        )

    def test_a_model_knows_some_of_the_classes(self):
        write_class_folders(self.root / "set")
        data_set = load_known_folder(self.root / "set", ("siren", "rain", "dog"))
        self.assertLen(data_set.records, 20)
        self.assertEqual({r.label_id for r in data_set.records}, {1, 2})
        with self.assertRaisesRegex(DataError, "no clip has a class that the model knows"):
            load_known_folder(self.root / "set", ("cat", "cow"))


if __name__ == "__main__":
    tf.test.main()
