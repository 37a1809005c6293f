"""The command: teachers asked about clips, files written, requests refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from esc_tf import distill
from esc_tf.config import dump_experiment
from esc_tf.data import load_waveform
from esc_tf.tasks.classifier import load_classifier
from esc_tf.training.teacher_file import read_teacher_file
from tests.test_architecture import run_and_list_modules
from tests.trained_tones import call
from tests.training.invented_teachers import write_run
from tests.training.test_distillation import DistillationTestCase


class DistillTest(DistillationTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.teacher = self.write_teacher()
        self.config = self.folder / "student.yaml"
        self.config.write_text(dump_experiment(self.student()), encoding="utf-8")
        self.out = self.folder / "answers.npz"

    def teach(self, *arguments: str, teacher: Path | None = None) -> tuple[int, str, str]:
        named = ("--run-dir", str(teacher or self.teacher))
        common = ("teach", "--config", str(self.config), "--out", str(self.out))
        return call(distill, *common, *named, *arguments)

    def test_it_answers_before_tensorflow_is_loaded(self) -> None:
        self.assertEmpty(run_and_list_modules("esc_tf.distill") & {"tensorflow", "keras"})

    def test_the_clean_view_is_what_the_teacher_says_of_the_clips(self) -> None:
        code, out, err = self.teach()
        self.assertEqual((code, err), (0, ""))
        self.assertIn("18 clips, 1 views, 3 classes", out)
        self.assertRegex(out, r"right about \d+\.\d\d% of the clean clips")
        content = read_teacher_file(self.out)
        split, names, _ = self.load(self.student(8000))
        self.assertEqual(content.label_names, names)
        self.assertEqual(content.clip_ids, tuple(clip.record.clip_id for clip in split.train))
        model = load_classifier(self.teacher)
        waveforms = np.stack([load_waveform(clip, 8000) for clip in split.train])
        # measured: 3.4e-6
        self.assertAllClose(content.logits[:, 0], model(waveforms)["logits"], atol=1e-4)
        (teacher,) = content.facts["teachers"]
        self.assertEqual(teacher["seen"], sorted(content.clip_ids))
        self.assertEqual(content.facts["test_fold"], 4)

    def test_a_student_is_taught_by_what_was_written(self) -> None:
        code, out, _ = self.teach("--views", "3")
        self.assertEqual(code, 0)
        self.assertRegex(out, r"and about \d+\.\d\d% of their augmented views")
        content = read_teacher_file(self.out)
        self.assertGreater(np.abs(np.diff(content.logits, axis=1)).max(), 1e-3)
        result = self.train("run", self.student(recipe=self.offline(self.out)))
        self.assertLen(result.history, 3)
        # The same request gives the same file, another seed other views.
        self.assertEqual(self.teach("--views", "3", "--force")[0], 0)
        self.assertAllEqual(read_teacher_file(self.out).logits, content.logits)
        self.assertEqual(self.teach("--views", "3", "--force", "--seed", "9")[0], 0)
        other = read_teacher_file(self.out).logits
        self.assertAllEqual(other[:, 0], content.logits[:, 0])
        self.assertNotAllClose(other[:, 1], content.logits[:, 1])

    def test_an_ensemble_answers_with_its_mean(self) -> None:
        experiment = self.student(8000)
        _, names, clips = self.load(experiment)
        write_run(self.folder / "second", experiment, clips, names, seed=2)
        answers = []
        for teachers in (["teacher"], ["second"], ["teacher", "second"]):
            paths = [str(self.folder / name) for name in teachers]
            code, _, _ = call(
                distill, "teach", "--config", str(self.config), "--out", str(self.out),
                "--force", "--views", "2", "--run-dir", *paths,
            )  # fmt: skip
            self.assertEqual(code, 0)
            answers.append(read_teacher_file(self.out).logits)
        self.assertNotAllClose(answers[0], answers[1])
        self.assertAllClose(answers[2], (answers[0] + answers[1]) / 2.0, atol=1e-5)

    def test_the_test_fold_stands_in_paths(self) -> None:
        self.write_teacher("fold_4")
        raw = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        targets = str(self.folder / "answers_{test_fold}.npz")
        raw["recipe"]["distillation"] = {"targets": targets}
        self.config.write_text(yaml.safe_dump(raw), encoding="utf-8")
        run = str(self.folder / "fold_{test_fold}")
        code, out, _ = call(distill, "teach", "--config", str(self.config), "--run-dir", run)
        self.assertEqual(code, 0)
        self.assertIn(f"{self.folder / 'answers_4.npz'}: 18 clips", out)

    def refuse(self, words: str, *arguments: str, **options) -> None:
        before = sorted(self.folder.iterdir())
        code, _, err = self.teach(*arguments, **options)
        self.assertEqual(code, 2)
        self.assertRegex(err, f"^error: .*{words}")
        self.assertNotIn("Traceback", err)
        self.assertEqual(sorted(self.folder.iterdir()), before)

    def test_requests_that_cannot_be(self) -> None:
        self.refuse("was trained on 6 of the 6 clips that test", "--set", "data.test_fold=3")
        self.refuse(
            "--views 2: all views would be the same", "--views", "2", "--set", "augment.roll=null"
        )
        self.refuse("no such model", teacher=self.folder / "nothing.keras")
        self.refuse("it has besides middle", "--set", "data.classes=[low, high]")
        self.out = self.folder / "answers.txt"
        self.refuse("is called something.npz")
        self.out = self.folder / "answers.npz"
        self.out.write_bytes(b"mine")
        self.refuse("is there already; add --force")
        for arguments, words in (
            (("--config", str(self.config), "--out", str(self.out)), "name a teacher"),
            (("--config", str(self.config), "--run-dir", "x"), "--out FILE is required"),
        ):
            code, _, err = call(distill, "teach", *arguments)
            self.assertEqual(code, 2)
            self.assertIn(words, err)
        for count in ("0", "-1", "many", "100000"):
            self.assertEqual(self.teach("--views", count)[0], 2)
