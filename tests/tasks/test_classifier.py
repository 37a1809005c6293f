"""The classifier: its outputs, its activations, its files, its precision."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.errors import CheckpointError, ConfigError, RequestError, UnknownNameError
from esc_tf.models.precision import precision_scope
from esc_tf.tasks import Classifier, build_classifier, build_loss, load_classifier
from tests.tiny import tiny_experiment

NAMES = ("dog", "rain", "saw")


def tiny_classifier(**sections) -> Classifier:
    keras.utils.set_random_seed(0)
    return build_classifier(tiny_experiment("unused", **sections), NAMES)


def clips(num_clips: int = 3) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).normal(size=(num_clips, 4000)).astype(np.float32)


class OutputsTest(tf.test.TestCase, parameterized.TestCase):
    def test_shapes_and_kinds(self) -> None:
        outputs = tiny_classifier()(clips())
        self.assertEqual(
            {name: (tuple(value.shape), value.dtype) for name, value in outputs.items()},
            {
                "logits": ((3, 3), tf.float32),
                "probabilities": ((3, 3), tf.float32),
                "embedding": ((3, 16), tf.float32),
            },
        )
        self.assertAllClose(
            outputs["probabilities"], tf.nn.softmax(outputs["logits"]), rtol=0, atol=1e-6
        )

    def test_a_batch_may_be_a_waveform_or_a_dict_with_more_in_it(self) -> None:
        model, waveform = tiny_classifier(), clips()
        batch = {
            "waveform": waveform,
            "num_samples": np.full(3, 4000, np.int32),
            "index": np.arange(3, dtype=np.int32),
        }
        expected = model(waveform)["logits"]
        self.assertAllEqual(model(batch)["logits"], expected)
        self.assertAllEqual(model({"waveform": waveform})["logits"], expected)

    def test_num_samples_reaches_the_front_end(self) -> None:
        model = tiny_classifier(front_end={"normalization": "standardize"})
        waveform = clips(1)
        waveform[:, 2000:] = 0.0
        whole = model(waveform)["logits"]
        part = model({"waveform": waveform, "num_samples": np.array([2000], np.int32)})["logits"]
        self.assertNotAllClose(whole, part)

    def test_two_steps_equal_one_call(self) -> None:
        model, waveform = tiny_classifier(), clips()
        features = model.extract_features(waveform)
        self.assertEqual(features.shape, (3, 32, 24, 1))
        self.assertAllEqual(model.classify_features(features)["logits"], model(waveform)["logits"])

    def test_dropout_works_in_training_alone(self) -> None:
        model, features = tiny_classifier(), np.zeros((2, 32, 24, 1), np.float32)
        model.head.get_layer("head_dense1").bias.assign(tf.ones(16))
        still = [model.classify_features(features)["logits"] for _ in range(2)]
        moving = [model.classify_features(features, training=True)["logits"] for _ in range(2)]
        self.assertAllEqual(*still)
        self.assertNotAllClose(*moving)

    def test_sigmoid_output_for_binary_cross_entropy(self) -> None:
        model = tiny_classifier(recipe={"loss": "binary_crossentropy"})
        outputs = model(clips())
        self.assertEqual(model.output_kind, "sigmoid")
        self.assertAllClose(
            outputs["probabilities"], tf.sigmoid(outputs["logits"]), rtol=0, atol=1e-6
        )

    def test_head_without_hidden_layers_drops_from_the_embedding(self) -> None:
        model = tiny_classifier(model={"head": {"hidden_units": [], "dropout": 0.5}})
        names = [layer.name for layer in model.head.layers[1:]]
        self.assertEqual(names, ["head_dropout", "logits", "probabilities"])

    def test_dropout_follows_the_first_hidden_layer(self) -> None:
        model = tiny_classifier(model={"head": {"hidden_units": [8, 4], "dropout": 0.5}})
        names = [layer.name for layer in model.head.layers[1:]]
        self.assertEqual(
            names, ["head_dense1", "head_dropout", "head_dense2", "logits", "probabilities"]
        )

    def test_clip_too_short_for_the_model_is_a_configuration_error(self) -> None:
        with self.assertRaisesRegex(ConfigError, "8 blocks need 256 frames"):
            tiny_classifier(model={"block_filters": [2] * 8})

    @parameterized.parameters(
        ({"name": "mobilenet_v3", "width": 0.1}, {}, True),
        ({"name": "mobilenet_v3", "width": 0.1}, {"num_frames": 32}, False),
        ({}, {}, False),
    )
    def test_any_length_takes_a_free_backbone_and_a_free_front_end(
        self, model: dict, front_end: dict, expected: bool
    ) -> None:
        classifier = tiny_classifier(model=model, front_end=front_end)
        self.assertEqual(classifier.any_length, expected)

    def test_a_clip_of_another_length_has_the_outputs_it_would_have_had_alone(self) -> None:
        short = tiny_classifier(audio={"duration_s": 0.25}, model={"name": "cnn10", "head": {}})
        long = tiny_classifier(model={"name": "cnn10", "head": {}})
        long.set_weights(short.get_weights())
        self.assertTrue(long.any_length)
        waveform = clips()[:, :2000]
        self.assertAllEqual(long(waveform)["logits"], short(waveform)["logits"])
        self.assertNotAllClose(long(clips())["logits"], short(waveform)["logits"])

    @parameterized.parameters(
        ({"output": "argmax"}, "softmax, sigmoid"), ({"label_names": ()}, "at least one class")
    )
    def test_refuses_settings_it_cannot_follow(self, change, message) -> None:
        model = tiny_classifier()
        settings = {"head": {}, "label_names": NAMES, "audio": {}}
        with self.assertRaisesRegex(ValueError, message):
            Classifier(model.front_end, model.backbone, **{**settings, **change})


class ActivationsTest(tf.test.TestCase):
    def test_all_named_activations_from_input_to_output(self) -> None:
        model, waveform = tiny_classifier(), clips()
        self.assertEqual(
            model.activation_names,
            ("features", "block1", "block2", "se2", "embedding", "logits", "probabilities"),
        )
        values = model.compute_activations(waveform, model.activation_names)
        self.assertEqual(tuple(values), model.activation_names)
        features = model.extract_features(waveform)
        self.assertAllEqual(values["features"], features)
        for name, value in model.backbone(features).items():
            self.assertAllEqual(values[name], value, msg=name)
        for name, value in model(waveform).items():
            self.assertAllEqual(values[name], value, msg=name)

    def test_any_layer_by_its_name(self) -> None:
        model, waveform = tiny_classifier(), clips()
        values = model.compute_activations(
            waveform, ["block2_conv1", "block2_bn1", "head_dense1", "block1"]
        )
        self.assertEqual(list(values), ["block2_conv1", "block2_bn1", "head_dense1", "block1"])
        conv = model.backbone.get_layer("block2_conv1")
        self.assertAllClose(values["block2_conv1"], conv(values["block1"]), rtol=0, atol=1e-6)
        self.assertEqual(values["head_dense1"].shape, (3, 16))

    def test_gradients_reach_the_features(self) -> None:
        model = tiny_classifier()
        features = tf.Variable(model.extract_features(clips()))
        with tf.GradientTape() as tape:
            values = model.compute_feature_activations(features, ["block2", "logits"])
            score = tf.reduce_sum(values["logits"][:, 0])
        to_map, to_features = tape.gradient(score, [values["block2"], features])
        self.assertGreater(float(tf.reduce_max(tf.abs(to_map))), 0.0)
        self.assertGreater(float(tf.reduce_max(tf.abs(to_features))), 0.0)

    def test_unknown_activation_is_named_with_its_neighbour(self) -> None:
        with self.assertRaisesRegex(UnknownNameError, "'block22'; did you mean 'block2'"):
            tiny_classifier().compute_activations(clips(), ["block1", "block22"])


class FileTest(tf.test.TestCase):
    def test_a_threshold_goes_with_the_model(self) -> None:
        model, path = tiny_classifier(), Path(self.get_temp_dir()) / "with_threshold.keras"
        self.assertIsNone(model.other_threshold)
        model.other_threshold = 0.625
        model.save(path)
        loaded = load_classifier(path)
        self.assertEqual(loaded.other_threshold, 0.625)
        self.assertEqual(loaded.fold_batch_norms().other_threshold, 0.625)
        self.assertIsNone(tiny_classifier().other_threshold)

    def test_run_directory_and_file_give_the_same_model(self) -> None:
        folder = Path(self.get_temp_dir())
        model, waveform = tiny_classifier(), clips()
        model.save(folder / "model.keras")
        for path in (folder, folder / "model.keras"):
            loaded = load_classifier(path)
            self.assertEqual(loaded.label_names, NAMES)
            self.assertEqual(loaded.audio["sample_rate_hz"], 8000)
            self.assertEqual(loaded.audio, model.audio)
            self.assertEqual(loaded.activation_names, model.activation_names)
            for name, value in model(waveform).items():
                self.assertAllEqual(loaded(waveform)[name], value, msg=name)

    def test_what_is_no_model_is_refused_with_the_reason(self) -> None:
        folder = Path(self.get_temp_dir())
        with self.assertRaisesRegex(RequestError, "holds no model.keras"):
            load_classifier(folder)
        with self.assertRaisesRegex(RequestError, "absent.keras: no such model"):
            load_classifier(folder / "absent.keras")
        (folder / "text.keras").write_text("not a model")
        with self.assertRaisesRegex(CheckpointError, "damaged or not a .keras file"):
            load_classifier(folder / "text.keras")
        with zipfile.ZipFile(folder / "zip.keras", "w") as archive:
            archive.writestr("readme.txt", "something else")
        with self.assertRaisesRegex(CheckpointError, "cannot be loaded"):
            load_classifier(folder / "zip.keras")

    def test_another_kind_of_model_is_refused(self) -> None:
        path = Path(self.get_temp_dir()) / "other.keras"
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(path)
        with self.assertRaisesRegex(CheckpointError, "holds a Sequential"):
            load_classifier(path)

    def test_truncated_file_is_refused(self) -> None:
        path = Path(self.get_temp_dir()) / "model.keras"
        tiny_classifier().save(path)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with self.assertRaises(CheckpointError):
            load_classifier(path)


class PrecisionTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ("mixed_bfloat16", "bfloat16"), ("mixed_float16", "float16"), ("float32", "float32")
    )
    def test_only_backbone_and_hidden_layers_follow(self, precision: str, compute: str) -> None:
        before = keras.config.dtype_policy().name
        model = tiny_classifier(distribution={"precision": precision})
        self.assertEqual(keras.config.dtype_policy().name, before)
        for layer in (
            model.backbone.get_layer("block1_conv1"),
            model.head.get_layer("head_dense1"),
        ):
            self.assertEqual((layer.compute_dtype, layer.variable_dtype), (compute, "float32"))
        for layer in (model, model.front_end, model.head.get_layer("logits")):
            self.assertEqual(layer.compute_dtype, "float32")
        self.assertEqual(model.compute_activations(clips(), ["block1"])["block1"].dtype, compute)
        for name, value in model(clips()).items():
            self.assertEqual(value.dtype, tf.float32, msg=name)

    def test_a_policy_around_it_does_not_reach_waveform_or_logits(self) -> None:
        with precision_scope("mixed_bfloat16"):
            model = tiny_classifier()
            outputs = model(clips())
        self.assertAllEqual(outputs["logits"], tiny_classifier()(clips())["logits"])

    def test_mixed_model_gives_equal_outputs_in_another_process(self) -> None:
        folder = Path(self.get_temp_dir())
        model, waveform = tiny_classifier(distribution={"precision": "mixed_bfloat16"}), clips()
        model.save(folder / "model.keras")
        np.save(folder / "waveform.npy", waveform)
        program = (
            "import sys, numpy as np\n"
            "from esc_tf.tasks import load_classifier\n"
            "model = load_classifier(sys.argv[1])\n"
            "assert model.backbone.get_layer('block1_conv1').compute_dtype == 'bfloat16'\n"
            "np.savez('outputs.npz', **{k: v.numpy() for k, v in "
            "model(np.load('waveform.npy')).items()})\n"
        )
        package_root = str(Path(__file__).resolve().parents[2])
        subprocess.run(
            [sys.executable, "-c", program, "model.keras"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": package_root},
            check=True,
        )
        theirs = np.load(folder / "outputs.npz")
        for name, value in model(waveform).items():
            self.assertTrue(np.isfinite(theirs[name]).all())
            self.assertAllEqual(theirs[name], value, msg=name)


class TrainingStepTest(tf.test.TestCase):
    def test_learns_in_a_compiled_step(self) -> None:
        experiment = tiny_experiment("unused", model={"head": {"hidden_units": [16]}})
        keras.utils.set_random_seed(0)
        model, loss = build_classifier(experiment, NAMES), build_loss(experiment.recipe)
        optimizer = keras.optimizers.Adam(1e-2)
        optimizer.build(model.trainable_variables)
        waveform, labels = clips(6), np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]
        before = [variable.numpy() for variable in model.backbone.non_trainable_variables]

        @tf.function(jit_compile=True)
        def step(features, labels):
            with tf.GradientTape() as tape:
                outputs = model.classify_features(features, training=True)
                value = tf.reduce_mean(loss(labels, outputs["logits"]))
            gradients = tape.gradient(value, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            return value

        features = model.extract_features(waveform)
        losses = [float(step(features, labels)) for _ in range(20)]
        self.assertTrue(np.isfinite(losses).all())
        self.assertLess(losses[-1], 0.6 * losses[0])
        for old, variable in zip(before, model.backbone.non_trainable_variables, strict=True):
            self.assertNotAllClose(old, variable, msg=variable.path)
