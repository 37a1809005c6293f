"""The SavedModel: what a client of TensorFlow Serving gets, beside what Keras computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import tensorflow as tf

from esc_tf.audio import Clip, resample
from esc_tf.errors import RequestError
from esc_tf.tasks import Classifier
from export import warm_up
from export.saved_model import CLASSIFY_METHOD, write_saved_model
from tests.export.test_graphs import (
    LABELS,
    TOLERANCE,
    build_tiny,
    classify_as_predict,
    make_clips,
    relative_error,
)
from tests.export.test_warm_up import serving_classes
from tests.export.test_wav import encode

ACTIVATIONS = ("features", "block1", "block2", "se2", "block2_relu1")
# These are asked for what the model is, and take nothing.
DESCRIBING = {"labels", "audio_format"}
SIGNATURES = {"serving_default", "wav_bytes", "activations", "embedding", "classify", *DESCRIBING}


def make_example(**features: Any) -> bytes:
    example = tf.train.Example()
    for name, value in features.items():
        if isinstance(value, bytes):
            example.features.feature[name].bytes_list.value.append(value)
        else:
            example.features.feature[name].float_list.value.extend(value)
    return example.SerializeToString()


class SavedModelTest(tf.test.TestCase):
    model: ClassVar[Classifier]
    folder: ClassVar[Path]
    signatures: ClassVar[Any]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.model = build_tiny()
        cls.root = Path(tf.compat.v1.test.get_temp_dir()) / "saved_model"
        cls.folder = write_saved_model(cls.model, cls.root, ACTIVATIONS, version=3)
        cls.loaded = tf.saved_model.load(str(cls.folder))
        cls.signatures = cls.loaded.signatures

    def test_the_folder_is_as_serving_wants_it(self) -> None:
        self.assertEqual(self.folder, self.root / "3")
        self.assertEqual([path.name for path in self.root.iterdir()], ["3"])
        labels = (self.folder / "assets" / "labels.txt").read_text("utf-8")
        self.assertEqual(labels.splitlines(), LABELS)
        self.assertEqual(set(self.signatures), SIGNATURES)
        # Keras' own classes would need Keras, and their training functions come with them.
        self.assertNotIn(b"_tf_keras", (self.folder / "saved_model.pb").read_bytes())

    def test_waveforms_of_any_length_and_number(self) -> None:
        classify = self.signatures["serving_default"]
        for num_clips, length in [(1, 1), (3, 1_234), (2, 4_000), (1, 9_999)]:
            clips = make_clips(num_clips, length)
            ours, expected = classify(waveform=clips), classify_as_predict(self.model, clips)
            self.assertEqual(set(ours), {"probabilities", "logits"})
            for name, value in ours.items():  # measured: at most 3.2e-7
                self.assertLess(relative_error(value, expected[name]), TOLERANCE, msg=name)
        self.assertEqual(classify(waveform=tf.zeros([0, 100]))["logits"].shape, (0, 5))
        with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "send one sample or more"):
            classify(waveform=tf.zeros([1, 0]))

    def test_activations_and_embedding(self) -> None:
        clips = make_clips(2, 4_000)
        ours = self.signatures["activations"](waveform=clips)
        expected = self.model.compute_activations(clips, (*ACTIVATIONS, "logits", "probabilities"))
        self.assertEqual(set(ours), set(expected))
        for name, value in expected.items():
            self.assertLess(relative_error(ours[name], value), TOLERANCE, msg=name)
        embedding = self.signatures["embedding"](waveform=clips)["embedding"]
        self.assertLess(relative_error(embedding, self.model(clips)["embedding"]), TOLERANCE)

    def test_wav_files_of_their_own_rates_and_lengths(self) -> None:
        clips = [(make_clips(2, 4_000).T, 8_000), (make_clips(1, 30_000)[0], 44_100)]
        clips += [(make_clips(1, 500)[0], 16_000), (make_clips(1, 1)[0], 8_000)]
        contents = [encode(samples, rate_hz) for samples, rate_hz in clips]
        ours = self.signatures["wav_bytes"](wav_bytes=contents)["logits"]
        self.assertEqual(ours.shape, (4, 5))
        for (samples, rate_hz), logits in zip(clips, ours, strict=True):
            samples = samples if samples.ndim == 1 else samples.mean(axis=1)
            rounded = np.round(samples * 32768) / 32768
            heard = resample(Clip(rounded.astype(np.float32), rate_hz), 8_000).waveform
            expected = classify_as_predict(self.model, heard[np.newaxis])["logits"][0]
            # Two ways to resample. Measured: at most 1.6e-4.
            self.assertLess(relative_error(logits, expected), 1e-3, msg=f"{rate_hz} Hz")
        self.assertEqual(
            self.signatures["wav_bytes"](wav_bytes=tf.constant([], tf.string))["logits"].shape,
            (0, 5),
        )
        with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "clip 1 is .* of 24-bit PCM"):
            self.signatures["wav_bytes"](
                wav_bytes=[contents[0], encode(clips[0][0], 8_000, "PCM_24")]
            )

    def test_classify_takes_examples_of_either_kind(self) -> None:
        clips = make_clips(2, 4_000)
        short = make_clips(1, 700)
        examples = [
            make_example(waveform=clips[0]),
            make_example(wav=encode(clips[1], 8_000)),
            make_example(waveform=short[0]),
        ]
        ours = self.signatures["classify"](inputs=examples)
        self.assertAllEqual(ours["classes"], [[label.encode() for label in LABELS]] * 3)
        whole = classify_as_predict(self.model, clips)["probabilities"]
        expected = [*whole, *classify_as_predict(self.model, short)["probabilities"]]
        self.assertAllClose(ours["scores"], expected, rtol=0.0, atol=1e-3)  # rounded to 16 bits
        none = self.signatures["classify"](inputs=tf.constant([], tf.string))
        self.assertEqual((none["classes"].shape, none["scores"].shape), ((0, 5), (0, 5)))

    def test_classify_says_which_example_is_wrong(self) -> None:
        good = make_example(waveform=[0.5])
        both = make_example(waveform=[0.5], wav=encode(np.zeros(9), 8_000))
        for bad in (make_example(), both, make_example(waveform=[])):
            with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "example 1 needs either"):
                self.signatures["classify"](inputs=[good, bad])
        with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "clip 1 is no WAV file"):
            self.signatures["classify"](inputs=[good, make_example(wav=b"fLaC")])

    def test_labels_on_request(self) -> None:
        labels = self.signatures["labels"]()["labels"]
        self.assertAllEqual(labels, [label.encode() for label in LABELS])

    def test_rate_and_length_on_request(self) -> None:
        said = self.signatures["audio_format"]()
        self.assertEqual(said["sample_rate_hz"].numpy(), 8_000)
        self.assertEqual(said["num_samples"].numpy(), 4_000)  # half a second, see tests/tiny.py

    def test_runs_by_its_signatures_alone_as_serving_runs_it(self) -> None:
        examples = [make_example(waveform=make_clips(1, 4_000)[0])]
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            meta = tf.compat.v1.saved_model.load(session, ["serve"], str(self.folder))
            signature = meta.signature_def["classify"]
            self.assertEqual(signature.method_name, CLASSIFY_METHOD)
            self.assertEqual(set(signature.inputs), {"inputs"})
            self.assertEqual(set(signature.outputs), {"classes", "scores"})
            scores = session.run(
                signature.outputs["scores"].name, {signature.inputs["inputs"].name: examples}
            )
        expected = self.signatures["classify"](inputs=examples)["scores"]
        self.assertAllClose(scores, expected, rtol=0.0, atol=1e-6)
        others = (meta.signature_def[name].method_name for name in SIGNATURES - {"classify"})
        self.assertEqual(set(others), {"tensorflow/serving/predict"})

    def test_every_signature_that_computes_is_warmed_up(self) -> None:
        logs = serving_classes()
        path = self.folder / warm_up.FOLDER / warm_up.FILE_NAME
        warmed = []
        for record in tf.data.TFRecordDataset(str(path)):
            log = logs.PredictionLog.FromString(record.numpy())
            if log.HasField("classify_log"):
                request = log.classify_log.request
                examples = request.input.example_list.examples
                inputs = {"inputs": [item.SerializeToString() for item in examples]}
            else:
                request = log.predict_log.request
                inputs = {name: tf.make_ndarray(item) for name, item in request.inputs.items()}
            name = request.model_spec.signature_name
            outputs = self.signatures[name](
                **{key: tf.constant(value) for key, value in inputs.items()}
            )
            self.assertTrue(all(value.shape[0] == 1 for value in outputs.values()))
            warmed.append(name)
        self.assertCountEqual(warmed, SIGNATURES - DESCRIBING)
        self.assertLess(path.stat().st_size, 100_000)


class WritingTest(tf.test.TestCase):
    def test_a_version_is_never_written_twice_and_never_by_half(self) -> None:
        model, folder = build_tiny(), Path(self.create_tempdir().full_path) / "new"
        with (
            mock.patch.object(warm_up, "write_warm_up", side_effect=OSError("disk full")),
            self.assertRaisesRegex(OSError, "disk full"),
        ):
            write_saved_model(model, folder)
        self.assertEqual(list(folder.iterdir()), [])
        (folder / "1").mkdir()
        with self.assertRaisesRegex(RequestError, "1: is there already; choose another version"):
            write_saved_model(model, folder)
        self.assertEqual(list((folder / "1").iterdir()), [])
        with self.assertRaisesRegex(RequestError, "version 0: a version is a number from 1"):
            write_saved_model(model, folder, version=0)


if __name__ == "__main__":
    tf.test.main()
