"""A teacher's embedding as a further target: kept, paired, compared, resumed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from esc_tf.data import build_pipeline
from esc_tf.errors import CheckpointError, ConfigError, RequestError
from esc_tf.tasks import build_classifier, build_loss
from esc_tf.tasks.losses import build_teacher_loss
from esc_tf.training.embedding_match import (
    EmbeddingMatch,
    build_embedding_match,
    standardize_embeddings,
)
from esc_tf.training.supervised import build_train_step
from esc_tf.training.teacher_file import read_teacher_file, write_teacher_file
from esc_tf.training.teachers import load_teacher
from esc_tf.training.teaching import teach
from tests.training.invented_teachers import invent_answers
from tests.training.test_distillation import DistillationTestCase
from tests.training.test_experiment import without_times

UNITS = 5


class EmbeddingMatchTest(DistillationTestCase):
    def write_embeddings(self, num_views: int = 3) -> Path:
        split, names, _ = self.load(self.student())
        content = invent_answers(self.student(), split.train, names, num_views)
        shape = (*content.logits.shape[:2], UNITS)
        rng = np.random.default_rng(3)
        values = rng.normal(2.0, [1.0, 10.0, 0.1, 3.0, 0.0], shape).astype(np.float16)
        path = self.folder / "embeddings.npz"
        write_teacher_file(path, dataclasses.replace(content, embeddings=values))
        return path

    def test_units_are_standardized_over_clips_and_views(self) -> None:
        rng = np.random.default_rng(0)
        values = rng.normal(5.0, 3.0, (40, 6, 3))
        values[..., 2] = 7.0
        found = standardize_embeddings(values.astype(np.float16))
        self.assertEqual(found.dtype, np.float32)
        self.assertAllClose(found.mean(axis=(0, 1)), np.zeros(3), atol=1e-3)
        self.assertAllClose(found.std(axis=(0, 1)), [1.0, 1.0, 0.0], atol=1e-3)
        wanted = (values - values.mean(axis=(0, 1)))[..., 0] / values[..., 0].std()
        self.assertAllClose(found[..., 0], wanted, atol=1e-2)

    def test_is_the_mean_square_behind_an_affine_map(self) -> None:
        match = EmbeddingMatch(4, 3)
        rng = np.random.default_rng(1)
        kernel, bias = rng.normal(size=(4, 3)), rng.normal(size=3)
        for variable, value in zip(match.variables, (kernel, bias), strict=True):
            variable.assign(value)
        embedding, taught = rng.normal(size=(6, 4)), rng.normal(size=(6, 3))
        expected = np.mean((embedding @ kernel + bias - taught) ** 2, axis=1)
        self.assertAllClose(match(embedding, taught), expected, rtol=1e-5)

    def test_targets_without_embeddings_are_refused(self) -> None:
        path = self.write_answers(self.student())
        student = self.student(recipe=self.offline(path, embedding_weight=1.0))
        with self.assertRaisesRegex(RequestError, "no embeddings.*teach again with --embeddings"):
            self.prepare(student)

    def test_online_is_refused(self) -> None:
        with self.assertRaisesRegex(ConfigError, "embedding_weight is for offline distillation"):
            self.student(recipe=self.online(self.folder, embedding_weight=1.0))

    def test_embeddings_stand_behind_the_probabilities(self) -> None:
        path = self.write_embeddings()
        plain = self.prepare(self.student(recipe=self.offline(path)))
        self.assertEqual(plain.embedding_units, 0)
        found = self.prepare(self.student(recipe=self.offline(path, embedding_weight=0.5)))
        self.assertEqual(found.embedding_units, UNITS)
        num_classes = plain.teaching.targets.shape[2]
        self.assertAllEqual(found.teaching.targets[..., :num_classes], plain.teaching.targets)
        units = standardize_embeddings(read_teacher_file(path).embeddings)
        self.assertAllEqual(found.teaching.targets[..., num_classes:], units)
        self.assertIn("+ 0.5 x the embedding's", found.lines[0])

    def test_the_loss_of_a_step(self) -> None:
        path = self.write_embeddings(num_views=1)
        experiment = self.student(
            augment={"mixup": {"on": "features"}, "wave_mix": None},
            recipe=self.offline(path, embedding_weight=0.7),
        )
        split, names, _ = self.load(experiment)
        found = self.prepare(experiment)
        pipeline = build_pipeline(
            split.train,
            audio=experiment.audio,
            num_classes=len(names),
            batch_size=6,
            training=True,
            draw=lambda seed: {"draw/mixup_weight": tf.constant(0.75)},
            teaching=found.teaching,
        )
        keras.utils.set_random_seed(0)
        model = build_classifier(experiment, names)
        match = build_embedding_match(model, found.embedding_units)
        kernel, bias = (variable.numpy() for variable in match.variables)
        before = model.get_weights()
        step = build_train_step(
            model,
            keras.optimizers.SGD(0.1),
            tf.distribute.get_strategy(),
            experiment,
            found.ask_teacher,
            match,
        )
        batch = next(iter(pipeline.epoch(0)))
        measured = float(step(batch)["loss"])
        self.assertNotAllClose(match.variables[0], kernel)
        model.set_weights(before)

        def mix(rows: tf.Tensor) -> tf.Tensor:
            return 0.75 * rows + 0.25 * tf.roll(rows, 1, axis=0)

        features = mix(model.extract_features(batch["waveform"], batch["num_samples"]))
        outputs = model.classify_features(features, training=True)
        taught = mix(batch["taught"]).numpy()
        probabilities, units = taught[:, : len(names)], taught[:, len(names) :]
        losses = 0.1 * build_loss(experiment.recipe)(mix(batch["label"]), outputs["logits"])
        losses += 0.9 * build_teacher_loss(experiment.recipe)(probabilities, outputs["logits"])
        mapped = outputs["embedding"].numpy() @ kernel + bias
        losses += 0.7 * np.mean((mapped - units) ** 2, axis=1)
        self.assertAllClose(measured, float(tf.reduce_sum(losses)), rtol=1e-4)

    def test_a_run_resumes_bit_by_bit_and_leaves_the_map_behind(self) -> None:
        recipe = self.offline(self.write_embeddings(), embedding_weight=1.0)
        experiment = self.student(recipe=recipe, augment={"outlier": {"probability": 0.3}})
        whole = self.train("whole", experiment)
        shorter = experiment.model_copy(
            update={"recipe": experiment.recipe.model_copy(update={"epochs": 2})}
        )
        self.train("parts", shorter)
        parts = self.train("parts", experiment, resume=True)
        self.assertEqual(without_times(parts.history), without_times(whole.history))
        model = keras.saving.load_model(self.folder / "whole" / "model.keras")
        names = [variable.path for variable in model.variables]
        self.assertEqual([name for name in names if "embedding_match" in name], [])

    def test_files_keep_them_and_refuse_what_does_not_fit(self) -> None:
        path = self.write_embeddings()
        content = read_teacher_file(path)
        self.assertEqual(content.embeddings.dtype, np.float16)
        for wrong in (
            content.embeddings[:-1],
            content.embeddings[..., 0],
            content.embeddings * np.nan,
        ):
            write_teacher_file(path, dataclasses.replace(content, embeddings=wrong))
            with self.assertRaisesRegex(CheckpointError, "its parts do not fit together"):
                read_teacher_file(path)

    def test_teachers_write_them_side_by_side(self) -> None:
        teachers = [
            load_teacher(str(self.write_teacher(name, seed=seed)))
            for name, seed in (("one", 1), ("two", 2))
        ]
        student = self.student()
        content = teach(
            student, teachers, num_views=2, keep_embeddings=True, report=lambda line: None
        )
        embeddings = content.embeddings
        self.assertEqual(embeddings.shape[:2], content.logits.shape[:2])
        clean = self.student(8000)
        _, names, clips = self.load(clean)
        by_id = {clip.record.clip_id: clip for clip in clips}
        pipeline = build_pipeline(
            [by_id[name] for name in content.clip_ids],
            audio=clean.audio,
            num_classes=len(names),
            batch_size=6,
            training=False,
        )
        expected = []
        for name in ("one", "two"):
            model = keras.saving.load_model(self.folder / name / "model.keras")
            rows = [model(batch["waveform"])["embedding"] for batch in pipeline.epoch(0)]
            expected.append(np.concatenate(rows)[: len(content.clip_ids)])
        wanted = np.concatenate(expected, axis=1)
        self.assertAllClose(embeddings[:, 0], wanted, rtol=2e-3, atol=2e-3)
        self.assertNotAllClose(embeddings[:, 1], wanted, rtol=2e-3, atol=2e-3)

    def test_a_teacher_without_one_is_refused(self) -> None:
        teacher = dataclasses.replace(load_teacher(str(self.write_teacher())), in_graph=False)
        with self.assertRaisesRegex(RequestError, "gives no embedding; leave --embeddings out"):
            teach(self.student(), [teacher], num_views=2, keep_embeddings=True)


if __name__ == "__main__":
    tf.test.main()
