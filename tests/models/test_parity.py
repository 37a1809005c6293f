"""The same numbers as the official implementations, from the same weights and inputs.

The fixtures hold what the original PyTorch code computes in evaluation mode. Their weights are
pseudo-random, made again from their names. All errors are relative L2.
"""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.config import build_experiment
from esc_tf.config.loading import read_config_file
from esc_tf.models.checkpoints.assignment import assign_weights
from esc_tf.models.checkpoints.efficientat import efficientat_rules
from esc_tf.models.checkpoints.panns import panns_rules
from esc_tf.models.checkpoints.tfnet import tfnet_cnn10_rules, tfnet_rules
from esc_tf.tasks import Classifier, build_classifier
from tests.contracts.test_models import CONFIGS
from tests.shared_files import shared_path

TOLERANCE = 1e-4
FRONT_ENDS = CONFIGS.parent / "front_end"
# Original's name of an activation → ours.
MOBILENET_V3 = {
    "features": "embedding",
    "mid_features_0": "stem",
    "mid_features_4": "block4",
    "mid_features_11": "block11",
    "mid_features_16": "final",
}
BLOCKS = {f"mid_block{index}": f"block{index}" for index in (1, 2, 4)}
TFNET = {
    "mid_block1_bna": "frequency_attention1",
    "mid_block1_bnb": "time_attention1",
    **BLOCKS,
}
TFNET_CNN10 = {"mid_block1": "block1", "mid_block4": "block4"}


def load_fixture(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Facts, arrays and weights of a fixture."""
    path = shared_path("reference/weights.py")
    spec = importlib.util.spec_from_file_location("reference_weights", path)
    weights = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(weights)
    facts = json.loads(shared_path(f"reference/{name}.json").read_text(encoding="utf-8"))
    with np.load(shared_path(f"reference/{name}.npz")) as arrays:
        return facts, dict(arrays), weights.state_dict(shared_path(f"reference/{name}.json"))


def build(model: str, front_end: str, num_classes: int) -> Classifier:
    experiment = build_experiment(
        {
            "name": "parity",
            "data": {"name": "synthetic"},
            **read_config_file(FRONT_ENDS / f"{front_end}.yaml"),
            **read_config_file(CONFIGS / f"{model}.yaml"),
        }
    )
    return build_classifier(experiment, [f"class_{index}" for index in range(num_classes)])


def thin_out(values: np.ndarray, index: str | None) -> np.ndarray:
    """Apply an index like ``[:, ::4, :, ::10]``."""
    if index is None:
        return values
    steps = [part.strip().lstrip(":") for part in index.strip("[]").split(",")]
    return values[tuple(slice(None, None, int(step) if step else None) for step in steps)]


class ParityTest(tf.test.TestCase, parameterized.TestCase):
    def check(
        self,
        fixture: tuple[dict[str, Any], dict[str, np.ndarray]],
        model: Classifier,
        features: np.ndarray,
        names: dict[str, str],
        axes: tuple[int, ...],
    ) -> None:
        """Compare arrays, with our feature maps' axes put into the original's order."""
        facts, arrays = fixture
        activations = model.compute_feature_activations(features, list(names.values()))
        for theirs, ours in names.items():
            value = activations[ours].numpy()
            value = value.transpose(axes) if value.ndim == 4 else value
            self.assertEqual(list(value.shape), facts["arrays"][theirs]["full_shape"], msg=theirs)
            value = thin_out(value, facts["arrays"][theirs].get("index"))
            self.assertLess(relative_error(value, arrays[theirs]), TOLERANCE, msg=theirs)

    # measured: logits 1.0e-6 (mn04), 1.7e-6 and 1.9e-6 at 1,000 frames (mn10), 1.4e-6 (mn10_fc);
    # any activation at most 2.6e-6
    @parameterized.parameters(("mn04", "mn04"), ("mn10", "mobilenet_v3"), ("mn10_fc", "mn10_fc"))
    def test_mobilenet_v3(self, fixture: str, config: str) -> None:
        facts, arrays, weights = load_fixture(fixture)
        model = build(config, "efficientat_log_mel", num_classes=527)
        assign_weights(model, weights, efficientat_rules(model))
        inputs = {"input": {"logits": "logits", **MOBILENET_V3}}
        if fixture == "mn10":  # also at another length
            inputs["input_1000"] = {"logits_1000": "logits", "features_1000": "embedding"}
        compared = {name for names in inputs.values() for name in names}
        self.assertEqual(compared, set(arrays) - set(inputs))
        for name, names in inputs.items():
            features = arrays[name].transpose(0, 3, 2, 1)
            self.check((facts, arrays), model, features, names, axes=(0, 3, 2, 1))
        counted = sum(np.prod(weight.shape) for weight in model.trainable_variables)
        self.assertEqual(counted, facts["parameters"]["trainable"])

    # measured: front end 3.0e-7 (of the decibels), logits 5.2e-7, any activation at most 7.2e-7
    def test_cnn10(self) -> None:
        facts, arrays, weights = load_fixture("cnn10")
        model = build("cnn10", "panns_log_mel", num_classes=527)
        assign_weights(model, weights, panns_rules(model))
        features = model.extract_features(arrays["input"]).numpy()
        log_mel = features.transpose(0, 3, 1, 2)
        log_mel = thin_out(log_mel, facts["arrays"]["mid_logmel"]["index"])
        self.assertLess(relative_error(log_mel, arrays["mid_logmel"]), TOLERANCE)
        names = {"logits": "logits", "embedding": "embedding", "mid_bn0": "input_bn", **BLOCKS}
        self.assertEqual(set(names), set(arrays) - {"input", "mid_logmel", "clipwise_output"})
        self.check((facts, arrays), model, features, names, axes=(0, 3, 1, 2))
        counted = sum(np.prod(weight.shape) for weight in model.trainable_variables)
        self.assertEqual(counted, facts["parameters"]["trainable"])

    # measured: logits 5.9e-7 (tfnet), 5.0e-7 (tfnet_cnn10); any activation at most 7.0e-7
    @parameterized.parameters(
        ("tfnet", "tfnet", tfnet_rules, TFNET),
        ("tfnet_cnn10", "cnn10_tfnet", tfnet_cnn10_rules, TFNET_CNN10),
    )
    def test_tfnet(self, fixture: str, config: str, rules: Any, names: dict[str, str]) -> None:
        facts, arrays, weights = load_fixture(fixture)
        model = build(config, "tfnet_log_mel", num_classes=50)
        assign_weights(model, weights, rules(model))
        features = arrays["input"][:, 0, :, :, np.newaxis]  # the original reads map 0 alone
        names = {"logits": "logits", **names}
        self.assertEqual(set(names), set(arrays) - {"input", "log_softmax"})
        self.check((facts, arrays), model, features, names, axes=(0, 3, 1, 2))


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    if ours.shape != theirs.shape or not np.isfinite(ours).all():
        raise AssertionError(f"{ours.shape} against {theirs.shape}, or not finite")
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
