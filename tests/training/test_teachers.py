"""Teachers of every kind: waveforms in, logits out."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.data import load_clips
from esc_tf.errors import CheckpointError, RequestError
from esc_tf.tasks import Classifier
from esc_tf.training.teachers import digest_model, find_model_file, load_teacher
from tests.tiny import tiny_experiment
from tests.training.invented_teachers import build_teacher, write_run

LABELS = [f"class_{number}" for number in range(10)]
NUM_SAMPLES = 4000
TOLERANCE = 1e-5


def export(model: Classifier, folder: Path, scores: tuple[str, ...], num_samples=None) -> None:
    """A SavedModel with one signature, as the export has it."""
    specification = tf.TensorSpec([1 if num_samples else None, num_samples], tf.float32)
    module = tf.Module()
    module.kept = [variable.value for variable in model.variables]
    module.run = tf.function(
        lambda waveform: {key: model(waveform)[key] for key in scores}, [specification]
    )
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.run})


class TeacherTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.folder = Path(tempfile.mkdtemp())
        cls.experiment = tiny_experiment(
            str(cls.folder / "cache"), data={"clips_per_class_and_fold": 1}
        )
        cls.model = build_teacher(cls.experiment, LABELS)
        (cls.folder / "alone").mkdir()
        cls.model.save(cls.folder / "alone" / "model.keras")
        rng = np.random.default_rng(0)
        cls.waveform = 0.1 * rng.normal(size=(3, NUM_SAMPLES)).astype(np.float32)
        cls.logits = cls.model(cls.waveform)["logits"].numpy()

    @classmethod
    def tearDownClass(cls) -> None:
        shutil.rmtree(cls.folder)
        super().tearDownClass()

    def hear(self, teacher, waveform=None) -> np.ndarray:
        waveform = tf.constant(self.waveform if waveform is None else waveform)
        return np.asarray(teacher.hear(waveform, tf.fill([len(waveform)], waveform.shape[1])))

    def folder_for(self, name: str) -> Path:
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def test_a_classifier(self) -> None:
        teacher = load_teacher(str(self.folder / "alone" / "model.keras"))
        self.assertEqual(teacher.facts.label_names, tuple(LABELS))
        self.assertEqual(teacher.facts.audio.sample_rate_hz, 8000)
        self.assertEqual(
            (teacher.facts.output, teacher.loss), ("softmax", "categorical_crossentropy")
        )
        self.assertIsNone(teacher.seen)
        self.assertTrue(teacher.in_graph)
        self.assertAllClose(self.hear(teacher), self.logits, rtol=0, atol=TOLERANCE)
        self.assertEqual(teacher.digest, digest_model(self.folder / "alone" / "model.keras"))
        with self.assertRaisesRegex(RequestError, "knows its own labels, rate and scores"):
            load_teacher(str(self.folder / "alone"), output="softmax")

    def test_a_run_says_what_it_has_heard(self) -> None:
        experiment = self.experiment
        data_set, clips, _ = load_clips(experiment.data, experiment.audio, experiment.seed)
        run = write_run(self.folder_for("run"), experiment, clips, data_set.label_names)
        teacher = load_teacher(str(run))
        heard = {clip.record.clip_id for clip in clips if clip.record.fold != 5}
        self.assertEqual(set(teacher.seen), heard)
        self.assertEqual(teacher.file, run / "model.keras")
        self.assertEqual(find_model_file(str(run)), run / "model.keras")

    def test_shorter_clips_are_filled_up_as_in_its_own_training(self) -> None:
        teacher = load_teacher(str(self.folder / "alone"))
        padded = np.pad(self.waveform[:, :3000], ((0, 0), (0, 1000)))
        num_samples = np.full(3, 3000, np.int32)
        inputs = {"waveform": padded, "num_samples": num_samples}
        expected = self.model(inputs)["logits"]
        found = self.hear(teacher, self.waveform[:, :3000])
        self.assertAllClose(found, expected, rtol=0, atol=TOLERANCE)
        # What lies behind the valid samples is not heard.
        dirty = tf.constant(self.waveform[:, :3500])
        found = teacher.hear(dirty, tf.constant(num_samples))
        self.assertAllClose(found, expected, rtol=0, atol=TOLERANCE)

    def test_longer_clips_need_a_teacher_for_any_length(self) -> None:
        teacher = load_teacher(str(self.folder / "alone"))
        longer = np.tile(self.waveform, 2)
        self.assertFalse(teacher.any_length)
        with self.assertRaisesRegex(RequestError, "takes clips of 0.5 s only; lower audio.dur"):
            self.hear(teacher, longer)
        student = {"name": "mobilenet_student", "width": 0.25}
        model = build_teacher(tiny_experiment(str(self.folder / "cache"), model=student), LABELS)
        model.save(self.folder / "student.keras")
        teacher = load_teacher(str(self.folder / "student.keras"))
        self.assertTrue(teacher.any_length)
        expected = model(longer)["logits"]
        self.assertAllClose(self.hear(teacher, longer), expected, rtol=0, atol=TOLERANCE)

    @parameterized.parameters(("logits", "probabilities"), ("probabilities",))
    def test_a_saved_model_with_its_card(self, *scores: str) -> None:
        bundle = self.folder_for("bundle")
        export(self.model, bundle / "saved_model" / "1", scores)
        card = {
            "labels": LABELS,
            "scores": "softmax",
            "input": {
                "sample_rate_hz": 8000,
                "duration_s": 0.5,
                "shorter_clips": "end",
                "longer_clips": "start",
            },
        }
        (bundle / "model_card.json").write_text(json.dumps(card))
        teacher = load_teacher(str(bundle / "saved_model" / "1"))
        self.assertEqual(teacher.facts.label_names, tuple(LABELS))
        self.assertFalse(teacher.in_graph)
        logits = self.hear(teacher)
        # Logits that probabilities tell of are known but for their mean.
        self.assertAllClose(
            tf.nn.log_softmax(logits), tf.nn.log_softmax(self.logits), rtol=0, atol=1e-4
        )
        if "logits" in scores:
            self.assertAllClose(logits, self.logits, rtol=0, atol=TOLERANCE)
        digest = teacher.digest
        (bundle / "saved_model" / "1" / "more").write_text("x")
        self.assertNotEqual(digest_model(bundle / "saved_model" / "1"), digest)

    def test_sigmoid_scores_of_probabilities(self) -> None:
        folder = self.folder_for("sigmoid")
        experiment = tiny_experiment(
            str(self.folder / "cache"), recipe={"loss": "binary_crossentropy"}
        )
        model = build_teacher(experiment, LABELS)
        export(model, folder, ("probabilities",))
        labels = self.folder / "labels.txt"
        labels.write_text("\n".join(LABELS) + "\n")
        said = {"labels": str(labels), "sample_rate_hz": 8000, "output": "sigmoid"}
        teacher = load_teacher(str(folder), **said)
        expected = np.clip(model(self.waveform)["logits"], -15.0, 15.0)
        self.assertEqual(teacher.loss, "binary_crossentropy")
        self.assertAllClose(self.hear(teacher), expected, rtol=0, atol=1e-3)

    def test_a_tflite_file_of_one_length(self) -> None:
        folder = self.folder_for("lite")
        export(self.model, folder / "saved", ("logits",), NUM_SAMPLES)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved"))
        (folder / "model.tflite").write_bytes(converter.convert())
        labels = folder / "labels.txt"
        labels.write_text("\n".join(LABELS) + "\n")
        said = {"labels": str(labels), "sample_rate_hz": 8000, "output": "softmax"}
        teacher = load_teacher(str(folder / "model.tflite"), **said)
        self.assertFalse(teacher.any_length)
        self.assertEqual(teacher.num_samples, NUM_SAMPLES)
        self.assertAllClose(self.hear(teacher), self.logits, rtol=0, atol=1e-4)
        with self.assertRaisesRegex(RequestError, "say what it is with --labels, --sample-rate"):
            load_teacher(str(folder / "model.tflite"))

    def test_what_is_no_teacher(self) -> None:
        said = {"labels": str(self.folder / "l.txt"), "sample_rate_hz": 8000, "output": "softmax"}
        (self.folder / "l.txt").write_text("a\nb\n")
        broken = self.folder / "broken.tflite"
        broken.write_bytes(b"nothing")
        with self.assertRaisesRegex(CheckpointError, "broken.tflite: cannot be loaded"):
            load_teacher(str(broken), **said)
        with self.assertRaisesRegex(RequestError, "gone.tflite: no such model"):
            load_teacher(str(self.folder / "gone.tflite"), **said)
        with self.assertRaisesRegex(RequestError, "gone.keras: no such model"):
            load_teacher(str(self.folder / "gone.keras"))
        with self.assertRaisesRegex(RequestError, "scores must be one of"):
            load_teacher(str(broken), **{**said, "output": "ranks"})
        other = self.folder_for("other")
        module = tf.Module()
        module.run = tf.function(
            lambda waveform: {"loudness": tf.reduce_max(waveform, axis=1)},
            [tf.TensorSpec([None, None], tf.float32)],
        )
        tf.saved_model.save(module, str(other), signatures={"serving_default": module.run})
        teacher = load_teacher(str(other), **said)
        with self.assertRaisesRegex(CheckpointError, "gives loudness, but neither 'logits'"):
            self.hear(teacher)
