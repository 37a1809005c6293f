"""Runs whose model hears segments: trained, measured, reported, and asked about files."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import tensorflow as tf

from esc_tf import evaluate, predict, report
from esc_tf.config import Experiment, build_experiment
from esc_tf.config.loading import merge
from esc_tf.evaluation.metrics import compute_metrics
from esc_tf.tasks.classifier import load_classifier
from esc_tf.training.experiment import describe_start, train_experiment
from esc_tf.training.run_directory import RunDirectory
from export.source import load_source
from tests.config.base import problems_with
from tests.tiny import TINY
from tests.trained_tones import LABELS, RATE_HZ, call, write_tones

_LENGTH, _HOP = 1000, 500


def make(folder: Path) -> Experiment:
    """Tones of 0.5 s, 4000 samples, in segments of 1000 every 500."""
    return build_experiment(
        merge(
            {key: value for key, value in TINY.items() if key != "audio"},
            {
                "audio": {
                    "sample_rate_hz": RATE_HZ,
                    "segments": {"num_samples": _LENGTH, "hop_samples": _HOP},
                },
                "data": {
                    "name": "esc50",
                    "root": str(folder / "tones"),
                    "test_fold": 4,
                    "validation": 3,
                    "cache_dir": str(folder / "cache"),
                },
                "augment": {"mixup": None, "frequency_mask": None},
                "model": {"head": {"dropout": 0.0}},
                "recipe": {
                    "epochs": 3,
                    "batch_size": 8,
                    "schedule": {"name": "constant"},
                    "optimizer": {"name": "adam", "learning_rate": 0.01},
                    "early_stopping": None,
                    "monitor": "validation_balanced_accuracy",
                },
            },
        )
    )


class SegmentRunTest(tf.test.TestCase):
    folder: Path

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.folder = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        write_tones(cls.folder / "tones", (1, 2, 3, 4))
        # The first half of a clip to be tested is silent: segments 0 to 2, of 7.
        cls.quiet = sorted((cls.folder / "tones" / "audio").glob("4-*.wav"))[0]
        samples = soundfile.read(cls.quiet)[0]
        samples[:2000] = 0.0
        soundfile.write(cls.quiet, samples, RATE_HZ)
        cls.run_dir = cls.folder / "run"
        train_experiment(make(cls.folder), RunDirectory(cls.run_dir), report=lambda line: None)
        cls.metrics = json.loads((cls.run_dir / "metrics.json").read_text())

    def hear(self, path: Path) -> np.ndarray:
        """Probabilities of a file's segments, cut and normalised by hand."""
        samples = soundfile.read(path, dtype="float32")[0]
        starts = range(0, len(samples) - _LENGTH + 1, _HOP)
        parts = [samples[start : start + _LENGTH] for start in starts]
        parts = [part / np.abs(part).max() for part in parts if part.any()]
        model = load_classifier(self.run_dir)
        return np.asarray(model(np.stack(parts))["probabilities"])

    def test_metrics_are_those_of_a_plain_loop(self) -> None:
        files = sorted((self.folder / "tones" / "audio").glob("4-*.wav"))
        labels = [int(path.stem[-1]) for path in files]
        heard = [self.hear(path) for path in files]
        self.assertEqual(sorted(map(len, heard)), [4, 7, 7, 7, 7, 7])
        test = self.metrics["test"]
        by_mean = compute_metrics(
            np.array(labels), np.stack([rows.mean(axis=0) for rows in heard]), LABELS
        )
        self.assertEqual(test["confusion_matrix"], by_mean["confusion_matrix"])
        self.assertEqual(test["num_clips"], 6)
        by_most = [int(np.bincount(rows.argmax(axis=1)).argmax()) for rows in heard]
        expected = float(np.mean(np.array(by_most) == labels))
        self.assertEqual(test["majority_voting"]["accuracy"], expected)
        single = compute_metrics(
            np.repeat(labels, list(map(len, heard))), np.concatenate(heard), LABELS
        )
        self.assertEqual(test["segments"]["num_segments"], 39)
        for key in ("accuracy", "balanced_accuracy"):
            np.testing.assert_allclose(test["segments"][key], single[key])
        self.assertEqual(self.metrics["clips"], {"train": 12, "validation": 6, "test": 6})
        self.assertEqual(self.metrics["segments"], {"train": 84, "validation": 42, "test": 39})
        self.assertGreater(single["accuracy"], 0.5)  # it has learnt something

    def test_validation_is_that_of_segments(self) -> None:
        lines = [json.loads(line) for line in (self.run_dir / "metrics.jsonl").open()]
        values = [line["validation_balanced_accuracy"] for line in lines]
        selected = self.metrics["selected_epoch"]
        self.assertEqual(selected, 1 + int(np.argmax(values)))
        stored = self.metrics["validation"]["segments"]
        np.testing.assert_allclose(stored["balanced_accuracy"], max(values))
        np.testing.assert_allclose(stored["accuracy"], lines[selected - 1]["validation_accuracy"])

    def test_evaluate_measures_the_same(self) -> None:
        code, out, _ = call(evaluate, "--run-dir", str(self.run_dir), "--json")
        self.assertEqual(code, 0)
        found = json.loads(out)
        self.assertEqual(found["confusion_matrix"], self.metrics["test"]["confusion_matrix"])
        self.assertEqual(found["segments"]["num_segments"], 39)
        code, out, _ = call(evaluate, "--run-dir", str(self.run_dir))
        self.assertRegex(out, r"probability +majority +segments\nclips +6 +6 +39\n")

    def test_predict_is_the_mean_over_a_files_segments(self) -> None:
        short = self.folder / "short.wav"
        soundfile.write(short, soundfile.read(self.quiet)[0][2000:2400], RATE_HZ)
        longer = sorted((self.folder / "tones" / "audio").glob("4-*.wav"))[1]
        files = [self.quiet, short, longer]
        arguments = ("--model", str(self.run_dir), "--json", "--batch-size", "2")
        code, out, _ = call(predict, *arguments, *map(str, files))
        self.assertEqual(code, 0)
        lines = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([line["segments"] for line in lines], [4, 1, 7])
        for path, line in zip(files, lines, strict=True):
            if path == short:
                continue
            scores = {item["label"]: item["score"] for item in line["predictions"]}
            expected = self.hear(path).mean(axis=0)
            for label, score in zip(LABELS, expected, strict=True):
                self.assertAllClose(scores[label], score, atol=1e-5)
        code, out, _ = call(predict, "--model", str(self.run_dir), str(self.quiet))
        self.assertIn("(mean of 4 segments of 0.125 s)", out)
        code, _, err = call(
            predict, "--model", str(self.run_dir), "--duration", "1", str(self.quiet)
        )
        self.assertEqual(code, 2)
        self.assertIn("--duration: the model hears segments of 0.125 s; leave it out", err)

    def test_a_recordings_windows_are_normalised_as_segments_are(self) -> None:
        loud, soft = self.folder / "loud.wav", self.folder / "soft.wav"
        samples = soundfile.read(self.quiet)[0][2000:]
        for path, gain in ((loud, 1.0), (soft, 0.01)):
            soundfile.write(path, gain * samples, RATE_HZ, subtype="FLOAT")
        out = self.folder / "timelines"
        window = ("--window", str(_LENGTH / RATE_HZ), "--out", str(out))
        code, _, err = call(predict, "--model", str(self.run_dir), *window, str(loud), str(soft))
        self.assertEqual((code, err), (0, ""))
        rows = [(out / f"{name}.csv").read_text().splitlines() for name in ("loud", "soft")]
        self.assertLen(rows[0], 3)
        for one, other in zip(*rows, strict=True):
            self.assertEqual(one.split(",")[:2], other.split(",")[:2])
        values = [
            np.genfromtxt(out / f"{name}.csv", delimiter=",", names=True, dtype=None, encoding=None)
            for name in ("loud", "soft")
        ]
        for label in LABELS:
            self.assertAllClose(values[0][label], values[1][label], atol=1e-3)

    def test_sounds_of_no_class_are_not_measured_with_segments(self) -> None:
        code, _, err = call(evaluate, "--open-set", "--run-dir", str(self.run_dir))
        self.assertEqual(code, 2)
        self.assertIn("--open-set: the model hears segments", err)

    def test_an_exports_clips_are_segments(self) -> None:
        source = load_source(self.run_dir)
        for part in (source.calibration, source.evaluation):
            self.assertEqual(part.waveforms.shape[1], _LENGTH)
            self.assertAllClose(np.abs(part.waveforms).max(axis=1), np.ones(len(part.names)))

    def test_the_report_shows_votes_and_segments(self) -> None:
        code, _, err = call(report, str(self.run_dir), "--out", str(self.folder / "report"))
        self.assertEqual((code, err), (0, ""))
        page = (self.folder / "report" / "index.html").read_text()
        self.assertIn("test clips, majority", page)
        self.assertIn("test clips, segments", page)
        self.assertNotIn("computed again it is", page)  # the findings agree with the run

    def test_a_dry_run_counts_segments(self) -> None:
        run = RunDirectory(self.folder / "dry")
        self.assertIn(
            "segments of 1000 samples: 84 train, 42 validation, 39 test",
            describe_start(make(self.folder), run),
        )


