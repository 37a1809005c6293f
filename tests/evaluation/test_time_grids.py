"""Where frames and bands of feature maps lie, against where gradients say that they look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from keras import layers

from esc_tf.config.loading import read_config_file
from esc_tf.evaluation.time_grids import measure_band_grids, measure_time_grids
from esc_tf.frontends import LogMelSpectrogram
from esc_tf.tasks.classifier import Classifier, build_classifier
from tests.tiny import tiny_experiment

MODELS = Path(__file__).resolve().parents[2] / "configs" / "model"
RATE_HZ, HOP = 8000, 128
HOP_S = HOP / RATE_HZ


def classify_with(build: Any, num_samples: int, **settings: Any) -> Classifier:
    """A classifier of tones, whose feature map ``map`` the function makes of its input."""
    front_end = LogMelSpectrogram(
        RATE_HZ, **{"n_fft": 256, "hop_length": HOP, "n_mels": 16, **settings}
    )
    features = keras.Input(front_end.compute_output_shape((1, num_samples))[1:], name="features")
    feature_map = build(features)
    embedding = layers.GlobalAveragePooling2D(name="embedding")(feature_map)
    backbone = keras.Model(features, {"map": feature_map, "embedding": embedding})
    audio = {"sample_rate_hz": RATE_HZ, "duration_s": num_samples / RATE_HZ}
    return Classifier(front_end, backbone, {"hidden_units": []}, ["a", "b"], audio)


def centres_in_gradients(model: Classifier, name: str, axis: int = 1) -> dict[int, float]:
    """Frame of the map → centre of the input frames that move it, where it sees no edge.

    Of bands, with ``axis`` 2.
    """
    backbone = model.backbone
    for layer in backbone.layers:
        if isinstance(layer, layers.Conv2D):
            layer.kernel.assign(tf.ones_like(layer.kernel))
    network = keras.Model(backbone.input, backbone.output[name])
    features = tf.constant(
        np.random.default_rng(0).uniform(0.5, 1.0, (64, *backbone.input.shape[1:])), tf.float32
    )
    num_places = features.shape[axis]
    others = tuple({0, 1, 2, 3} - {axis})
    centres = {}
    for frame in range(network(features).shape[axis]):
        with tf.GradientTape() as tape:
            tape.watch(features)
            value = tf.reduce_sum(tf.gather(network(features), frame, axis=axis))
        moved = np.flatnonzero(np.abs(tape.gradient(value, features).numpy()).max(axis=others) > 0)
        if moved[0] > 0 and moved[-1] < num_places - 1:
            centres[frame] = (moved[0] + moved[-1]) / 2
    return centres


def strided_same(x: Any) -> Any:
    x = layers.Conv2D(2, (5, 1), dilation_rate=(2, 1), padding="same")(x)
    x = layers.Conv2D(2, 3, strides=2, padding="same")(x)
    return layers.Conv2D(2, 3, strides=(3, 1), padding="same", activation="relu")(x)


def padded_alike(x: Any) -> Any:
    """As MobileNetV3 has it."""
    x = layers.Conv2D(2, 3, strides=2)(layers.ZeroPadding2D(1)(x))
    return layers.DepthwiseConv2D(5, strides=2)(layers.ZeroPadding2D(2)(x))


def pooled(x: Any) -> Any:
    """As SE-CNN has it, with a branch that sees everything."""
    x = layers.MaxPooling2D(2)(layers.Conv2D(2, 3, padding="same")(x))
    gate = layers.Reshape((1, 1, 2))(layers.GlobalAveragePooling2D()(x))
    gate = layers.Activation("sigmoid")(layers.Rescaling(0.0)(gate))
    return layers.AveragePooling2D(2)(layers.Multiply()([gate, x]))


class TimeGridsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(build=[strided_same, padded_alike, pooled], num_frames=[63, 64, 65, 66])
    def test_are_where_gradients_look(self, build: Any, num_frames: int) -> None:
        model = classify_with(build, (num_frames - 1) * HOP)
        self.assertEqual(model.backbone.input.shape[1], num_frames)
        grid = measure_time_grids(model)["map"]
        # A gate that sees everything must not hide where the map looks: `pooled` cuts it off.
        seen = centres_in_gradients(model, "map")
        self.assertGreater(len(seen), 3)
        times_s = grid.times_s(max(seen) + 1)
        for frame, centre in seen.items():
            self.assertAlmostEqual(times_s[frame], centre * HOP_S, places=9)

    @parameterized.product(build=[strided_same, padded_alike, pooled], num_bands=[31, 34])
    def test_bands_are_where_gradients_look(self, build: Any, num_bands: int) -> None:
        model = classify_with(build, 40 * HOP, n_fft=1024, n_mels=num_bands)
        grid = measure_band_grids(model)["map"]
        seen = centres_in_gradients(model, "map", axis=2)
        self.assertGreater(len(seen), 2)
        places = grid.places(max(seen) + 1)
        for band, centre in seen.items():
            self.assertAlmostEqual(places[band], centre, places=9)

    @parameterized.parameters((True, 0.0), (False, 128 / RATE_HZ))
    def test_features_begin_where_their_frames_do(self, center: bool, first_s: float) -> None:
        model = classify_with(layers.MaxPooling2D(2), 8000, center=center)
        grids = measure_time_grids(model)
        self.assertEqual((grids["features"].first_s, grids["features"].step_s), (first_s, HOP_S))
        self.assertAlmostEqual(grids["map"].first_s, first_s + HOP_S / 2)
        self.assertNotIn("embedding", grids)
        self.assertNotIn("logits", grids)
        bands = measure_band_grids(model)
        self.assertEqual((bands["features"].first, bands["features"].step), (0.0, 1.0))
        self.assertEqual((bands["map"].first, bands["map"].step), (0.5, 2.0))
        self.assertNotIn("embedding", bands)

    @parameterized.parameters("mn04", "tfnet", "cnn10", "mobilenet_student", "se_cnn_plain")
    def test_every_named_map_has_times(self, name: str) -> None:
        section = read_config_file(MODELS / f"{name}.yaml")["model"]
        audio = {"sample_rate_hz": RATE_HZ, "duration_s": 2.0}
        model = build_classifier(
            tiny_experiment("/nowhere", model=section, audio=audio), ["a", "b"]
        )
        grids = measure_time_grids(model)
        values = model.compute_activations(np.zeros((1, 16000), np.float32), model.activation_names)
        maps = {key: value.shape[1] for key, value in values.items() if value.shape.rank > 2}
        self.assertGreater(len(maps), 2)
        self.assertEqual(set(maps), set(grids) & set(model.activation_names))
        for key, num_frames in maps.items():
            times_s = grids[key].times_s(num_frames)
            # Frames cover the clip: none is further from an end than a step (of pools that drop the
            # last frame, almost two).
            self.assertBetween(times_s[0], 0.0, grids[key].step_s, msg=key)
            self.assertBetween(times_s[-1], 2.0 - 2 * grids[key].step_s, 2.0 + HOP_S, msg=key)

    def test_a_grid_of_cells_shares_the_frames(self) -> None:
        model = build_classifier(
            tiny_experiment("/nowhere", model={"pool_grid": [4, 2]}), ["a", "b"]
        )
        grids = measure_time_grids(model)
        # 32 frames, 8 behind two pools, four cells of two of them.
        cells = grids["embedding_grid"].times_s(4)
        self.assertAllClose(cells, [(8 * cell + 3.5) * HOP_S for cell in range(4)], atol=1e-9)


if __name__ == "__main__":
    tf.test.main()
