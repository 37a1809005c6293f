"""Metadata: what is written is read, by us and by MediaPipe, which then runs the file."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.errors import ExportError
from export.graphs import InferenceGraphs
from export.metadata import ModelFacts, add_metadata, read_metadata
from export.tflite import convert_tflite
from serving.tflite_facts import read_facts
from tests.export.converted import convert_tiny, find_model, make_clips, run_file
from tests.export.models import LABELS

ROOT = Path(__file__).resolve().parents[2]
FACTS = ModelFacts(
    name="tiny",
    description="Three tones – for tests.",
    version="12",
    label_names=LABELS,
    sample_rate_hz=8_000,
    author="Somebody",
    licence="CC-BY-4.0",
)


def import_mediapipe(test: tf.test.TestCase) -> tuple[Any, Any, Any]:
    try:
        from mediapipe.tasks.metadata import metadata_schema_py_generated as schema
        from mediapipe.tasks.python import audio
        from mediapipe.tasks.python.components.containers import audio_data
    except ImportError as error:
        test.skipTest(f"needs MediaPipe, which is no dependency ({error})")
    return schema, audio, audio_data


class MetadataTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters("float32", "int8")
    def test_what_is_written_is_read(self, kind: str) -> None:
        content = add_metadata(convert_tiny(kind), FACTS)
        self.assertEqual(read_metadata(content), FACTS)
        with zipfile.ZipFile(io.BytesIO(content)) as files:
            self.assertEqual(files.read("labels.txt").decode(), "low\nmiddle\nhigh\n")
        self.assertEqual(content, add_metadata(convert_tiny(kind), FACTS))

    def test_the_file_computes_the_same(self) -> None:
        clips = make_clips(2)
        before = run_file(convert_tiny("float32"), clips, "activations")
        after = run_file(add_metadata(convert_tiny("float32"), FACTS), clips, "activations")
        self.assertEqual(set(before), set(after))
        for name, values in before.items():
            self.assertAllEqual(after[name], values)

    def test_a_file_of_features_says_how_they_are_made(self) -> None:
        settings = find_model().front_end.get_config()
        facts = dataclasses.replace(FACTS, sample_rate_hz=None, front_end=settings)
        found = read_metadata(add_metadata(convert_tiny("int8_backbone"), facts))
        self.assertEqual(found, facts)
        self.assertEqual(found.front_end["hop_length"], 128)

    @parameterized.parameters(0.0, 0.625, 1.0)
    def test_a_threshold_is_written_and_read(self, threshold: float) -> None:
        facts = dataclasses.replace(FACTS, other_threshold=threshold)
        content = add_metadata(convert_tiny("float32"), facts)
        self.assertEqual(read_metadata(content), facts)
        path = self.create_tempfile(content=content).full_path
        # What a device reads without this package.
        self.assertEqual(read_facts(path).other_threshold, threshold)

    def test_words_that_nobody_said(self) -> None:
        facts = dataclasses.replace(FACTS, author="", licence="", description="")
        self.assertEqual(read_metadata(add_metadata(convert_tiny("float32"), facts)), facts)

    @parameterized.parameters(
        (("low", "middle"), "2 labels for 3 probabilities"),
        (("low", "mid\ndle", "high"), "line break"),
        (("low", "", "high"), "empty"),
    )
    def test_labels_that_cannot_be(self, labels: tuple[str, ...], message: str) -> None:
        facts = dataclasses.replace(FACTS, label_names=labels)
        with self.assertRaisesRegex(ExportError, message):
            add_metadata(convert_tiny("float32"), facts)

    def test_a_file_without_metadata(self) -> None:
        with self.assertRaisesRegex(ExportError, "has no metadata"):
            read_metadata(convert_tiny("float32"))

    def test_reading_needs_no_tensorflow(self) -> None:
        code = "import sys, export.metadata; print('tensorflow' in sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True
        )
        self.assertEqual(done.stdout.strip(), b"False")


class MediaPipeTest(tf.test.TestCase, parameterized.TestCase):
    def test_reads_every_field(self) -> None:
        schema, _, _ = import_mediapipe(self)
        from export.metadata import _find_metadata

        table = _find_metadata(add_metadata(convert_tiny("float32"), FACTS))
        buffer = bytes(table.Bytes)
        self.assertTrue(schema.ModelMetadata.ModelMetadataBufferHasIdentifier(buffer, 0))
        root = schema.ModelMetadata.GetRootAs(buffer, 0)
        found = schema.ModelMetadataT.InitFromObj(root)
        self.assertEqual(found.name, b"tiny")
        self.assertEqual(found.description.decode(), FACTS.description)
        self.assertEqual(found.version, b"12")
        self.assertEqual(found.author, b"Somebody")
        self.assertEqual(found.license, b"CC-BY-4.0")
        self.assertEqual(found.minParserVersion, b"1.3.0")
        (graph,) = found.subgraphMetadata
        (waveform,) = graph.inputTensorMetadata
        self.assertEqual(waveform.name, b"waveform")
        self.assertEqual(
            waveform.content.contentPropertiesType, schema.ContentProperties.AudioProperties
        )
        self.assertEqual(waveform.content.contentProperties.sampleRate, 8_000)
        self.assertEqual(waveform.content.contentProperties.channels, 1)
        outputs = graph.outputTensorMetadata
        names = [output.name.decode() for output in outputs]
        self.assertEqual(names[:3], ["probabilities", "logits", "features"])
        for output in outputs[:2]:
            (labels,) = output.associatedFiles
            self.assertEqual(labels.name, b"labels.txt")
            self.assertEqual(labels.type, schema.AssociatedFileType.TENSOR_AXIS_LABELS)
        for output in outputs[2:]:
            self.assertEmpty(output.associatedFiles or [])

    @parameterized.parameters(("float32", False), ("float32", True), ("int8", False))
    def test_classifies(self, kind: str, with_activations: bool) -> None:
        _, audio, audio_data = import_mediapipe(self)
        content = convert_tiny(kind)
        if not with_activations:
            content = convert_tflite(InferenceGraphs(find_model()), kind, make_clips(4))
        path = self.create_tempfile(content=add_metadata(content, FACTS)).full_path
        classifier = audio.AudioClassifier.create_from_model_path(path)
        clips = make_clips(6)
        wanted = np.asarray(find_model()(clips)["probabilities"])
        for clip, probabilities in zip(clips, wanted, strict=True):
            data = audio_data.AudioData.create_from_array(clip, FACTS.sample_rate_hz)
            (result,) = classifier.classify(data)
            scores, logits = result.classifications[:2]
            self.assertEqual((scores.head_name, logits.head_name), ("probabilities", "logits"))
            self.assertLen(scores.categories, len(LABELS))
            best = scores.categories[0]
            self.assertEqual(best.category_name, LABELS[probabilities.argmax()])
            tolerance = 1e-4 if kind == "float32" else 0.1
            self.assertAllClose(best.score, probabilities.max(), atol=tolerance)
        classifier.close()

    def test_leaves_out_what_does_not_reach_the_threshold(self) -> None:
        schema, audio, audio_data = import_mediapipe(self)
        from export.metadata import _find_metadata

        clips = make_clips(6)
        wanted = np.asarray(find_model()(clips)["probabilities"])
        # Between the clips' highest probabilities, so that some clips are none of the classes.
        threshold = float(np.sort(wanted.max(axis=1))[2:4].mean())
        facts = dataclasses.replace(FACTS, other_threshold=threshold)
        content = add_metadata(
            convert_tflite(InferenceGraphs(find_model()), "float32", make_clips(4)), facts
        )
        buffer = bytes(_find_metadata(content).Bytes)
        found = schema.ModelMetadataT.InitFromObj(schema.ModelMetadata.GetRootAs(buffer, 0))
        probabilities, logits = found.subgraphMetadata[0].outputTensorMetadata
        (unit,) = probabilities.processUnits
        self.assertEqual(unit.optionsType, schema.ProcessUnitOptions.ScoreThresholdingOptions)
        self.assertAlmostEqual(unit.options.globalScoreThreshold, threshold, places=6)
        self.assertEmpty(logits.processUnits or [])
        path = self.create_tempfile(content=content).full_path
        classifier = audio.AudioClassifier.create_from_model_path(path)
        num_named = []
        for clip, scores in zip(clips, wanted, strict=True):
            data = audio_data.AudioData.create_from_array(clip, FACTS.sample_rate_hz)
            categories = classifier.classify(data)[0].classifications[0].categories
            self.assertLen(categories, np.sum(scores >= threshold))
            num_named.append(len(categories))
        self.assertEqual(num_named.count(0), 3)
        classifier.close()


if __name__ == "__main__":
    tf.test.main()
