"""The tables hold every tensor of the originals, each for one weight of ours."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.config import build_experiment
from esc_tf.config.published import VARIANTS
from esc_tf.errors import CheckpointError
from esc_tf.models.checkpoints.assignment import ImportReport, assign_weights, find_weights
from esc_tf.models.checkpoints.panns import panns_rules
from esc_tf.models.checkpoints.rules import BATCH_COUNTERS, Rules
from esc_tf.models.checkpoints.tables import TABLES, count_classes
from esc_tf.tasks.classifier import build_classifier
from esc_tf.tasks.conversion import describe_experiment
from tests.shared_files import shared_path

_UNUSED = "not used by the original's forward pass"
_COUNTED = BATCH_COUNTERS.reason
_COMPARED = "a constant of the front end, which computes the same itself (compared)"
# Fixture → model, variant, tensors that are left out (reason → number).
FIXTURES: dict[str, tuple[str, str, dict[str, int]]] = {
    "mn04": ("mobilenet_v3", "mn04", {_COUNTED: 46}),
    "mn10": ("mobilenet_v3", "mn10", {_COUNTED: 46}),
    "mn10_fc": ("mobilenet_v3", "mn10_fc", {_COUNTED: 47}),
    "cnn10": ("cnn10", "panns", {_COUNTED: 9}),
    "tfnet": ("tfnet", "tfnet", {_COUNTED: 32, _UNUSED: 52}),
    "tfnet_cnn10": ("cnn10", "tfnet", {_COUNTED: 8, _UNUSED: 2}),
}


@cache
def classifier_of(model: str, variant: str, num_classes: int) -> keras.Model:
    experiment = build_experiment(describe_experiment(VARIANTS[model][variant]))
    return build_classifier(experiment, [f"class_{index}" for index in range(num_classes)])


def rules_of(model: str, variant: str, classifier: keras.Model) -> Rules:
    return TABLES[VARIANTS[model][variant].table](classifier)


def generate(name: str) -> dict[str, np.ndarray]:
    """The tensors of a fixture, by the rule that is beside it."""
    path = shared_path("reference/weights.py")
    spec = importlib.util.spec_from_file_location("reference_weights", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.state_dict(shared_path(f"reference/{name}.json"))


def invent(rules: Rules, classifier: keras.Model) -> dict[str, np.ndarray]:
    """Tensors of the right shapes, all numbers different."""
    weights = find_weights(classifier)
    rng = np.random.default_rng(0)
    tensors = {}
    for fill in rules.fills:
        shape = fill.expect_shape(weights[fill.target].shape)
        values = rng.uniform(0.5, 1.5, shape) if "var" in fill.source else rng.normal(size=shape)
        # Small enough for numbers to stay finite through all layers.
        tensors[fill.source] = (values / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    return tensors


class FixtureTest(parameterized.TestCase):
    @parameterized.named_parameters((name, name) for name in FIXTURES)
    def test_every_tensor_of_the_original_is_used_or_ignored(self, name: str):
        model, variant, ignored = FIXTURES[name]
        tensors = generate(name)
        classifier = classifier_of(model, variant, count_classes(tensors) or 0)
        rules = rules_of(model, variant, classifier)
        report = assign_weights(classifier, tensors, rules)
        self.assertEqual(set(report.used) | set(report.ignored), set(tensors))
        self.assertEqual(report.count_reasons(), ignored)
        self.assertEqual(sorted(report.used.values()), sorted(find_weights(classifier)))
        # What the fixture calls unused is what we leave out, and all else that it trains we train.
        notes = json.loads(shared_path(f"reference/{name}.json").read_text())
        unused = sum(tensors[tensor].size for tensor in notes["unused_in_forward"])
        counted = sum(weight.numpy().size for weight in classifier.trainable_weights)
        self.assertEqual(counted, notes["parameters"]["trainable"] - unused)
        left_out = {tensor for tensor, reason in report.ignored.items() if reason == _UNUSED}
        running = ("running_mean", "running_var")
        left_out = {tensor for tensor in left_out if not tensor.endswith(running)}
        self.assertEqual(left_out, set(notes["unused_in_forward"]))


class InventedTest(parameterized.TestCase):
    """Without the fixtures: every head, and widths at which blocks lose their expansion."""

    @parameterized.parameters(
        ("mobilenet_v3", "mn01"),
        ("mobilenet_v3", "mn01_fc"),
        ("mobilenet_v3", "mn01_attention"),
        ("mobilenet_v3", "mn04"),
        ("tfnet", "tfnet"),
        ("cnn10", "panns"),
        ("cnn10", "tfnet"),
    )
    def test_every_weight_gets_its_own_tensor(self, model: str, variant: str):
        classifier = classifier_of(model, variant, 5)
        rules = rules_of(model, variant, classifier)
        tensors = invent(rules, classifier)
        self.assertEqual(count_classes(tensors), 5)
        report = assign_weights(classifier, tensors, rules)
        self.assertEqual(set(report.used.values()), set(find_weights(classifier)))
        for source, target in report.used.items():
            # The same numbers, whatever their order.
            np.testing.assert_array_equal(
                np.sort(find_weights(classifier)[target].numpy(), axis=None),
                np.sort(tensors[source], axis=None),
            )

    def test_the_backbone_alone(self):
        for model, variant in (("mobilenet_v3", "mn01"), ("cnn10", "panns"), ("tfnet", "tfnet")):
            classifier = classifier_of(model, variant, 5)
            whole = invent(rules_of(model, variant, classifier), classifier)
            rules = TABLES[VARIANTS[model][variant].table](classifier.backbone)
            tensors = {fill.source: whole[fill.source] for fill in rules.fills}
            report = assign_weights(classifier.backbone, tensors, rules)
            self.assertLess(len(tensors), len(whole))
            self.assertEqual(set(report.used.values()), set(find_weights(classifier.backbone)))

    def test_another_network_is_refused_with_both_sides(self):
        small = classifier_of("mobilenet_v3", "mn01", 5)
        tensors = invent(rules_of("mobilenet_v3", "mn01", small), small)
        large = classifier_of("mobilenet_v3", "mn04", 5)
        with self.assertRaisesRegex(
            CheckpointError, r"missing .*features\.2.*\n.* without a place .*\nshapes"
        ):
            assign_weights(large, tensors, rules_of("mobilenet_v3", "mn04", large))
        fully = classifier_of("mobilenet_v3", "mn01_fc", 5)
        with self.assertRaisesRegex(
            CheckpointError,
            r"missing .*classifier\.0\.weight \(logits_conv/kernel.*\n"
            r"in the checkpoint without a place in the model \(4\): classifier\.2\.weight",
        ):
            assign_weights(fully, tensors, rules_of("mobilenet_v3", "mn01_fc", fully))

    def test_classes_of_no_known_head(self):
        self.assertIsNone(count_classes({"features.0.0.weight": np.ones(3)}))


class FrontEndTensorsTest(tf.test.TestCase):
    """PANNs keeps its STFT and mel matrix with its weights: compared, then left out."""

    def tensors(self, **changes: Any) -> dict[str, np.ndarray]:
        classifier = classifier_of("cnn10", "panns", 5)
        tensors = invent(panns_rules(classifier), classifier)
        n_fft, bins = 1024, 513
        angles = 2 * np.pi * np.outer(np.arange(bins), np.arange(n_fft)) / n_fft
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
        stft = "spectrogram_extractor.stft"
        tensors[f"{stft}.conv_real.weight"] = (np.cos(angles) * window)[:, np.newaxis]
        tensors[f"{stft}.conv_imag.weight"] = (-np.sin(angles) * window)[:, np.newaxis]
        return {name: np.asarray(value, np.float32) for name, value in (tensors | changes).items()}

    def assign(self, tensors: dict[str, np.ndarray]) -> ImportReport:
        classifier = classifier_of("cnn10", "panns", 5)
        return assign_weights(classifier, tensors, panns_rules(classifier))

    def test_the_same_constants_are_left_out(self):
        # Measured: 2e-8, the rounding of these to float32.
        report = self.assign(self.tensors())
        self.assertEqual(report.count_reasons(), {_COMPARED: 2})

    def test_the_mel_matrix_of_the_original(self):
        # Measured: no difference; both were made by librosa.
        with np.load(shared_path("reference/mel_panns.npz")) as fixture:
            matrix = fixture["mel_basis"]
        report = self.assign(self.tensors(**{"logmel_extractor.melW": matrix}))
        self.assertEqual(report.count_reasons(), {_COMPARED: 3})
        with self.assertRaisesRegex(CheckpointError, "melW differs .*trained with other features"):
            self.assign(self.tensors(**{"logmel_extractor.melW": matrix * 1.001}))

    def test_other_constants_are_refused(self):
        tensors = self.tensors()
        name = "spectrogram_extractor.stft.conv_imag.weight"
        for changed, message in (
            (-tensors[name], r"conv_imag.weight differs .* by 2.0e\+00, relative"),
            (np.roll(tensors[name], 1, axis=2), "conv_imag.weight differs"),
            (tensors[name] * np.nan, "conv_imag.weight differs .* by nan"),
            (tensors[name][:, :, ::2], r"conv_imag.weight is \(513, 1, 512\), the front end"),
        ):
            with self.assertRaisesRegex(CheckpointError, message):
                self.assign(self.tensors(**{name: changed}))

    def test_the_backbone_alone_has_nothing_to_compare_with(self):
        rules = panns_rules(classifier_of("cnn10", "panns", 5).backbone)
        ignored = rules.find_ignore("logmel_extractor.melW")
        assert ignored is not None
        self.assertIsNone(ignored.check("logmel_extractor.melW", np.zeros((2, 2))))
        self.assertNotIn("compared", ignored.reason)


if __name__ == "__main__":
    tf.test.main()
