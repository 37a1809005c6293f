"""What every registered model keeps, found by itself: each file in configs/model/ is one case.

A new model is a builder in the table, a YAML of the same name whose first line says how many
trainable parameters it has at 50 classes, and nothing here.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.config import Experiment, build_experiment
from esc_tf.config.loading import read_config_file
from esc_tf.evaluation.layer_shapes import measure_output_shapes
from esc_tf.models import MODELS
from esc_tf.tasks import Classifier, build_classifier, build_loss, load_classifier

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "model"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
LABEL_NAMES = [f"class_{index}" for index in range(50)]

# Small enough for two cores; a model that needs features of its own size names its front end here.
FRONT_END = {"name": "log_mel", "n_fft": 512, "hop_length": 250, "n_mels": 64}
FRONT_ENDS: dict[str, dict] = {
    "piczak_net": {"name": "log_mel", "n_fft": 512, "hop_length": 400, "n_mels": 60},
}


def experiment_for(name: str, **sections) -> Experiment:
    return build_experiment(
        {
            "name": "contract",
            "audio": {"sample_rate_hz": 16000, "duration_s": 1.0},
            "data": {"name": "synthetic"},
            "front_end": FRONT_ENDS.get(name, FRONT_END),
            **read_config_file(CONFIGS / f"{name}.yaml"),
            **sections,
        }
    )


def clips(num_clips: int) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).normal(size=(num_clips, 16000)).astype(np.float32)


class ModelContractTest(tf.test.TestCase, parameterized.TestCase):
    models: dict[str, Classifier] = {}

    @classmethod
    def tearDownClass(cls) -> None:
        cls.models.clear()
        super().tearDownClass()

    def model(self, name: str) -> Classifier:
        """The model, built once for all tests: none of them changes its weights."""
        if name not in self.models:
            keras.utils.set_random_seed(0)
            self.models[name] = build_classifier(experiment_for(name), LABEL_NAMES)
        return self.models[name]

    def test_every_registered_model_has_a_configuration(self) -> None:
        used = {read_config_file(CONFIGS / f"{name}.yaml")["model"]["name"] for name in NAMES}
        self.assertEqual(used, set(MODELS))
        self.assertContainsSubset(set(MODELS), set(NAMES))

    @parameterized.parameters(*NAMES)
    def test_file_has_one_section_and_says_its_parameters(self, name: str) -> None:
        path = CONFIGS / f"{name}.yaml"
        self.assertEqual(list(read_config_file(path)), ["model"])
        first_line = path.read_text(encoding="utf-8").splitlines()[0]
        stated = re.match(r"# .*?([\d,]+) trainable parameters at 50 classes", first_line)
        self.assertIsNotNone(stated, first_line)
        counted = sum(math.prod(item.shape) for item in self.model(name).trainable_variables)
        self.assertEqual(counted, int(stated[1].replace(",", "")))

    @parameterized.parameters(*NAMES)
    def test_shapes_kinds_and_finite_values(self, name: str) -> None:
        model = self.model(name)
        features = model.extract_features(clips(2))
        outputs = model.backbone(features)
        self.assertEqual(list(outputs)[-1], "embedding")
        self.assertGreater(len(outputs), 1)
        for key, value in outputs.items():
            foretold = tf.TensorShape((2, *model.backbone.output[key].shape[1:]))
            self.assertTrue(value.shape.is_compatible_with(foretold), msg=key)
            self.assertEqual(value.dtype, tf.float32, msg=key)
            self.assertTrue(np.isfinite(value.numpy()).all(), msg=key)
            self.assertGreater(float(tf.math.reduce_std(value)), 0.0, msg=key)
        self.assertEqual(outputs["embedding"].shape.rank, 2)
        outputs = model.classify_features(features)
        self.assertEqual(outputs["logits"].shape, (2, 50))
        self.assertTrue(np.isfinite(outputs["logits"].numpy()).all())
        # measured: at most 6e-8
        self.assertAllClose(tf.reduce_sum(outputs["probabilities"], axis=1), [1, 1], atol=1e-5)

    @parameterized.parameters(*NAMES)
    def test_silence_and_full_scale_stay_finite(self, name: str) -> None:
        extremes = np.stack([np.zeros(16000), np.ones(16000), np.resize([1.0, -1.0], 16000)])
        outputs = self.model(name)(extremes.astype(np.float32))
        for key, value in outputs.items():
            self.assertTrue(np.isfinite(value.numpy()).all(), msg=key)

    @parameterized.parameters(*NAMES)
    def test_saved_and_loaded_is_equal(self, name: str) -> None:
        model, path = self.model(name), Path(self.get_temp_dir()) / f"{name}.keras"
        model.save(path)
        loaded = load_classifier(path)
        path.unlink()
        expected = model(clips(2))
        for key, value in loaded(clips(2)).items():
            self.assertTrue(np.isfinite(value.numpy()).all(), msg=key)
            self.assertAllEqual(value, expected[key], msg=key)

    @parameterized.parameters(*NAMES)
    def test_configuration_survives_json(self, name: str) -> None:
        model = self.model(name)
        text = json.dumps(model.get_config(), allow_nan=False)
        config = json.loads(text)
        copy = Classifier.from_config(config)
        self.assertEqual(json.dumps(config), text)  # the caller's is left as it was
        self.assertEqual(json.dumps(copy.get_config()), text)
        copy.set_weights(model.get_weights())
        self.assertAllEqual(copy(clips(2))["logits"], model(clips(2))["logits"])

    @parameterized.parameters(*NAMES)
    def test_a_row_alone_equals_the_row_in_a_batch(self, name: str) -> None:
        model, waveform = self.model(name), clips(4)
        waveform[1] *= 100.0  # a neighbour that would be heard
        together = model(waveform)
        for row in (0, 2):
            alone = model(waveform[row : row + 1])
            for key, value in alone.items():
                scale = float(tf.reduce_max(tf.abs(value)))
                self.assertGreater(scale, 0.0)
                # measured: at most 1.1e-5 of the largest value (probabilities; logits 4e-6)
                self.assertAllClose(value[0], together[key][row], rtol=0, atol=1e-4 * scale)

    @parameterized.parameters(*NAMES)
    def test_any_length_is_kept_as_promised(self, name: str) -> None:
        model = self.model(name)
        lengths = (8000, 24000) if model.any_length else (16000,)
        for num_samples in lengths:
            waveform = np.tile(clips(1), 2)[:, :num_samples]
            alone = model(waveform)
            for key, value in alone.items():
                self.assertTrue(np.isfinite(value.numpy()).all(), msg=key)
        if model.any_length:
            names = list(model.backbone.output)[:-1]
            features = model.extract_features(waveform)
            sizes = measure_output_shapes(model.backbone, features.shape[1:])
            layers = {id(layer.output): layer.name for layer in model.backbone.layers}
            for key, value in model.compute_feature_activations(features, names).items():
                foretold = sizes[layers[id(model.backbone.output[key])]]
                self.assertEqual(value.shape, (1, *foretold), msg=key)

    @parameterized.parameters(*NAMES)
    def test_gradients_reach_every_trainable_variable(self, name: str) -> None:
        model, experiment = self.model(name), experiment_for(name)
        features = model.extract_features(clips(8))
        before = [variable.numpy() for variable in model.non_trainable_variables]
        with tf.GradientTape() as tape:
            outputs = model.classify_features(features, training=True)
            loss = build_loss(experiment.recipe)(tf.eye(8, 50), outputs["logits"])
        gradients = tape.gradient(loss, model.trainable_variables)
        for old, variable in zip(before, model.non_trainable_variables, strict=True):
            variable.assign(old)  # running statistics and dropout's seed, for the other tests
        self.assertNotEmpty(gradients)
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
            self.assertIsNotNone(gradient, msg=variable.path)
            self.assertTrue(np.isfinite(gradient.numpy()).all(), msg=variable.path)
            self.assertGreater(np.abs(gradient.numpy()).max(), 0.0, msg=variable.path)

    @parameterized.parameters(*NAMES)
    def test_low_precision_gives_nearly_the_same(self, name: str) -> None:
        model = self.model(name)
        experiment = experiment_for(name, distribution={"precision": "mixed_bfloat16"})
        mixed = build_classifier(experiment, LABEL_NAMES)
        mixed.set_weights(model.get_weights())
        expected, outputs = model(clips(2)), mixed(clips(2))
        for key in ("logits", "embedding"):
            error = tf.norm(outputs[key] - expected[key]) / tf.norm(expected[key])
            # measured: 0.3 % to 2.8 %; a policy that is not followed gives exactly 0
            self.assertBetween(float(error), 1e-6, 0.05, msg=key)

    @parameterized.parameters(*NAMES)
    def test_layer_names_are_unique_and_whole(self, name: str) -> None:
        model = self.model(name)
        names = [layer.name for layer in (*model.backbone.layers, *model.head.layers)]
        self.assertEqual(len(names), len(set(names)))
        # A name that Keras made up (conv2d_3) depends on what was built before.
        made_up = [item for item in names if re.fullmatch(r"[a-z0-9_]+_\d+", item)]
        self.assertEmpty(made_up)
