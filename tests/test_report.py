"""The report of a real run, read back; several compared; what is missing; what is refused."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import soundfile
import tensorflow as tf

from esc_tf import report
from esc_tf.config import build_experiment, dump_experiment
from esc_tf.config.loading import merge
from esc_tf.evaluation.report import read_run_files, write_comparison
from esc_tf.training.experiment import train_experiment
from esc_tf.training.run_directory import RunDirectory
from tests.evaluation.report.reading import Page, correlate, decode_audio, decode_image
from tests.tiny import TINY

_RATE_HZ = 8000
# One that HTML would swallow, one that matplotlib would take for a formula.
_LABELS = ("<b>low</b>", "$mid$", "high")
_SECTIONS = [
    "measures", "learning", "classes", "roc", "calibration", "mistakes", "hearing", "parameters",
    "weights", "maps", "origin",
]  # fmt: skip
_WITHOUT_CLIPS = ["measures", "learning", "classes", "parameters", "weights", "origin"]
_SUMMARY = (
    "accuracy", "top_5_accuracy", "balanced_accuracy", "macro_f1", "roc_auc_macro", "roc_auc_micro",
)  # fmt: skip


def write_sounds(root: Path) -> None:
    """ESC-50's layout, four folds; no two sounds alike, and some shorter than half a second."""
    (root / "audio").mkdir(parents=True)
    (root / "meta").mkdir()
    rng = np.random.default_rng(0)
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in range(1, 5):
        for target, label in enumerate(_LABELS):
            for take in "ABC":
                duration_s = 0.3 if take == "C" else 0.5
                time_s = np.arange(int(duration_s * _RATE_HZ)) / _RATE_HZ
                hz = 300.0 * 3.0**target * rng.uniform(0.7, 1.4)
                sound = 0.4 * np.sin(2 * np.pi * hz * time_s) + 0.05 * rng.normal(size=time_s.size)
                name = f"{fold}-{fold}{target}{take}-{take}-{target}.wav"
                soundfile.write(root / "audio" / name, sound, _RATE_HZ, subtype="FLOAT")
                rows.append(f"{name},{fold},{target},{label},False,{fold}{target}{take},{take}")
    (root / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n")


def call(*arguments: object) -> tuple[int, str, list[str]]:
    """Run the command; return its exit code, stdout and its errors."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = report.main([str(argument) for argument in arguments])
    errors = [line for line in err.getvalue().splitlines() if line.startswith("error:")]
    return code, out.getvalue(), errors


def read_page(path: Path) -> Page:
    return Page((path / "index.html").read_text(encoding="utf-8"))


class ReportTest(tf.test.TestCase):
    folder: Path
    run_dir: Path
    page: Page
    metrics: dict[str, Any]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.folder = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        write_sounds(cls.folder / "sounds")
        experiment = build_experiment(
            merge(
                TINY,
                {
                    "data": {
                        "name": "esc50",
                        "root": str(cls.folder / "sounds"),
                        "test_fold": 4,
                        "validation": 3,
                        "cache_dir": str(cls.folder / "cache"),
                    },
                    "front_end": {"normalization": "standardize", "top_db": 40.0},
                    "augment": {"gain": {}, "time_mask": {"max_frames": 8}},
                    "recipe": {"epochs": 2, "batch_size": 6},
                },
            )
        )
        cls.run_dir = cls.folder / "run"
        train_experiment(experiment, RunDirectory(cls.run_dir), report=lambda line: None)
        cls.metrics = json.loads((cls.run_dir / "metrics.json").read_text())
        code, out, errors = call(cls.run_dir)
        assert (code, errors) == (0, []), errors
        assert out.strip() == f"report: {cls.run_dir / 'report' / 'index.html'}"
        cls.page = read_page(cls.run_dir / "report")

    def copy_run(self) -> Path:
        folder = Path(tempfile.mkdtemp(dir=self.folder)) / "copy"
        shutil.copytree(self.run_dir, folder, ignore=shutil.ignore_patterns("report"))
        return folder

    # --- the page

    def test_it_is_one_whole_file(self) -> None:
        page = self.page
        self.assertEqual(page.problems, [])
        self.assertTrue(page.source.startswith("<!DOCTYPE html>"))
        ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        self.assertEqual([name for name, count in Counter(ids).items() if count > 1], [])
        for reference in page.find_references():
            self.assertRegex(reference, r"^(#|data:(image/png|audio/ogg);base64,)")
            if reference.startswith("#"):
                self.assertIn(reference[1:], ids)
        self.assertEqual(page.find("script") + page.find("link") + page.find("iframe"), [])
        self.assertNotRegex(page.source, r"https?://|@import")
        self.assertEqual(
            list((self.run_dir / "report").iterdir()), [self.run_dir / "report/index.html"]
        )

    def test_every_section_is_there_and_linked(self) -> None:
        self.assertEqual(self.page.anchors, _SECTIONS)
        links = [attributes["href"] for attributes in self.page.find("a")]
        self.assertEqual(links, [f"#{anchor}" for anchor in _SECTIONS])
        self.assertLen(self.page.find("h1"), 1)
        self.assertLen(self.page.find("h2"), len(_SECTIONS))

    def test_everything_seen_can_also_be_read(self) -> None:
        images = self.page.find("img")
        plots = [item for item in self.page.find("div") if item.get("role") == "img"]
        self.assertTrue(all(item["alt"] for item in images))
        self.assertTrue(all(item["aria-label"] for item in plots))
        self.assertLen(self.page.find("svg"), len(plots))
        self.assertTrue(all(item["aria-label"] for item in self.page.find("audio")))
        self.assertIn({"name": "viewport", "content": "width=device-width, initial-scale=1"},
                      self.page.find("meta"))  # fmt: skip
        self.assertEqual(self.page.find("html"), [{"lang": "en"}])
        for label in _LABELS:
            self.assertIn(label, self.page.text)

    def test_every_figure_is_there(self) -> None:
        # Three curves, two of classes, ROC, reliability, three mels, a pair for each of six kinds
        # of augmentation, parameters, and a histogram for each kernel.
        num_kernels = len(["block1", "block2", "se2_dense1", "se2_dense2", "head_dense1", "logits"])
        self.assertLen(self.page.find("svg"), 3 + 2 + 1 + 1 + 3 + 2 * 6 + 1 + num_kernels)
        wrong = np.array(self.metrics["test"]["confusion_matrix"])
        num_errors = int(wrong.sum() - np.trace(wrong))
        self.assertGreater(num_errors, 0)
        # A mel for each error, and the maps of two convolutions, two blocks and one SE block.
        self.assertLen(self.page.find("img"), num_errors + 2 + 2 + 1)
        self.assertLen(self.page.find("article"), num_errors)
        self.assertLen(self.page.find("audio"), num_errors + 1)
        for name in ("block1_conv1", "block2", "se2", "Noise", "Gain", "Time mask", "Mixup"):
            self.assertIn(name, self.page.text)

    def test_numbers_are_those_of_the_run(self) -> None:
        numbers = self.page.numbers
        for part in ("validation", "test"):
            measured = self.metrics[part]
            for key in _SUMMARY:
                self.assertIn(measured[key], numbers, f"{part} {key}")
        for row in self.metrics["test"]["per_class"]:
            for key in ("precision", "recall", "f1", "roc_auc", "num_clips", "num_predicted"):
                if row[key] is not None:
                    self.assertIn(row[key], numbers)
        self.assertNotIn("computed again", self.page.text)
        text = self.page.text
        clips = self.metrics["clips"]
        for words in (
            "seed 0",
            f"{clips['train']} train, {clips['validation']} validation, {clips['test']} test",
            f"tensorflow {tf.__version__}",
            "sample_rate_hz: 8000",
        ):
            self.assertIn(words, text)
        history = (self.run_dir / "metrics.jsonl").read_text().splitlines()
        self.assertIn(f"training {json.loads(history[-1])['loss']:.4g}", text)

    def test_what_plays_is_the_clip_that_is_named(self) -> None:
        played = self.page.find("audio")
        best = []
        for item in played:
            clip_id = item["aria-label"].partition(",")[0]
            sound, rate_hz = decode_audio(item["src"])
            self.assertEqual(rate_hz, _RATE_HZ)
            scores = {}
            for path in (self.folder / "sounds" / "audio").glob("4-*.wav"):
                original = soundfile.read(path)[0]
                if len(original) == len(sound):
                    scores[path.name] = correlate(original, sound)
            (name,) = [name for name in scores if Path(name).stem == Path(clip_id).stem]
            self.assertEqual(max(scores, key=lambda key: scores[key]), name)
            # Vorbis leaves out some of the noise; measured 0.98 and more.
            self.assertGreater(scores[name], 0.9)
            best.append(name)
        self.assertLen(set(best[:-1]), len(best) - 1)

    def test_mistakes_are_mistakes_and_the_surest_come_first(self) -> None:
        text = self.page.text
        start = text.index("Misclassified clips ", text.index("Calibration", 1000))
        claims = [
            float(part.split("%")[0])
            for part in text[start : text.index("What the network hears", start)].split(" at ")[1:]
            if "%" in part[:8]
        ]
        self.assertLen(claims, len(self.page.find("article")))
        self.assertEqual(claims, sorted(claims, reverse=True))
        pixels = decode_image(self.page.find("img")[0]["src"])
        self.assertEqual(pixels.shape[:2], (24, 32))

    # --- choices and gaps

    def test_fewer_mistakes_another_clip_and_another_place(self) -> None:
        out = self.folder / "elsewhere"
        name = "4-41B-B-1.wav"
        code, _, errors = call(
            self.run_dir, "--out", out, "--max-errors", 1, "--clip", name
        )  # fmt: skip
        self.assertEqual((code, errors), (0, []))
        page = read_page(out)
        self.assertLen(page.find("article"), 1)
        self.assertRegex(page.text, r"Shown are the 1 on which")
        self.assertIn(f"Clip {name} of class $mid$", page.text)
        sound, _ = decode_audio(page.find("audio")[-1]["src"])
        original = soundfile.read(self.folder / "sounds" / "audio" / name)[0]
        self.assertGreater(correlate(sound, original), 0.9)

        code, _, errors = call(self.run_dir, "--out", out, "--clip", "none.wav")
        self.assertEqual(code, 2)
        self.assertRegex(errors[0], "--clip: none.wav is not among the 9 test clips")
        code, _, errors = call(self.run_dir, "--max-errors", -1)
        self.assertEqual(code, 2)

    def test_without_the_data_the_page_says_so_and_finds_it_where_it_is_now(self) -> None:
        run = self.copy_run()
        resolved = (run / "resolved.yaml").read_text()
        gone = str(self.folder / "gone")
        (run / "resolved.yaml").write_text(resolved.replace(str(self.folder / "sounds"), gone))
        self.assertEqual(call(run)[0], 0)
        page = read_page(run / "report")
        self.assertEqual(page.problems, [])
        self.assertEqual(page.anchors, _WITHOUT_CLIPS)
        self.assertIn("This page lacks ROC, calibration, misclassified clips", page.text)
        self.assertIn(gone, page.text)
        self.assertIn(self.metrics["test"]["accuracy"], page.numbers)

        root = self.folder / "sounds"
        self.assertEqual(call(run, "--data-root", root, "--max-errors", 0)[0], 0)
        self.assertEqual(read_page(run / "report").anchors, _SECTIONS)

    def test_without_the_model_and_before_the_end(self) -> None:
        run = self.copy_run()
        (run / "model.keras").write_bytes(b"nothing")
        self.assertEqual(call(run)[0], 0)
        page = read_page(run / "report")
        self.assertEqual(page.anchors, ["measures", "learning", "classes", "origin"])
        self.assertIn("damaged", page.text)

        (run / "metrics.json").unlink()
        self.assertEqual(call(run)[0], 0)
        page = read_page(run / "report")
        self.assertEqual(page.anchors, ["measures", "learning", "origin"])
        self.assertIn("not finished", page.text)
        (run / "metrics.jsonl").unlink()
        self.assertEqual(call(run)[0], 0)
        self.assertIn("No epoch has been finished yet", read_page(run / "report").text)

    def test_a_model_that_says_something_else_is_noticed(self) -> None:
        run = self.copy_run()
        metrics = json.loads((run / "metrics.json").read_text())
        metrics["test"]["accuracy"] = 0.123456
        metrics["skipped_files"] = [{"clip": "a.wav", "reason": "is <empty>"}]
        (run / "metrics.json").write_text(json.dumps(metrics))
        self.assertEqual(call(run, "--max-errors", 0)[0], 0)
        page = read_page(run / "report")
        self.assertIn(
            "The run measured an accuracy of 0.1235 on 9 clips; computed again", page.text
        )
        self.assertIn(0.123456, page.numbers)
        self.assertIn("a.wav: is <empty>", page.text)

    # --- several runs

    def test_comparison(self) -> None:
        other = self.copy_run().rename(self.folder / "other")
        resolved = (other / "resolved.yaml").read_text()
        (other / "resolved.yaml").write_text(resolved.replace("seed: 0", "seed: 7", 1))
        metrics = json.loads((other / "metrics.json").read_text())
        metrics["test"]["accuracy"] = 0.987654
        (other / "metrics.json").write_text(json.dumps(metrics))
        out = self.folder / "comparison"
        code, text, errors = call(self.run_dir, other, "--out", out)
        self.assertEqual((code, errors), (0, []))
        self.assertEqual(text.strip(), f"report: {out / 'index.html'}")
        page = read_page(out)
        self.assertEqual(page.problems, [])
        self.assertEqual(page.anchors, ["measures", "learning", "classes", "differences", "origin"])
        self.assertLen(page.find("svg"), 6)
        self.assertNotRegex(page.source, r"https?://")
        self.assertIn(0.987654, page.numbers)
        self.assertIn(self.metrics["test"]["accuracy"], page.numbers)
        self.assertRegex(page.source, r'class="best"><data value="0.987654"')
        self.assertIn("seed 0 7", page.text)
        self.assertNotIn("cannot be compared", page.text)
        # A link for the run that has a report of its own, and none for the other.
        links = [item["href"] for item in page.find("a") if not item["href"].startswith("#")]
        self.assertEqual(links, ["../run/report/index.html"])
        self.assertTrue((out / links[0]).is_file())

    def test_runs_that_cannot_be_compared_are_shown_as_such(self) -> None:
        run = RunDirectory(self.run_dir)
        experiment, facts = run.read_resolved()
        data = experiment.data.model_copy(update={"test_fold": 3})
        unfinished = self.copy_run()
        (unfinished / "metrics.json").unlink()
        runs = [
            read_run_files(run.path, experiment, facts),
            read_run_files(unfinished, experiment.model_copy(update={"data": data}), facts),
        ]
        page = read_page(write_comparison(runs, self.folder / "apart").parent)
        self.assertEqual(page.problems, [])
        self.assertIn("not measured on the same clips (different: data.test_fold)", page.text)
        self.assertIn("data.test_fold 4 3", page.text)
        self.assertRegex(page.text, "Not finished, hence without measures: copy")

    # --- refusals

    def test_what_is_no_run_is_refused(self) -> None:
        empty = tempfile.mkdtemp(dir=self.folder)
        nowhere = self.folder / "nowhere"
        code, _, errors = call(empty)
        self.assertEqual((code, len(errors)), (2, 1))
        self.assertIn("is not a run directory", errors[0])
        code, _, errors = call(self.run_dir, nowhere, empty)
        self.assertEqual((code, len(errors)), (2, 2))
        self.assertFalse(nowhere.exists())
        for flag in ("--clip", "--data-root"):
            code, _, errors = call(self.run_dir, self.run_dir, flag, "x")
            self.assertEqual(code, 2)
            self.assertIn(f"{flag} belongs to the report of one run", errors[0])
        synthetic = Path(tempfile.mkdtemp(dir=self.folder))
        text = dump_experiment(build_experiment(TINY), {})
        (synthetic / "resolved.yaml").write_text(text)
        code, _, errors = call(synthetic, "--data-root", "x")
        self.assertEqual(code, 2)
        self.assertIn("which has no folder", errors[0])

    def test_damaged_files_are_named(self) -> None:
        run = self.copy_run()
        (run / "metrics.jsonl").write_text('{"epoch": 1\n')
        code, _, errors = call(run)
        self.assertEqual(code, 1)
        self.assertRegex(errors[0], r"metrics.jsonl: is damaged")

    def test_a_report_that_fails_does_not_fail_the_training(self) -> None:
        run = RunDirectory(self.copy_run())
        out, err = io.StringIO(), io.StringIO()
        broken = mock.patch(
            "esc_tf.evaluation.report.write_report", side_effect=ValueError("no ink")
        )
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), broken:
            report.report_finished_run(run)
        self.assertEqual(out.getvalue(), "")
        self.assertRegex(err.getvalue(), r"warning: no report was written \(ValueError: no ink\)")

    def test_of_several_workers_only_the_first_writes(self) -> None:
        run = RunDirectory(self.copy_run())
        page = run.path / "report" / "index.html"
        addresses = {"worker": ["localhost:1", "localhost:2"]}
        for index, written in ((1, False), (0, True)):
            task = {"cluster": addresses, "task": {"type": "worker", "index": index}}
            out = io.StringIO()
            with (
                mock.patch.dict("os.environ", TF_CONFIG=json.dumps(task)),
                mock.patch("esc_tf.evaluation.report.write_report", return_value=page) as write,
                contextlib.redirect_stdout(out),
            ):
                report.report_finished_run(run)
            self.assertEqual(write.called, written)
            self.assertEqual(out.getvalue(), f"report: {page}\n" if written else "")


if __name__ == "__main__":
    tf.test.main()
