"""Grad-CAM against finite differences, class activation maps, and sounds put where we know."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from keras import layers

from esc_tf.config.loading import read_config_file
from esc_tf.errors import RequestError, UnknownNameError
from esc_tf.frontends import LogMelSpectrogram
from esc_tf.interpretation.grad_cam import GradCam, find_convolutions
from esc_tf.tasks.classifier import Classifier, build_classifier
from tests.test_configs import CONFIGS
from tests.tiny import tiny_experiment

RATE_HZ = 8000


def classify_with(build: Any, num_mels: int = 12, num_classes: int = 3) -> Classifier:
    """A classifier of clips of 0.5 s, with random weights: maps by ``build``, mean, dense."""
    keras.utils.set_random_seed(3)
    front_end = LogMelSpectrogram(RATE_HZ, n_fft=256, hop_length=128, n_mels=num_mels)
    features = keras.Input((32, num_mels, 1), name="features")
    embedding = layers.GlobalAveragePooling2D(name="embedding")(build(features))
    backbone = keras.Model(features, {"embedding": embedding}, name="backbone")
    audio = {
        "sample_rate_hz": RATE_HZ, "duration_s": 0.5, "pad": "silence", "crop": "start",
    }  # fmt: skip
    names = [f"class_{index}" for index in range(num_classes)]
    return Classifier(front_end, backbone, {"hidden_units": []}, names, audio)


def three_layers(x: Any) -> Any:
    x = layers.Conv2D(4, 3, padding="same", name="first")(x)
    x = layers.ReLU(name="first_relu")(layers.BatchNormalization()(x))
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="tanh", name="second")(x)
    return layers.DepthwiseConv2D(3, activation="relu", name="third")(x)


def draw_features(model: Classifier, num_clips: int) -> np.ndarray:
    shape = (num_clips, *model.backbone.input.shape[1:])
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def differentiate(model: Classifier, layer: str, maps: np.ndarray, class_id: int) -> np.ndarray:
    """Mean over positions of d logit / d map of each channel, by steps to both sides.

    The network behind the layer is a model of its own here, in float64, which takes the maps.
    """
    behind = keras.Model(model.backbone.get_layer(layer).output, model.backbone.output["embedding"])
    exact = keras.models.clone_model(
        behind,
        input_tensors=keras.Input(maps.shape[1:], dtype="float64"),
        clone_function=lambda it: type(it).from_config({**it.get_config(), "dtype": "float64"}),
    )
    exact.set_weights(behind.get_weights())
    kernel, bias = (np.asarray(weight, np.float64) for weight in model.head.get_weights())

    def ask(values: np.ndarray) -> np.ndarray:
        return (exact(values).numpy() @ kernel + bias)[:, class_id]

    step = 1e-7
    weights = np.zeros((len(maps), maps.shape[-1]))
    for channel in range(maps.shape[-1]):
        # A step of all positions at once: their derivatives add up.
        shift = np.zeros(maps.shape, np.float64)
        shift[..., channel] = step
        weights[:, channel] = (ask(maps + shift) - ask(maps - shift)) / (2 * step)
    return weights / (maps.shape[1] * maps.shape[2])


class GradCamTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters("first", "second", "third")
    def test_weights_are_those_of_finite_differences(self, layer: str) -> None:
        model = classify_with(three_layers)
        features, class_ids = draw_features(model, 3), [2, 0, 1]
        found = GradCam(model, [layer]).compute(features, class_ids)[layer]
        read_at = {"first": "first_relu"}.get(layer, layer)
        maps = np.asarray(model.compute_feature_activations(features, [read_at])[read_at])
        for row, class_id in enumerate(class_ids):
            weights = differentiate(model, read_at, maps[row : row + 1], class_id)[0]
            expected = np.maximum(maps[row] @ weights, 0.0)
            self.assertGreater(expected.max(), 0.0)
            self.assertAllClose(found[row], expected, atol=1e-5 * expected.max())

    def test_is_the_class_activation_map_before_a_global_average(self) -> None:
        """Zhou et al. 2016: there the maps, weighed by the dense layer, make the logit."""
        model = classify_with(lambda x: layers.Conv2D(5, 3, name="last")(x))
        features = draw_features(model, 2)
        found = GradCam(model).compute(features, [1, 2])["last"]
        maps = np.asarray(model.compute_feature_activations(features, ["last"])["last"], np.float64)
        kernel, bias = model.head.get_weights()
        signed = np.einsum("nftk,nk->nft", maps, kernel.T[[1, 2]]) / np.prod(maps.shape[1:3])
        # The map's cells, their sign kept, and the bias add up to the logit.
        logits = np.asarray(model.classify_features(features)["logits"])
        self.assertAllClose(
            signed.sum(axis=(1, 2)) + bias[[1, 2]], [logits[0, 1], logits[1, 2]], atol=1e-5
        )
        self.assertAllClose(found, np.maximum(signed, 0.0), atol=1e-7)
        self.assertGreater(found.max(), 1e-3)

    def test_clips_do_not_touch_each_other(self) -> None:
        model = classify_with(three_layers)
        features = draw_features(model, 3)
        grad_cam = GradCam(model)
        together = grad_cam.compute(features, [0, 1, 2])
        self.assertEqual(list(together), ["first", "second", "third"])
        for row in range(3):
            alone = grad_cam.compute(features[row : row + 1], [row])
            for name, values in alone.items():
                self.assertAllClose(values[0], together[name][row], atol=1e-6)

    def test_a_map_is_spread_to_where_it_looks(self) -> None:
        def strided(x: Any) -> Any:
            x = layers.ZeroPadding2D(1)(x)
            return layers.Conv2D(3, 3, strides=4, name="map")(x)

        grad_cam = GradCam(classify_with(strided, num_mels=13), ["map"])
        (layer,) = grad_cam.layers
        self.assertEqual(layer.shape[:2], (8, 4))
        # A kernel of 3 behind a padding of 1 looks at its first place around frame 0, band 0.
        values = np.zeros((8, 4), np.float32)
        values[2, 1] = 1.0
        spread = grad_cam.spread(layer, values)
        self.assertEqual(spread.shape, (32, 13))
        self.assertEqual(np.unravel_index(spread.argmax(), spread.shape), (8, 4))
        self.assertAllClose(spread[8], np.maximum(1 - np.abs(np.arange(13) - 4) / 4, 0), atol=1e-6)
        self.assertAllClose(
            spread[:, 4], np.maximum(1 - np.abs(np.arange(32) - 8) / 4, 0), atol=1e-6
        )

    def test_what_cannot_be_asked_is_said(self) -> None:
        model = classify_with(three_layers)
        with self.assertRaisesRegex(UnknownNameError, "did you mean 'second'"):
            GradCam(model, ["secnd"])
        with self.assertRaisesRegex(RequestError, "embedding: its output has no places"):
            GradCam(model, ["embedding"])
        with self.assertRaisesRegex(RequestError, "has no convolution"):
            GradCam(classify_with(lambda x: layers.AveragePooling2D(2)(x)))

    @parameterized.parameters("mn04", "tfnet", "cnn10", "mobilenet_student", "se_cnn_plain")
    def test_every_architecture_explains_all_its_convolutions(self, name: str) -> None:
        section = read_config_file(CONFIGS / "model" / f"{name}.yaml")["model"]
        audio = {"sample_rate_hz": RATE_HZ, "duration_s": 2.0}
        experiment = tiny_experiment("/nowhere", model=section, audio=audio)
        model = build_classifier(experiment, ["a", "b"])
        grad_cam = GradCam(model)
        names = [layer.name for layer in grad_cam.layers]
        self.assertGreater(len(names), 2)
        self.assertLessEqual(set(names), set(find_convolutions(model)))
        noise = np.random.default_rng(0).normal(0, 0.1, (1, 2 * RATE_HZ)).astype(np.float32)
        features = np.asarray(model.extract_features(noise))
        found = grad_cam.compute(features, [1])
        for layer in grad_cam.layers:
            self.assertEqual(found[layer.name].shape, (1, *layer.shape[:2]), msg=layer.name)
            self.assertTrue(np.isfinite(found[layer.name]).all(), msg=layer.name)
            spread = grad_cam.spread(layer, found[layer.name][0])
            self.assertEqual(spread.shape, features.shape[1:3], msg=layer.name)


TONE, CLICK, NEITHER = range(3)


def make_sound(rng: np.random.Generator, kinds: list[int]) -> tuple[np.ndarray, dict[int, float]]:
    """Faint noise of 0.5 s with a tone of 80 ms, a click, both or neither; and when they sound."""
    time_s = np.arange(RATE_HZ // 2) / RATE_HZ
    waveform, sounds_at_s = 0.01 * rng.normal(size=time_s.size), {}
    for kind in set(kinds) - {NEITHER}:
        sounds_at_s[kind] = at_s = rng.uniform(0.05, 0.45)
        if kind == TONE:
            hz = rng.uniform(400.0, 3500.0)
            waveform += 0.5 * np.sin(2 * np.pi * hz * time_s) * (np.abs(time_s - at_s) < 0.04)
        else:
            waveform[int(at_s * RATE_HZ)] += 4.0
    return waveform.astype(np.float32), sounds_at_s


class PlantedSoundsTest(tf.test.TestCase):
    """A network that has learnt to tell tones and clicks points at them in clips of both."""

    def test_a_sound_lights_up_where_it_is(self) -> None:
        keras.utils.set_random_seed(0)
        section = {"head": {"hidden_units": [], "dropout": 0.0}, "squeeze_excitation_blocks": []}
        model = build_classifier(
            tiny_experiment("/nowhere", model=section), ["tone", "click", "neither"]
        )
        rng = np.random.default_rng(0)
        kinds = rng.integers(0, 3, 384)
        sounds = np.stack([make_sound(rng, [int(kind)])[0] for kind in kinds])
        network = keras.Model(
            model.backbone.input, model.head(model.backbone.output[model.head_source])["logits"]
        )
        network.compile(
            keras.optimizers.Adam(0.01),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        training = network.fit(
            np.asarray(model.extract_features(sounds)), kinds, batch_size=32, epochs=8, verbose=0
        )
        self.assertGreater(training.history["accuracy"][-1], 0.97)

        grad_cam = GradCam(model, ["block2_conv1"])
        (layer,) = grad_cam.layers
        self.assertEqual(layer.read_at, "block2_relu1")
        num_asked = 0
        for _ in range(40):
            sound, sounds_at_s = make_sound(rng, [TONE, CLICK])
            if abs(sounds_at_s[TONE] - sounds_at_s[CLICK]) < 0.12:
                continue  # the maps have a frame every 32 ms
            num_asked += 1
            features = np.asarray(model.extract_features(sound[np.newaxis]))
            for kind, at_s in sounds_at_s.items():
                (found,) = grad_cam.compute(features, [kind]).values()
                spread = grad_cam.spread(layer, found[0])
                frame, band = np.unravel_index(spread.argmax(), spread.shape)
                self.assertLess(abs(grad_cam.features.times_s[frame] - at_s), 0.06)
                if kind == TONE:
                    # The band that the tone itself is loudest in.
                    loudest = features[0, round(at_s * RATE_HZ / 128), :, 0].argmax()
                    self.assertLessEqual(abs(int(band) - int(loudest)), 3)
        self.assertGreater(num_asked, 15)


if __name__ == "__main__":
    tf.test.main()
