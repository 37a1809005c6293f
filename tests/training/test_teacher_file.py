"""Files of answers: whole, without code in them, and refused where they do not belong."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.data import load_clips
from esc_tf.data.teaching import Views
from esc_tf.errors import CheckpointError, RequestError
from esc_tf.training.teacher_file import (
    TeacherFile,
    check_teacher_file,
    read_teacher_file,
    write_teacher_file,
)
from esc_tf.training.teachers import digest_model
from tests.tiny import tiny_experiment
from tests.training.invented_teachers import invent_answers


class TeacherFileTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.cache = tempfile.mkdtemp()
        cls.experiment = tiny_experiment(
            cls.cache, data={"clips_per_class_and_fold": 1}, augment={"roll": {}}
        )
        experiment = cls.experiment
        data_set, clips, _ = load_clips(experiment.data, experiment.audio, experiment.seed)
        cls.clips, cls.label_names = list(clips), data_set.label_names
        cls.content = invent_answers(experiment, cls.clips, cls.label_names, num_views=3)

    def setUp(self) -> None:
        super().setUp()
        self.path = Path(tempfile.mkdtemp()) / "sub" / "targets.npz"

    def check(self, content: TeacherFile, experiment=None, clips=None) -> np.ndarray:
        clips = self.clips if clips is None else clips
        return check_teacher_file(
            content, "t.npz", experiment or self.experiment, self.label_names, clips
        )

    def refuse(self, words: str, content: TeacherFile | None = None, **options) -> None:
        with self.assertRaisesRegex(RequestError, words):
            self.check(content or self.content, **options)

    def with_facts(self, **facts) -> TeacherFile:
        return dataclasses.replace(self.content, facts={**self.content.facts, **facts})

    def test_what_is_written_is_read(self) -> None:
        write_teacher_file(self.path, self.content)
        found = read_teacher_file(self.path)
        self.assertAllEqual(found.logits, self.content.logits)
        self.assertEqual(found.logits.dtype, np.float32)
        self.assertAllEqual(found.views.seeds, self.content.views.seeds)
        self.assertAllEqual(found.views.is_clean, [True, False, False])
        self.assertEqual(found.clip_ids, self.content.clip_ids)
        self.assertEqual(found.clip_digests, self.content.clip_digests)
        self.assertEqual(found.label_names, self.label_names)
        self.assertEqual(found.facts, {"format": 1, **self.content.facts})
        self.assertEqual([item.name for item in self.path.parent.iterdir()], ["targets.npz"])

    def test_rows_are_found_by_name(self) -> None:
        some = [self.clips[place] for place in (7, 0, 3)]
        self.assertAllEqual(self.check(self.content, clips=some), [7, 0, 3])

    def test_damage_and_other_files_are_refused(self) -> None:
        write_teacher_file(self.path, self.content)
        whole = self.path.read_bytes()
        for content in (b"", b"nothing", whole[:-200], whole[: len(whole) // 2]):
            self.path.write_bytes(content)
            with self.assertRaisesRegex(CheckpointError, "targets.npz: damaged, or not what"):
                read_teacher_file(self.path)
        np.savez(self.path, logits=np.zeros((1, 1, 2), np.float32))
        with self.assertRaisesRegex(CheckpointError, "damaged, or not what"):
            read_teacher_file(self.path)
        with self.assertRaisesRegex(RequestError, "no such file; make it with"):
            read_teacher_file(self.path.parent / "other.npz")

    def test_pickled_objects_are_not_run(self) -> None:
        canary = self.path.parent / "canary"

        class Malice:
            def __reduce__(self):
                return (os.mkdir, (str(canary),))

        write_teacher_file(self.path, self.content)
        with np.load(self.path) as archive:
            arrays = {key: archive[key] for key in archive.files}
        np.savez(self.path, **{**arrays, "clip_ids": np.array([Malice()], object)})
        with self.assertRaises(CheckpointError):
            read_teacher_file(self.path)
        self.assertFalse(canary.exists())

    @parameterized.parameters("logits", "seeds", "clip_ids", "label_names", "is_clean")
    def test_parts_that_do_not_fit_are_refused(self, part: str) -> None:
        views = self.content.views
        shorter = {
            "logits": {"logits": self.content.logits[:, :2]},
            "seeds": {"views": Views(views.seeds[1:], views.is_clean)},
            "clip_ids": {"clip_ids": self.content.clip_ids[1:]},
            "label_names": {"label_names": self.label_names[1:]},
            "is_clean": {"views": Views(views.seeds, views.is_clean.astype(np.int32))},
        }
        write_teacher_file(self.path, dataclasses.replace(self.content, **shorter[part]))
        with self.assertRaisesRegex(CheckpointError, "do not fit together"):
            read_teacher_file(self.path)

    def test_numbers_that_are_none_are_refused(self) -> None:
        logits = self.content.logits.copy()
        logits[0, 0, 0] = np.nan
        write_teacher_file(self.path, dataclasses.replace(self.content, logits=logits))
        with self.assertRaisesRegex(CheckpointError, "do not fit together"):
            read_teacher_file(self.path)

    def test_other_formats_are_refused(self) -> None:
        write_teacher_file(self.path, self.with_facts(format=9))
        with self.assertRaisesRegex(CheckpointError, "has format 9, and this version reads 1"):
            read_teacher_file(self.path)

    def test_other_classes_are_refused(self) -> None:
        names = self.label_names
        self.refuse(
            r"t.npz is for other classes: it lacks \w+ and has besides dragon",
            dataclasses.replace(self.content, label_names=("dragon", *names[1:])),
        )
        self.refuse(
            "same classes in another order",
            dataclasses.replace(self.content, label_names=names[::-1]),
        )

    def test_other_scores_are_refused(self) -> None:
        self.refuse(
            "holds sigmoid scores, and recipe.loss is categorical",
            self.with_facts(output="sigmoid"),
        )

    def test_other_clips_are_refused(self) -> None:
        fewer = dataclasses.replace(self.content, clip_ids=("x", "y", *self.content.clip_ids[2:]))
        ids = self.content.clip_ids
        self.refuse(rf"nothing of 2 of 50 training clips \({ids[0]}, {ids[1]}\)", fewer)
        digests = ("0", *self.content.clip_digests[1:])
        changed = dataclasses.replace(self.content, clip_digests=digests)
        self.refuse(r"other sounds of the same name: 1 of 50", changed)

    def test_other_views_are_refused_all_at_once(self) -> None:
        other = tiny_experiment(
            self.cache,
            data={"clips_per_class_and_fold": 1},
            audio={"duration_s": 0.4},
            augment={"roll": None, "noise": {"probability": 0.25}},
        )
        with self.assertRaises(RequestError) as caught:
            self.check(self.content, experiment=other)
        keys = ("audio.duration_s 0.5", "augment.roll", "augment.noise")
        problems = caught.exception.problems
        self.assertLen(problems, len(keys))
        for key in keys:
            self.assertLen([item for item in problems if f"holds views with {key}" in item], 1)
        # What is done to features, what takes a clip's place, and how the clean view is used, is
        # the student's own business.
        masks = {"frequency_mask": {"max_bands": 2}, "mixup": None, "roll": {}, "outlier": {}}
        own = tiny_experiment(self.cache, data={"clips_per_class_and_fold": 1}, augment=masks)
        self.check(self.content, experiment=own)
        clean = invent_answers(self.experiment, self.clips, self.label_names, num_views=1)
        self.check(clean, experiment=other)

    def test_a_teacher_that_has_changed_makes_it_stale(self) -> None:
        self.path.parent.mkdir()
        teacher = self.path.parent / "model.keras"
        teacher.write_bytes(b"first")
        listed = {
            "path": "runs/a", "file": str(teacher), "sha256": digest_model(teacher), "seen": None
        }  # fmt: skip
        content = self.with_facts(teachers=[listed])
        self.check(content)
        teacher.write_bytes(b"second")
        self.refuse("is stale: its teacher runs/a has changed since", content)
        teacher.unlink()  # moved away, which is nobody's fault
        self.check(content)
