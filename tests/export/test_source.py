"""Which clips calibrate an export, and which verify it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from esc_tf.config import Esc50DataConfig, SyntheticDataConfig
from esc_tf.data import Record
from esc_tf.errors import DataError, RequestError
from export.source import UNKNOWN_CLASS, ExportSource, choose_evenly, load_source
from tests.export.models import build_tiny
from tests.trained_tones import LABELS, TrainedTonesCase, write_tones


def load(path: str | Path, **options: Any) -> tuple[ExportSource, list[str]]:
    lines: list[str] = []
    return load_source(path, report=lines.append, **options), lines


class RunTest(TrainedTonesCase):
    def test_the_run_s_own_parts(self) -> None:
        source, lines = load(self.run_dir)
        split = json.loads((Path(self.run_dir) / "split.json").read_text())
        self.assertEqual(set(source.calibration.names), set(split["train"]))
        self.assertEqual(set(source.evaluation.names), set(split["test"]))
        self.assertTrue(source.evaluation.real)
        self.assertEqual(source.evaluation.origin, "test part of run")
        self.assertEqual(source.evaluation.waveforms.shape, (6, 4000))
        self.assertEqual(source.evaluation.waveforms.dtype, np.float32)
        self.assertEqual(source.name, "tiny")
        self.assertEqual(tuple(source.facts["label_names"]), LABELS)
        self.assertIn("test", source.metrics)
        self.assertEqual(lines, [])
        # A name is <fold>-<fold><class><take>-<take>-<class>.wav.
        wanted = [int(name[-5]) for name in source.evaluation.names]
        self.assertEqual(source.evaluation.label_ids.tolist(), wanted)
        # Heard as the run heard them.
        found = source.model(source.evaluation.waveforms)["logits"].numpy().argmax(axis=1)
        accuracy = source.metrics["test"]["accuracy"]
        self.assertGreater(accuracy, 0.5)
        self.assertAllClose(np.mean(found == wanted), accuracy)

    def test_data_that_have_moved(self) -> None:
        moved = self.folder / "moved"
        shutil.copytree(self.folder / "tones", moved)
        # Only the place is taken from what the folder is told to be.
        source, lines = load(self.run_dir, data=Esc50DataConfig(name="esc50", root=str(moved)))
        here, _ = load(self.run_dir)
        self.assertEqual(source.evaluation.names, here.evaluation.names)
        self.assertAllEqual(source.evaluation.waveforms, here.evaluation.waveforms)
        self.assertEqual(lines, [])

    def test_other_data_in_their_place_are_refused(self) -> None:
        other = self.folder / "other"
        write_tones(other, (8, 9))
        with self.assertRaisesRegex(DataError, "none of the clips that the run"):
            load(self.run_dir, data=Esc50DataConfig(name="esc50", root=str(other)))

    def test_data_that_are_away(self) -> None:
        run = self.folder / "lonely"
        shutil.copytree(self.run_dir, run)
        text = (run / "resolved.yaml").read_text()
        tones = str(self.folder / "tones")
        self.assertIn(tones, text)
        (run / "resolved.yaml").write_text(text.replace(tones, "/away"))
        source, lines = load(run, calibration_clips=5, evaluation_clips=7)
        self.assertLen(lines, 1)
        self.assertIn("the run's data cannot be used", lines[0])
        self.assertIn("--data-root", lines[0])
        self.assertFalse(source.evaluation.real)
        self.assertLen(source.calibration.names, 5)
        self.assertLen(source.evaluation.names, 7)
        self.assertAllEqual(source.evaluation.label_ids, [UNKNOWN_CLASS] * 7)

    def test_clips_as_the_run_s_configuration_says(self) -> None:
        run = self.folder / "configured"
        shutil.copytree(self.run_dir, run)
        text = (run / "resolved.yaml").read_text()
        default = "export:\n  calibration_clips: 128\n  evaluation_clips: 400\n  clip_seed: 0\n"
        self.assertIn(default, text)
        asked = "export:\n  calibration_clips: 5\n  evaluation_clips: 4\n  clip_seed: 3\n"
        (run / "resolved.yaml").write_text(text.replace(default, asked))
        source, _ = load(run)
        self.assertLen(source.calibration.names, 5)
        self.assertLen(source.evaluation.names, 4)
        self.assertEqual(source.clip_seed, 3)
        # Options go before it, one by one.
        source, _ = load(run, calibration_clips=7, clip_seed=0)
        self.assertLen(source.calibration.names, 7)
        self.assertLen(source.evaluation.names, 4)
        self.assertEqual(source.clip_seed, 0)
        # A run of a version that had no such section.
        (run / "resolved.yaml").write_text(text.replace(default, ""))
        source, _ = load(run, evaluation_clips=2)
        self.assertLen(source.calibration.names, 18)
        self.assertLen(source.evaluation.names, 2)

    def test_a_run_that_kept_no_clips_to_test_on(self) -> None:
        run = self.folder / "all trained on"
        shutil.copytree(self.run_dir, run)
        split = json.loads((run / "split.json").read_text())
        everything = {"train": split["train"] + split["test"], "validation": [], "test": []}
        (run / "split.json").write_text(json.dumps({**split, **everything}))
        source, lines = load(run, calibration_clips=3, evaluation_clips=3)
        self.assertFalse(source.evaluation.real)
        self.assertIn("it kept none of them for a test or a validation", lines[0])

    def test_a_run_has_its_own_fold(self) -> None:
        with self.assertRaisesRegex(RequestError, "knows its own test fold"):
            load(self.run_dir, fold=2)


class FileTest(TrainedTonesCase):
    def data(self) -> Esc50DataConfig:
        return Esc50DataConfig(
            name="esc50", root=str(self.folder / "tones"), cache_dir=str(self.folder / "cache")
        )

    def test_a_fold_evaluates_and_the_others_calibrate(self) -> None:
        path = Path(self.run_dir) / "model.keras"
        source, _ = load(path, data=self.data(), fold=2)
        self.assertEqual({name[0] for name in source.evaluation.names}, {"2"})
        self.assertEqual({name[0] for name in source.calibration.names}, {"1", "3", "4"})
        self.assertEqual(source.evaluation.label_ids.max(), 2)
        self.assertEqual(source.name, "model")
        self.assertIsNone(source.experiment)
        source, _ = load(path, data=self.data())
        self.assertEqual({name[0] for name in source.evaluation.names}, {"4"})
        with self.assertRaisesRegex(DataError, "fold 9 does not exist .there are: 1, 2, 3, 4"):
            load(path, data=self.data(), fold=9)

    def test_clips_of_classes_that_the_model_has_not(self) -> None:
        path = self.folder / "other labels.keras"
        build_tiny(("high", "whistle", "low")).save(path)
        source, _ = load(path, data=self.data())
        ids = {
            int(name[-5]): int(number)
            for name, number in zip(
                source.evaluation.names, source.evaluation.label_ids, strict=True
            )
        }
        self.assertEqual(ids, {0: 2, 1: UNKNOWN_CLASS, 2: 0})
        self.assertEqual(source.name, "other_labels")

    def test_generated_sounds_for_want_of_data(self) -> None:
        source, lines = load(Path(self.run_dir) / "model.keras", calibration_clips=20)
        self.assertLen(lines, 1)
        self.assertLen(source.calibration.names, 20)
        self.assertFalse(source.calibration.real)
        self.assertEmpty(set(source.calibration.names) & set(source.evaluation.names))
        with self.assertRaisesRegex(RequestError, "--fold: goes with --data-root"):
            load(Path(self.run_dir) / "model.keras", fold=1)

    def test_what_is_no_model(self) -> None:
        with self.assertRaisesRegex(RequestError, "no such model"):
            load(self.folder / "nothing.keras")
        config = SyntheticDataConfig(name="synthetic")
        with self.assertRaisesRegex(RequestError, "which lies nowhere"):
            load(self.run_dir, data=config)


def make_records(counts: dict[str, int]) -> list[Record]:
    return [
        Record(f"{name}{index}", 0, name, 1, f"{name}{index}")
        for name, count in counts.items()
        for index in range(count)
    ]


def test_clips_are_spread_over_the_classes() -> None:
    records = make_records({"rare": 2, "common": 50, "usual": 10})
    chosen = choose_evenly(records, 12, seed=0)
    counts = [sum(r.label_name == name for r in chosen) for name in ("rare", "common", "usual")]
    assert counts == [2, 5, 5]
    assert choose_evenly(records[::-1], 12, seed=0) == chosen
    others = choose_evenly(records, 12, seed=1)
    assert others != chosen
    assert [sum(r.label_name == name for r in others) for name in ("rare", "common")] == [2, 5]
    assert len(choose_evenly(records, 100, seed=0)) == len(records)
