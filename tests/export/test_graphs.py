"""The graphs of exports: equal to the classifier for every model, front end, length and batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.config import build_experiment
from esc_tf.config.loading import read_config_file
from esc_tf.data import fit_length
from esc_tf.errors import RequestError, UnknownNameError
from esc_tf.tasks import Classifier, build_classifier
from export.graphs import SCORES, InferenceGraphs, choose_activations, compute_in_float32
from tests.models.random_weights import assign_random_weights
from tests.tiny import tiny_experiment

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MODELS = sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml"))
FRONT_ENDS = sorted(path.stem for path in (CONFIGS / "front_end").glob("*.yaml"))
LABELS = [f"class_{index}" for index in range(5)]
TINY_FRONT_END = {
    "name": "log_mel",
    "n_fft": 512,
    "hop_length": 250,
    "n_mels": 64,
    "normalization": "standardize",
}
# Of the norm. Measured: 4.3e-6 at most over models, 5.3e-7 over front ends and paddings.
TOLERANCE = 1e-5


def build(**sections: Any) -> Classifier:
    experiment = build_experiment(
        {
            "name": "exported",
            "audio": {"sample_rate_hz": 16000, "duration_s": 1.0},
            "data": {"name": "synthetic"},
            "front_end": TINY_FRONT_END,
            **read_config_file(CONFIGS / "model" / "se_cnn_plain.yaml"),
            **sections,
        }
    )
    model = build_classifier(experiment, LABELS)
    assign_random_weights(model)
    return model


def read_small_model(name: str) -> dict[str, Any]:
    """The model of a file with fewer channels, so that it takes a test no time."""
    raw = read_config_file(CONFIGS / "model" / f"{name}.yaml")
    model = raw["model"]
    if "block_filters" in model:
        model["block_filters"] = [filters // 4 for filters in model["block_filters"]]
    if "width" in model:
        model["width"] = 0.2
    return raw


def build_tiny(**sections: Any) -> Classifier:
    model = build_classifier(tiny_experiment("", **sections), LABELS)
    assign_random_weights(model)
    return model


def make_clips(num_clips: int, num_samples: int) -> np.ndarray:
    rng = np.random.default_rng(num_samples)
    return 0.1 * rng.standard_normal((num_clips, num_samples)).astype(np.float32)


def classify_as_predict(model: Classifier, clips: np.ndarray) -> dict[str, np.ndarray]:
    """What the whole Keras model says of clips that are brought to their length one by one."""
    audio = model.audio
    num_samples = round(audio["duration_s"] * audio["sample_rate_hz"])
    fitted = [fit_length(clip, num_samples, audio["pad"], audio["crop"]) for clip in clips]
    waveform, valid = (np.stack([item[part] for item in fitted]) for part in (0, 1))
    return model({"waveform": waveform, "num_samples": valid})


def compile_any(function: Any) -> Any:
    return tf.function(function, [tf.TensorSpec([None, None], tf.float32)], autograph=False)


def relative_error(ours: Any, expected: Any) -> float:
    ours, expected = np.asarray(ours), np.asarray(expected)
    assert ours.shape == expected.shape
    assert np.isfinite(ours).all() and np.isfinite(expected).all()
    return float(np.linalg.norm(ours - expected) / np.linalg.norm(expected))


class EveryModelTest(tf.test.TestCase, parameterized.TestCase):
    def check(self, model: Classifier, lengths: list[int]) -> None:
        classify = compile_any(InferenceGraphs(model).classify)
        for length in lengths:
            clips = make_clips(2, length)
            ours, expected = classify(clips), classify_as_predict(model, clips)
            self.assertEqual(set(ours), set(SCORES))
            for name in SCORES:
                error = relative_error(ours[name], expected[name])
                self.assertLess(error, TOLERANCE, msg=f"{name} of {length} samples")
        self.assertEqual(classify(make_clips(0, 100))["logits"].shape, (0, len(LABELS)))

    @parameterized.parameters(*MODELS)
    def test_model(self, name: str) -> None:
        self.check(build(**read_small_model(name)), [9_000, 20_000])

    @parameterized.parameters(*FRONT_ENDS)
    def test_front_end(self, name: str) -> None:
        setup = read_config_file(CONFIGS / "front_end" / f"{name}.yaml")
        setup["front_end"].pop("num_frames", None)  # five seconds, which take their time
        setup["audio"]["duration_s"] = 1.0
        num_samples = setup["audio"]["sample_rate_hz"]
        self.check(build_tiny(**setup), [1, num_samples // 2, num_samples, num_samples + 1])

    @parameterized.parameters(
        ("end", "start"),
        ("silence", "center"),
        ("center", "random"),
        ("repeat", "start"),
    )
    def test_padding_and_cropping(self, pad: str, crop: str) -> None:
        self.check(build_tiny(audio={"pad": pad, "crop": crop}), [1, 1_501, 4_000, 5_001])

    def test_a_mixed_precision_is_exported_as_float32(self) -> None:
        model = build_tiny(distribution={"precision": "mixed_bfloat16"})
        clips = make_clips(2, 4_000)
        ours = compile_any(InferenceGraphs(model).classify)(clips)
        exact = compute_in_float32(model)
        self.assertLess(relative_error(ours["logits"], exact(clips)["logits"]), TOLERANCE)
        rounding = relative_error(exact(clips)["logits"], model(clips)["logits"])
        self.assertBetween(rounding, 1e-5, 5e-2)  # measured: 8e-3
        self.assertIs(compute_in_float32(exact), exact)

    def test_many_labels_a_clip(self) -> None:
        model = build_tiny(recipe={"loss": "binary_crossentropy"}, augment={"mixup": None})
        self.assertEqual(model.output_kind, "sigmoid")
        self.check(model, [4_000])


class GraphsTest(tf.test.TestCase):
    def test_holds_variables_and_no_layer(self) -> None:
        model = build_tiny()
        graphs = InferenceGraphs(model)
        self.assertLen(graphs.variables, len(graphs.model.weights))
        self.assertLess(len(graphs.variables), len(model.weights))
        self.assertTrue(all(isinstance(item, tf.Variable) for item in graphs.variables))
        self.assertEqual(tuple(graphs.submodules), ())

    def test_one_clip_of_the_own_length_is_not_touched(self) -> None:
        graphs = InferenceGraphs(build_tiny())
        specification = tf.TensorSpec([1, graphs.num_samples], tf.float32)
        traced = tf.function(graphs.classify, [specification], autograph=False)
        kinds = {node.type for node in traced.get_concrete_function().graph.get_operations()}
        self.assertEmpty(kinds & {"GatherV2", "Where", "SelectV2", "Assert", "While"})
        self.assertEqual(traced(make_clips(1, graphs.num_samples))["logits"].shape, (1, 5))

    def test_activations_and_embedding(self) -> None:
        model = build_tiny()
        names = choose_activations(model, "all")
        self.assertEqual(names, ("features", "block1", "block2", "se2", "embedding"))
        graphs = InferenceGraphs(model, (*names, "block1_relu1"))
        clips = make_clips(2, 4_000)
        found = compile_any(graphs.activate)(clips)
        expected = model.compute_activations(clips, (*names, "block1_relu1", *SCORES))
        self.assertEqual(set(found), set(expected))
        for name, value in expected.items():
            self.assertLess(relative_error(found[name], value), TOLERANCE, msg=name)
        embedding = compile_any(graphs.embed)(clips)
        self.assertEqual(list(embedding), ["embedding"])
        self.assertLess(relative_error(embedding["embedding"], found["embedding"]), TOLERANCE)
        none = compile_any(graphs.activate)(make_clips(0, 9))
        self.assertEqual(none["block1"].shape, (0, *found["block1"].shape[1:]))

    def test_activations_of_a_mixed_precision_are_float32(self) -> None:
        model = build_tiny(distribution={"precision": "mixed_bfloat16"})
        found = InferenceGraphs(model, ["block1"]).activate(tf.zeros([1, 4_000]))
        self.assertEqual({value.dtype for value in found.values()}, {tf.float32})

    def test_chosen_names(self) -> None:
        model = build_tiny()
        self.assertEqual(choose_activations(model, None), ())
        self.assertEqual(choose_activations(model, ""), ())
        chosen = choose_activations(model, "se2, block1,se2,logits")
        self.assertEqual(chosen, ("se2", "block1"))
        with self.assertRaisesRegex(UnknownNameError, "'blok1'; did you mean 'block1'"):
            choose_activations(model, "blok1")
        with self.assertRaisesRegex(UnknownNameError, "'blok1'"):
            InferenceGraphs(model, ["blok1"])
        for folded_away in ("block1_conv1", "block1_bn1"):
            self.assertEqual(choose_activations(model, folded_away), (folded_away,))
            with self.assertRaisesRegex(RequestError, f"'{folded_away}': an export computes.*se2"):
                InferenceGraphs(model, [folded_away])

    def test_a_clip_without_samples_is_an_error(self) -> None:
        classify = compile_any(InferenceGraphs(build_tiny()).classify)
        with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "send one sample or more"):
            classify(make_clips(1, 0))


if __name__ == "__main__":
    tf.test.main()