def test_contradictions_are_said() -> None:
    segments = "audio={sample_rate_hz: 8000, segments: {num_samples: 4000, hop_samples: 2000}}"
    cases: list[tuple[tuple[str, ...], str]] = [
        (("data={name: shards, root: x}",), "audio.segments: are cut from decoded audio"),
        (("data={name: esc50, root: x, decoder: tfio}",), "which data.decoder tfio does without"),
        (
            ("recipe.distillation={mode: online, teacher: x.keras}",),
            "audio.segments: a teacher answers for whole clips",
        ),
    ]
    for overrides, words in cases:
        found = problems_with(segments, *overrides)
        assert any(words in problem for problem in found), found
    (problem,) = problems_with(
        "audio={sample_rate_hz: 8000, duration_s: 1.0, segments: {num_samples: 4000, "
        "hop_samples: 2000}}"
    )
    assert "1 s are not the 4000 samples of segments.num_samples; leave duration_s out" in problem


def test_the_duration_follows_from_the_samples() -> None:
    raw: dict[str, Any] = {"num_samples": 20992, "hop_samples": 10496}
    whole = {**TINY, "audio": {"sample_rate_hz": 22050, "segments": raw}}
    experiment = build_experiment(whole)
    assert experiment.num_samples == 20992
    assert experiment.audio.duration_s == 20992 / 22050
