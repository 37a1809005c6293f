"""Checkpoints become classifiers that compute what the originals compute."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import tensorflow as tf

from esc_tf.config.published import VARIANTS
from esc_tf.errors import CheckpointError, ConfigError, RequestError, UnknownNameError
from esc_tf.tasks import conversion
from esc_tf.tasks.classifier import load_classifier
from esc_tf.tasks.conversion import convert_checkpoint, convert_tensors, save_converted
from tests.models.checkpoints.test_tables import classifier_of, invent, rules_of
from tests.shared_files import shared_path


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(np.asarray(found) - expected) / np.linalg.norm(expected))


class RealCheckpointTest(tf.test.TestCase):
    """EfficientAT's mn04 as it was published, from waveforms of ESC-10."""

    def test_it_computes_the_same(self):
        source = shared_path("checkpoints/mn04_as_mAP_432.pt")
        converted = convert_checkpoint(source, "mobilenet_v3", "mn04")
        classifier, report = converted.classifier, converted.report
        self.assertLen(report.used, 266)
        self.assertEqual(sum(report.count_reasons().values()), 46)
        self.assertEqual(classifier.output_kind, "sigmoid")
        self.assertEqual(classifier.audio["duration_s"], 10.0)
        with np.load(shared_path("reference/mn04_real.npz")) as fixture:
            waveform = fixture["waveform_16bit"]
            outputs = classifier(waveform)
            features = np.asarray(classifier.extract_features(waveform))[..., 0]
            # Measured: 1.2e-6, and 5e-5 at most in a single value.
            mel = fixture["mel_every_10th_frame"]
            self.assertLess(relative_error(features.transpose(0, 2, 1)[:, :, ::10], mel), 1e-5)
            # Measured: 6e-7 and 3e-6.
            self.assertLess(relative_error(outputs["logits"], fixture["logits"]), 1e-4)
            self.assertLess(relative_error(outputs["embedding"], fixture["embedding"]), 1e-4)


class ConversionTest(tf.test.TestCase):
    """Without a real checkpoint: invented tensors for the smallest network."""

    def setUp(self):
        super().setUp()
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.variant = VARIANTS["mobilenet_v3"]["mn01"]
        small = classifier_of("mobilenet_v3", "mn01", 5)
        self.tensors = invent(rules_of("mobilenet_v3", "mn01", small), small)

    def test_a_classifier_of_other_classes_length_and_output(self):
        names = ["a", "b", "c", "d", "e"]
        converted = convert_tensors(
            self.tensors, self.variant, label_names=names, duration_s=1.5, output="softmax"
        )
        classifier = converted.classifier
        self.assertEqual(classifier.label_names, tuple(names))
        self.assertEqual(classifier.output_kind, "softmax")
        self.assertEqual(classifier.audio["duration_s"], 1.5)
        self.assertEqual(converted.experiment.recipe.loss, "categorical_crossentropy")
        probabilities = classifier(np.zeros((2, 48000), np.float32))["probabilities"]
        self.assertAllClose(np.sum(probabilities, axis=1), [1, 1])
        published = convert_tensors(self.tensors, self.variant).classifier
        self.assertEqual(published.label_names[:2], ("class_0", "class_1"))
        self.assertEqual(published.output_kind, "sigmoid")

    def test_wrong_requests(self):
        with self.assertRaisesRegex(RequestError, "FILE has 5 classes, and there are 2 names"):
            convert_tensors(self.tensors, self.variant, origin="FILE", label_names=["a", "b"])
        with self.assertRaisesRegex(ConfigError, "audio.duration_s"):
            convert_tensors(self.tensors, self.variant, duration_s=0.0)
        with self.assertRaisesRegex(UnknownNameError, "did you mean 'mobilenet_v3'"):
            convert_checkpoint("file.pt", "mobilenet", "mn01")
        with self.assertRaisesRegex(UnknownNameError, "did you mean 'mn10_hop_15'"):
            convert_checkpoint("file.pt", "mobilenet_v3", "mn10_as_hop_15")
        with self.assertRaisesRegex(RequestError, "--variant: cnn10 has panns, tfnet"):
            convert_checkpoint("file.pt", "cnn10")
        with self.assertRaisesRegex(RequestError, "no such file"):
            convert_checkpoint(self.folder / "file.pt", "tfnet")

    def test_tensors_of_another_network(self):
        del self.tensors["classifier.5.bias"]
        with self.assertRaisesRegex(
            CheckpointError,
            r"(?s)^FILE: the checkpoint does not fit .*missing .*: classifier\.5\.bias \(logits",
        ):
            convert_tensors(self.tensors, self.variant, origin="FILE")

    def test_a_network_that_computes_nothing_is_not_kept(self):
        self.tensors["features.16.1.running_var"] -= 100
        classifier = convert_tensors(self.tensors, self.variant, duration_s=0.5).classifier
        with self.assertRaisesRegex(CheckpointError, "logits of noise that are not finite"):
            save_converted(classifier, self.folder / "model.keras")
        self.assertEmpty(list(self.folder.iterdir()))

    def test_what_is_saved_is_loaded_again_first(self):
        classifier = convert_tensors(self.tensors, self.variant, duration_s=0.5).classifier
        out = self.folder / "new" / "model.keras"
        self.assertLess(save_converted(classifier, out), 1e-6)
        noise = np.random.default_rng(1).normal(size=(2, 16000)).astype(np.float32)
        np.testing.assert_array_equal(
            np.asarray(load_classifier(out)(noise)["logits"]),
            np.asarray(classifier(noise)["logits"]),
        )
        before = out.read_bytes()
        self.tensors["classifier.5.bias"] += 1
        other = convert_tensors(self.tensors, self.variant, duration_s=0.5).classifier
        with (
            mock.patch.object(conversion, "load_classifier", lambda path: other),
            self.assertRaisesRegex(CheckpointError, "computes other logits .*not kept"),
        ):
            save_converted(classifier, out)
        self.assertEqual(out.read_bytes(), before)
        self.assertEqual([path.name for path in out.parent.iterdir()], ["model.keras"])


if __name__ == "__main__":
    tf.test.main()
