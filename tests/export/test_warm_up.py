"""Warm-up requests: the bytes that Serving's own classes write."""

from __future__ import annotations

import io
import unittest
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import tensorflow as tf

from export import warm_up


def serving_classes() -> Any:
    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError:
        raise unittest.SkipTest("needs tensorflow-serving-api") from None
    return prediction_log_pb2


def make_example(text: bytes) -> tf.train.Example:
    example = tf.train.Example()
    example.features.feature["wav"].bytes_list.value.append(text)
    return example


class WarmUpTest(tf.test.TestCase):
    def test_the_bytes_of_a_request(self) -> None:
        # predict_log 6 { request 1 { model_spec 1 { name 1: "m", signature_name 3: "s" } } }
        self.assertEqual(
            warm_up.encode_predict("m", "s", {}), b"\x32\x0a\x0a\x08\x0a\x06\x0a\x01m\x1a\x01s"
        )

    def test_predict_is_what_servings_classes_write(self) -> None:
        log = serving_classes().PredictionLog()
        request = log.predict_log.request
        request.model_spec.name, request.model_spec.signature_name = "sounds", "serving_default"
        long = tf.make_tensor_proto(np.arange(70_000.0, dtype=np.float32)[np.newaxis])
        request.inputs["waveform"].CopyFrom(long)
        ours = warm_up.encode_predict("sounds", "serving_default", {"waveform": long})
        self.assertEqual(ours, log.SerializeToString(deterministic=True))

    def test_several_inputs_are_read_back(self) -> None:
        inputs = {name: tf.make_tensor_proto(name) for name in ("one", "two", "three")}
        log = serving_classes().PredictionLog.FromString(
            warm_up.encode_predict("sounds", "both", inputs)
        )
        self.assertEqual(dict(log.predict_log.request.inputs), inputs)

    def test_classify_is_what_servings_classes_write(self) -> None:
        log = serving_classes().PredictionLog()
        request = log.classify_log.request
        request.model_spec.name, request.model_spec.signature_name = "sounds", "classify"
        examples = [make_example(b"first"), make_example(b"second" * 100)]
        request.input.example_list.examples.extend(examples)
        ours = warm_up.encode_classify("sounds", "classify", examples)
        self.assertEqual(ours, log.SerializeToString(deterministic=True))

    def test_silence_in_a_few_bytes(self) -> None:
        silence = warm_up.make_silence(160_000)
        self.assertLess(silence.ByteSize(), 64)
        self.assertAllEqual(tf.make_ndarray(silence), np.zeros((1, 160_000), np.float32))
        wav = warm_up.make_silent_wav(1_000, 44_000)
        waveform, rate_hz = soundfile.read(io.BytesIO(wav))
        self.assertEqual(rate_hz, 44_000)
        self.assertAllEqual(waveform, np.zeros(1_000))

    def test_the_file_is_where_serving_looks(self) -> None:
        folder = Path(self.create_tempdir().full_path)
        path = warm_up.write_warm_up(folder, [b"one", b"two"])
        self.assertEqual(path, folder / "assets.extra" / "tf_serving_warmup_requests")
        records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
        self.assertEqual(records, [b"one", b"two"])


if __name__ == "__main__":
    tf.test.main()
