"""UrbanSound8K's layout: ten folds, folders of their own, recordings within a fold."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import soundfile
import tensorflow as tf

from esc_tf.config import AudioConfig, UrbanSound8KDataConfig
from esc_tf.data.clips import load_clips
from esc_tf.data.factory import load_data_set
from esc_tf.data.folds import split_clips
from esc_tf.errors import DataError
from tests.data.folder import FolderTestCase

COLUMNS = ["slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class"]
# As the data set's own table names and numbers them.
_NAMES = (
    "air_conditioner car_horn children_playing dog_bark drilling engine_idling gun_shot "
    "jackhammer siren street_music"
)
CLASSES = _NAMES.split()
AUDIO = AudioConfig(sample_rate_hz=4000, duration_s=0.2)


def write_urbansound8k(root: Path, *, classes=CLASSES, rate_hz=4000, folds=10) -> list[dict]:
    """Write two slices of one recording for each class and fold."""
    rng = np.random.default_rng(0)
    rows = []
    for fold in range(1, folds + 1):
        (root / "audio" / f"fold{fold}").mkdir(parents=True)
        for name in classes:
            target = CLASSES.index(name)
            source = 1000 * fold + target
            for piece in range(2):
                filename = f"{source}-{target}-0-{piece}.wav"
                values = [filename, source, 0.0, 0.1, 1, fold, target, name]
                rows.append(dict(zip(COLUMNS, map(str, values), strict=True)))
                samples = rng.uniform(-0.5, 0.5, int(rng.integers(rate_hz // 10, rate_hz // 4)))
                soundfile.write(root / "audio" / f"fold{fold}" / filename, samples, rate_hz)
    write_rows(root, rows)
    return rows


def write_rows(root: Path, rows: list[dict]) -> None:
    (root / "metadata").mkdir(exist_ok=True)
    with (root / "metadata" / "UrbanSound8K.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


class UrbanSound8KTest(FolderTestCase):
    def config(self, **options) -> UrbanSound8KDataConfig:
        cache = str(self.root / "cache")
        return UrbanSound8KDataConfig(
            name="urbansound8k", root=str(self.root / "set"), cache_dir=cache, **options
        )

    def test_reads_classes_folds_recordings_and_files(self):
        rows = write_urbansound8k(self.root / "set", classes=CLASSES[::-1])
        data_set = load_data_set(self.config(), AUDIO, 0)
        self.assertEqual(list(data_set.label_names), CLASSES)
        self.assertLen(data_set.records, len(rows))
        self.assertEqual({record.fold for record in data_set.records}, set(range(1, 11)))
        for row, record in zip(rows, data_set.records, strict=True):
            self.assertEqual(record.clip_id, row["slice_file_name"])
            self.assertEqual(record.source_id, row["fsID"])
            self.assertEqual(record.label_id, int(row["classID"]))
            self.assertEqual(record.path.parent.name, f"fold{row['fold']}")
            self.assertTrue(record.path.is_file())
        self.assertEqual(self.config().num_classes, 10)
        self.assertEqual(self.config(classes=["siren", "drilling"]).num_classes, 2)

    def test_a_selection_keeps_its_order(self):
        write_urbansound8k(self.root / "set", folds=2)
        data_set = load_data_set(self.config(classes=["siren", "drilling"]), AUDIO, 0)
        self.assertEqual(data_set.label_names, ("siren", "drilling"))
        self.assertLen(data_set.records, 8)
        self.assertEqual({record.label_id for record in data_set.records}, {0, 1})

    def test_trains_on_nine_folds_and_tests_on_the_tenth(self):
        write_urbansound8k(self.root / "set", classes=CLASSES[:2])
        self.assertEqual(self.config().test_fold, 10)
        _, clips, bad = load_clips(self.config(), AUDIO, 0, progress=False)
        self.assertEmpty(bad)
        split = split_clips(clips, 10, 9, 0)
        self.assertEqual(list(map(len, (split.train, split.validation, split.test))), [32, 4, 4])

    def test_a_recording_in_two_folds_is_found(self):
        rows = write_urbansound8k(self.root / "set", classes=CLASSES[:2], folds=2)
        rows[-1]["fsID"] = rows[0]["fsID"]
        write_rows(self.root / "set", rows)
        _, clips, _ = load_clips(self.config(), AUDIO, 0, progress=False)
        with self.assertRaisesRegex(DataError, f"both come from recording {rows[0]['fsID']}"):
            split_clips(clips, 2, None, 0)

    def test_what_is_wrong_is_named(self):
        with self.assertRaisesRegex(DataError, "no folder .*UrbanSound8K's layout holds audio/"):
            load_data_set(self.config(), AUDIO, 0)
        rows = write_urbansound8k(self.root / "set", folds=1)
        rows[0]["fold"], rows[1]["classID"], rows[2]["slice_file_name"] = "0", "x", "../a.wav"
        write_rows(self.root / "set", rows)
        with self.assertRaises(DataError) as caught:
            load_data_set(self.config(), AUDIO, 0)
        problems = caught.exception.problems
        self.assertLen(problems, 3)
        self.assertRegex(problems[0], r"UrbanSound8K.csv: line 2: fold is '0'")
        self.assertRegex(problems[1], r"line 3: classID is 'x'")
        self.assertRegex(problems[2], r"line 4: slice_file_name '../a.wav' leaves the folder")
        with self.assertRaisesRegex(DataError, "unknown class 'sirene'; did you mean 'siren'"):
            write_rows(self.root / "set", rows[3:])
            load_data_set(self.config(classes=["sirene", "drilling"]), AUDIO, 0)


if __name__ == "__main__":
    tf.test.main()
