"""TFLite files: equal to the classifier, for every kind, model and front end."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.config.loading import read_config_file
from esc_tf.errors import ExportError, UnknownNameError
from export.graphs import SCORES, InferenceGraphs
from export.tflite import KINDS, convert_tflite
from tests.export.converted import (
    ACTIVATIONS,
    NUM_SAMPLES,
    convert_tiny,
    find_model,
    list_signatures,
    list_types,
    make_clips,
    read,
    relative_errors,
    run_file,
)
from tests.export.models import build_tiny
from tests.export.test_graphs import CONFIGS, MODELS, build, read_small_model

WITH_FRONT_END = [kind for kind in KINDS if kind != "int8_backbone"]
VARIABLES = {"READ_VARIABLE", "ASSIGN_VARIABLE", "VAR_HANDLE", "CUSTOM"}
# Largest error of the logits over 24 clips; behind each what was measured.
LOGITS = {"float32": 1e-5, "float16": 1e-2, "dynamic": 0.1, "int8": 0.3, "int8_backbone": 0.3}


@functools.cache
def compute_expected() -> dict[str, np.ndarray]:
    values = find_model().compute_activations(make_clips(24), [*SCORES, *ACTIVATIONS])
    return {name: np.asarray(value) for name, value in values.items()}


class KindsTest(tf.test.TestCase, parameterized.TestCase):
    def run_kind(self, kind: str, signature: str) -> dict[str, np.ndarray]:
        clips = compute_expected()["features"] if kind == "int8_backbone" else make_clips(24)
        return run_file(convert_tiny(kind), clips, signature)

    @parameterized.parameters(*KINDS)
    def test_both_signatures_share_one_graph(self, kind: str) -> None:
        content = convert_tiny(kind)
        given = "features" if kind == "int8_backbone" else "waveform"
        hidden = set(ACTIVATIONS) - {given}
        self.assertEqual(
            list_signatures(content),
            {
                "serving_default": {"inputs": [given], "outputs": sorted(SCORES)},
                "activations": {"inputs": [given], "outputs": sorted({*SCORES, *hidden})},
            },
        )
        model = read(content)
        self.assertLen(model.subgraphs, 1)
        names = {item.tensorIndex: item.name for item in model.signatureDefs[1].outputs}
        first = [names[index].decode() for index in model.subgraphs[0].outputs[:2]]
        self.assertEqual(first, list(SCORES))

    @parameterized.parameters(*KINDS)
    def test_operators_are_tflite_s_own(self, kind: str) -> None:
        model = read(convert_tiny(kind))
        self.assertEqual([code.customCode for code in model.operatorCodes if code.customCode], [])
        self.assertEmpty(VARIABLES & {name for name, _ in list_types(convert_tiny(kind))})

    @parameterized.parameters(*KINDS)
    def test_scores(self, kind: str) -> None:
        found, wanted = self.run_kind(kind, "serving_default"), compute_expected()
        self.assertLess(relative_errors(found["logits"], wanted["logits"]).max(), LOGITS[kind])
        self.assertEqual(found["probabilities"].shape, (24, 3))
        # Of 1/256 where they are integers.
        np.testing.assert_allclose(found["probabilities"].sum(axis=1), 1.0, atol=0.02)

    @parameterized.parameters(*KINDS)
    def test_activations(self, kind: str) -> None:
        found, wanted = self.run_kind(kind, "activations"), compute_expected()
        scores = self.run_kind(kind, "serving_default")
        for name in SCORES:
            self.assertAllEqual(found[name], scores[name])
        for name in set(found) - set(SCORES):
            error = relative_errors(found[name], wanted[name]).max()
            tolerance = 1e-5 if name == "features" else 5.0 * LOGITS[kind]
            self.assertLess(error, tolerance, msg=name)

    def test_sizes(self) -> None:
        sizes = {kind: len(convert_tiny(kind)) for kind in KINDS}
        self.assertLess(sizes["float16"], sizes["float32"])
        self.assertLess(sizes["dynamic"], sizes["float16"])
        self.assertLess(sizes["int8_backbone"], sizes["int8"])

    @parameterized.parameters("float32", "int8")
    def test_silence_and_clipping_are_finite(self, kind: str) -> None:
        tone = np.sin(2.0 * np.pi * 0.125 * np.arange(NUM_SAMPLES))
        clips = np.stack([0.0 * tone, tone, np.sign(tone)]).astype(np.float32)
        found = run_file(convert_tiny(kind), clips, "activations")
        for name, values in found.items():
            self.assertTrue(np.isfinite(values).all(), msg=name)


class ConversionTest(tf.test.TestCase, parameterized.TestCase):
    # The others of them are the same network as mobilenet_v3, but for their heads.
    @parameterized.parameters(*(name for name in MODELS if not name.startswith("mn")))
    def test_every_network(self, name: str) -> None:
        model = build(**read_small_model(name))
        self.check(model, make_clips(3, 16_000))

    @parameterized.parameters("fully_convolutional", "attention")
    def test_every_head(self, kind: str) -> None:
        head = {"kind": kind, "hidden_units": [], "dropout": 0.0}
        content = self.check(build_tiny(model={"head": head}), make_clips(3))
        if kind == "fully_convolutional":
            # Its batch norm is folded by the converter.
            last = [name for name, _ in list_types(content)][-3:]
            self.assertEqual(last, ["CONV_2D", "MEAN", "SOFTMAX"])

    # As its configuration has it, this one cannot run in TFLite: its n_fft is no power of two.
    def test_another_computation_of_the_front_end(self) -> None:
        setup = read_config_file(CONFIGS / "front_end" / "tfnet_log_mel.yaml")
        setup["front_end"].pop("num_frames", None)
        setup["audio"]["duration_s"] = 0.5
        model = build_tiny(**setup)
        self.check(model, make_clips(3, setup["audio"]["sample_rate_hz"] // 2))

    def check(self, model: Any, clips: np.ndarray) -> bytes:
        content = convert_tflite(InferenceGraphs(model), "float32")
        errors = relative_errors(run_file(content, clips)["logits"], model(clips)["logits"])
        self.assertLess(errors.max(), 1e-5)
        return content

    def test_many_labels_a_clip(self) -> None:
        model = build_tiny(recipe={"loss": "binary_crossentropy"}, augment={"mixup": None})
        clips = make_clips(2)
        found = run_file(convert_tflite(InferenceGraphs(model), "dynamic"), clips)
        expected = tf.sigmoid(found["logits"])
        self.assertAllClose(found["probabilities"], expected, atol=1e-6)

    def test_an_unknown_kind(self) -> None:
        with self.assertRaisesRegex(UnknownNameError, "int8"):
            convert_tflite(InferenceGraphs(find_model()), "int_8")

    @parameterized.parameters("int8", "int8_backbone")
    def test_integers_need_clips(self, kind: str) -> None:
        for clips in (None, make_clips(0)):
            with self.assertRaisesRegex(ExportError, "needs clips"):
                convert_tflite(InferenceGraphs(find_model()), kind, clips)


if __name__ == "__main__":
    tf.test.main()
