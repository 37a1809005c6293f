"""A student and its teacher: pairing, the loss of a step, whole runs in both modes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.augment.outliers import IS_OUTLIER
from esc_tf.config import Experiment
from esc_tf.config.loading import merge
from esc_tf.data import Split, build_pipeline, load_clips
from esc_tf.errors import DataError, RequestError
from esc_tf.tasks import build_classifier, build_loss
from esc_tf.tasks.losses import build_teacher_loss, soften
from esc_tf.training.distillation import prepare_distillation
from esc_tf.training.experiment import describe_start
from esc_tf.training.run_directory import RunDirectory
from esc_tf.training.split_file import split_experiment
from esc_tf.training.supervised import build_train_step
from esc_tf.training.teacher_file import TeacherFile, write_teacher_file
from tests.tiny import tiny_experiment
from tests.trained_tones import write_tones
from tests.training.invented_teachers import invent_answers, write_run
from tests.training.test_experiment import TrainingTestCase, without_times

AUGMENT = {"roll": {}, "wave_mix": {}, "mixup": {"alpha": 0.5, "at_least_half": True}}
# Small, quick, and of any length.
STUDENT = {
    "name": "mobilenet_student",
    "block_filters": [8, 8],
    "depths": [1, 1],
    "strides": [2, 2],
    "kernels": [3, 3],
    "plain_stages": 1,
    "embedding_units": 16,
    "head": {"dropout": 0.0},
}
NUM_CLASSES = 3


class DistillationTestCase(TrainingTestCase):
    """Six files of tones a fold, in four folds, that students and teachers may hear at any rate."""

    def setUp(self) -> None:
        super().setUp()
        write_tones(self.folder / "tones", folds=(1, 2, 3, 4))

    def student(self, rate_hz: int = 4000, **sections: Any) -> Experiment:
        """A student of the tones; what ``sections`` say counts more."""
        tones = {"name": "esc50", "root": str(self.folder / "tones"), "test_fold": 4}
        recipe = {"epochs": 3, "batch_size": 6, "monitor": "loss", "early_stopping": None}
        base = {
            "audio": {"sample_rate_hz": rate_hz},
            "data": {**tones, "validation": None},
            "augment": {"noise": None, "time_shift": None, "frequency_mask": None, **AUGMENT},
            "model": STUDENT,
            "recipe": {**recipe, "schedule": {"name": "constant"}},
        }
        return tiny_experiment(str(self.folder / "cache"), **merge(base, sections))

    def load(self, experiment: Experiment) -> tuple[Split, tuple[str, ...], list]:
        data_set, clips, _ = load_clips(experiment.data, experiment.audio, experiment.seed)
        return split_experiment(experiment, clips), data_set.label_names, clips

    def offline(self, path: Path, **options: Any) -> dict[str, Any]:
        return {"distillation": {"targets": str(path), **options}}

    def online(self, path: Path, **options: Any) -> dict[str, Any]:
        return {"distillation": {"mode": "online", "teacher": str(path), **options}}

    def write_answers(self, experiment: Experiment, num_views: int = 2, **facts: Any) -> Path:
        split, names, _ = self.load(experiment)
        path = self.folder / f"answers_{num_views}.npz"
        write_teacher_file(path, invent_answers(experiment, split.train, names, num_views, **facts))
        return path

    def write_teacher(self, name: str = "teacher", **sections: Any) -> Path:
        experiment = self.student(8000, **sections)
        _, names, clips = self.load(experiment)
        return write_run(self.folder / name, experiment, clips, names)

    def prepare(self, experiment: Experiment, **options: Any):
        split, names, _ = self.load(experiment)
        return prepare_distillation(experiment, split, names, **options)


class PairingTest(DistillationTestCase, parameterized.TestCase):
    def test_without_distillation_there_is_no_teacher(self) -> None:
        found = self.prepare(self.student())
        self.assertIsNone(found.ask_teacher)
        self.assertIsNone(found.digest)
        self.assertEqual((dict(found.facts), list(found.lines)), ({}, []))

    @parameterized.parameters(1, 3)
    def test_answers_are_softened_and_in_the_order_of_the_clips(self, num_views: int) -> None:
        plain = self.student()
        split, names, clips = self.load(plain)
        content = invent_answers(plain, clips[::-1], names, num_views)
        path = self.folder / "answers.npz"
        write_teacher_file(path, content)
        student = self.student(recipe=self.offline(path, temperature=2.0))
        found = self.prepare(student)
        rows = [content.clip_ids.index(clip.record.clip_id) for clip in split.train]
        self.assertNotEqual(rows, list(range(len(rows))))
        expected = soften(content.logits[rows], "categorical_crossentropy", 2.0)
        self.assertAllEqual(found.teaching.targets, expected)
        if num_views == 1:
            self.assertIsNone(found.teaching.views)
        else:
            self.assertAllEqual(found.teaching.views.seeds, content.views.seeds[rows])
        self.assertIn("0.1 x the labels' loss + 0.9 x the teacher's", found.lines[0])
        self.assertEqual(found.facts["path"], str(path))
        self.assertLen(found.digest, 64)

    def test_the_test_fold_stands_in_the_path(self) -> None:
        path = self.write_answers(self.student())
        (self.folder / "fold_4.npz").write_bytes(path.read_bytes())
        template = self.folder / "fold_{test_fold}.npz"
        self.assertLen(self.prepare(self.student(recipe=self.offline(template))).digest, 64)
        other = self.student(recipe=self.offline(template), data={"test_fold": 3})
        with self.assertRaisesRegex(RequestError, "fold_3.npz: no such file; make it with"):
            self.prepare(other)

    def test_a_changed_teacher_does_not_go_on(self) -> None:
        path = self.write_answers(self.student())
        with self.assertRaisesRegex(RequestError, "is not what it was when the run began"):
            self.prepare(self.student(recipe=self.offline(path)), known_digest="0" * 64)

    def test_a_teacher_that_knows_the_test_is_refused(self) -> None:
        split, _, _ = self.load(self.student())
        tested = [clip.record.clip_id for clip in split.test]
        listed = {"path": "runs/x", "file": "/nowhere", "sha256": "0", "seen": tested[:2]}
        path = self.write_answers(self.student(), teachers=[listed])
        student = self.student(recipe=self.offline(path))
        words = rf"teacher runs/x was trained on 2 of the {len(tested)} clips that test"
        with self.assertRaisesRegex(RequestError, words):
            self.prepare(student)
        # Online, by the run's own record: its test fold is 3.
        teacher = self.write_teacher(data={"test_fold": 3})
        with self.assertRaisesRegex(RequestError, r"test the student .*; take one trained"):
            self.prepare(self.student(recipe=self.online(teacher)))
        self.write_teacher("fold_4", data={"test_fold": 4})
        self.prepare(self.student(recipe=self.online(self.folder / "fold_{test_fold}")))

    def test_what_is_not_known_or_flatters_is_said(self) -> None:
        split, _, _ = self.load(self.student())
        heard = [clip.record.clip_id for clip in split.train]
        listed = [
            {"path": "one", "file": "/nowhere", "sha256": "0", "seen": None},
            {"path": "two", "file": "/nowhere", "sha256": "0", "seen": heard},
        ]
        path = self.write_answers(self.student(), teachers=listed)
        student = self.student(recipe=self.offline(path), data={"validation": 1})
        lines = self.prepare(student).lines
        self.assertIn("what one was trained on is not known", lines[1])
        self.assertIn("two was trained on 6 of the 6 clips that validate", lines[2])

    def test_wrong_teachers_in_the_loop(self) -> None:
        teacher = self.write_teacher()
        (self.folder / "saved").mkdir()
        (self.folder / "saved" / "saved_model.pb").write_bytes(b"")
        for path, words in (
            (self.folder / "gone.keras", "no such file; name a .keras file or a finished run"),
            (self.folder / "saved", "only a .keras file or a run can be asked"),
        ):
            with self.assertRaisesRegex(RequestError, words):
                self.prepare(self.student(recipe=self.online(path)))
        loss = {"loss": "binary_crossentropy"}
        with self.assertRaisesRegex(RequestError, "has softmax scores, and recipe.loss is binary"):
            self.prepare(self.student(recipe={**self.online(teacher), **loss}))
        data = {"classes": ["low", "high"]}
        with self.assertRaisesRegex(RequestError, "for other classes: it has besides middle"):
            self.prepare(self.student(recipe=self.online(teacher), data=data))

    def test_generated_sounds_need_one_rate(self) -> None:
        data = {"name": "synthetic", "clips_per_class_and_fold": 1, "test_fold": 5}
        wide = tiny_experiment(str(self.folder / "cache"), data=data)
        data_set, clips, _ = load_clips(wide.data, wide.audio, 0)
        teacher = write_run(self.folder / "synthetic", wide, clips, data_set.label_names)
        student = {"sample_rate_hz": 4000}
        experiment = tiny_experiment(
            str(self.folder / "cache"), data=data, audio=student, recipe=self.online(teacher)
        )
        with self.assertRaisesRegex(DataError, "is another sound at 8000 Hz, as generated ones"):
            self.prepare(experiment)


class StepTest(DistillationTestCase, parameterized.TestCase):
    def first_step(self, experiment: Experiment):
        """The first batch, the loss that the step measured, and the model before it."""
        split, names, _ = self.load(experiment)
        found = self.prepare(experiment)
        pipeline = build_pipeline(
            split.train,
            audio=experiment.audio,
            num_classes=len(names),
            batch_size=experiment.recipe.batch_size,
            training=True,
            draw=lambda seed: {"draw/mixup_weight": tf.constant(0.75)},
            teaching=found.teaching,
        )
        keras.utils.set_random_seed(0)
        model = build_classifier(experiment, names)
        before = model.get_weights()
        optimizer = keras.optimizers.SGD(0.1)
        step = build_train_step(
            model, optimizer, tf.distribute.get_strategy(), experiment, found.ask_teacher
        )
        batch = next(iter(pipeline.epoch(0)))
        loss = float(step(batch)["loss"])
        self.assertFalse(np.array_equal(model.get_weights()[0], before[0]))
        model.set_weights(before)
        return batch, loss, model, found

    def expect(self, experiment: Experiment, batch, model, taught) -> float:
        def mix(rows: tf.Tensor) -> tf.Tensor:
            return 0.75 * rows + 0.25 * tf.roll(rows, 1, axis=0)

        features = mix(model.extract_features(batch["waveform"], batch["num_samples"]))
        logits = model.classify_features(features, training=True)["logits"]
        weight = experiment.recipe.distillation.label_weight
        losses = weight * build_loss(experiment.recipe)(mix(batch["label"]), logits)
        losses += (1 - weight) * build_teacher_loss(experiment.recipe)(mix(taught), logits)
        return float(tf.reduce_sum(losses))

    @parameterized.parameters(
        ("categorical_crossentropy", 0.1, 1.0),
        ("categorical_crossentropy", 0.7, 3.0),
        ("binary_crossentropy", 0.1, 2.0),
    )
    def test_offline_loss_is_that_of_mixed_targets(
        self, loss: str, weight: float, temperature: float
    ) -> None:
        augment = {"mixup": {"on": "features"}, "wave_mix": None}
        plain = {"augment": augment, "recipe": {"loss": loss}}
        path = self.write_answers(self.student(**plain))
        options = self.offline(path, label_weight=weight, temperature=temperature)
        experiment = self.student(augment=augment, recipe={"loss": loss, **options})
        batch, measured, model, _ = self.first_step(experiment)
        expected = self.expect(experiment, batch, model, batch["taught"])
        self.assertAllClose(measured, expected, rtol=1e-4)

    @parameterized.parameters(4000, 8000)
    def test_online_loss_is_that_of_the_teachers_own_hearing(self, rate_hz: int) -> None:
        augment = {"mixup": {"on": "features"}, "wave_mix": None}
        path = self.write_teacher()
        experiment = self.student(
            rate_hz, augment=augment, recipe=self.online(path, temperature=2.0)
        )
        batch, measured, model, found = self.first_step(experiment)
        key = "waveform" if rate_hz == 8000 else "teacher_waveform"
        self.assertEqual("teacher_waveform" in batch, rate_hz != 8000)
        self.assertEqual(batch[key].shape, (6, 4000))
        teacher = keras.saving.load_model(path / "model.keras")
        taught = tf.nn.softmax(teacher(batch[key])["logits"] / 2.0)
        self.assertAllClose(found.ask_teacher(batch), taught, atol=1e-4)
        self.assertGreater(float(tf.reduce_max(tf.math.reduce_std(taught, axis=0))), 1e-3)
        expected = self.expect(experiment, batch, model, taught)
        self.assertAllClose(measured, expected, rtol=1e-3)

    def test_of_an_outlier_a_teacher_has_nothing_to_say(self) -> None:
        augment = {"mixup": {"on": "features"}, "wave_mix": None}
        path = self.write_answers(self.student(augment=augment))
        experiment = self.student(augment=augment, recipe=self.offline(path))
        batch, _, model, found = self.first_step(experiment)
        is_outlier = tf.constant([False, True, False, False, True, False])
        label = tf.where(is_outlier[:, None], 1.0 / NUM_CLASSES, batch["label"])
        sure = tf.one_hot([0] * 6, NUM_CLASSES)
        batch = {**batch, IS_OUTLIER: is_outlier, "label": label, "taught": sure}
        heeded = self.expect(experiment, batch, model, batch["taught"])
        taught = tf.where(is_outlier[:, None], label, batch["taught"])
        expected = self.expect(experiment, batch, model, taught)
        strategy, optimizer = tf.distribute.get_strategy(), keras.optimizers.SGD(0.1)
        step = build_train_step(model, optimizer, strategy, experiment, found.ask_teacher)
        self.assertAllClose(step(batch)["loss"], expected, rtol=1e-4)
        self.assertNotAllClose(heeded, expected, rtol=1e-2)

    def test_a_teacher_goes_with_its_section(self) -> None:
        strategy = tf.distribute.get_strategy()
        with self.assertRaisesRegex(ValueError, "go together"):
            build_train_step(None, None, strategy, self.student(), lambda batch: batch["taught"])


class RunTest(DistillationTestCase):
    def test_a_run_keeps_what_it_was_taught_by_and_resumes_bit_by_bit(self) -> None:
        path = self.write_answers(self.student(), num_views=3)
        experiment = self.student(recipe=self.offline(path))
        whole = self.train("whole", experiment)
        facts = RunDirectory(self.folder / "whole").read_resolved()[1]["distillation"]
        self.assertEqual((facts["mode"], facts["path"]), ("offline", str(path)))
        self.assertRegex(facts["sha256"], "^[0-9a-f]{64}$")
        self.assertEqual(facts["teachers"], [{"path": "nobody", "sha256": "0"}])
        shorter = experiment.model_copy(
            update={"recipe": experiment.recipe.model_copy(update={"epochs": 2})}
        )
        self.train("parts", shorter)
        parts = self.train("parts", experiment, resume=True)
        self.assertEqual(without_times(parts.history), without_times(whole.history))
        # Another file of the same name is another teacher.
        split, names, _ = self.load(experiment)
        content: TeacherFile = invent_answers(experiment, split.train, names, 3)
        changed = dataclasses.replace(content, logits=content.logits + 1.0)
        write_teacher_file(path, changed)
        with self.assertRaisesRegex(RequestError, "is not what it was when the run began"):
            self.train("parts", experiment, resume=True)

    def test_online_runs_and_leaves_no_trace_of_the_teacher_in_the_model(self) -> None:
        path = self.write_teacher()
        plain, taught = self.student(), self.student(recipe=self.online(path))
        self.assertIn("hears every batch", describe_start(taught, RunDirectory(self.folder / "r")))
        results = [self.train("plain", plain), self.train("taught", taught)]
        losses = [[line["loss"] for line in result.history] for result in results]
        self.assertNotEqual(*losses)
        sizes = [
            (self.folder / name / "model.keras").stat().st_size for name in ("plain", "taught")
        ]
        self.assertAllClose(*sizes, rtol=0.01)
