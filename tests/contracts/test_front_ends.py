"""What every registered front end keeps, found by itself: each file in configs/front_end/ is one.

A new front end is a class in the table, a YAML of its name or of one of its set-ups, and nothing
here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.config.loading import read_config_file
from esc_tf.frontends import FRONT_ENDS, list_sublayers
from tests.frontends.setups import FOLDER, build_setup, make_waveforms, read_setup

NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
KINDS = {name: read_config_file(FOLDER / f"{name}.yaml")["front_end"]["name"] for name in NAMES}
ONE_OF_EACH_KIND = list({kind: name for name, kind in KINDS.items()}.values())
# Long enough for every set-up, and none of them is made for just so many.
NUM_SAMPLES = 20_992
LENGTHS = np.array([NUM_SAMPLES, 12_345, NUM_SAMPLES], np.int32)


class FrontEndContractTest(tf.test.TestCase, parameterized.TestCase):
    layers: dict[str, keras.layers.Layer] = {}

    @classmethod
    def tearDownClass(cls) -> None:
        cls.layers.clear()
        super().tearDownClass()

    def layer(self, name: str) -> keras.layers.Layer:
        """The layer, built once for all tests: none of them changes its weights."""
        if name not in self.layers:
            keras.utils.set_random_seed(0)
            self.layers[name] = build_setup(name)
        return self.layers[name]

    def test_every_registered_front_end_has_a_configuration(self) -> None:
        self.assertEqual(set(KINDS.values()), set(FRONT_ENDS))

    @parameterized.parameters(*NAMES)
    def test_a_file_says_how_many_parameters_there_are(self, name: str) -> None:
        first_line = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
        stated = re.search(r"([\d,]+) parameters", first_line)
        counted = self.layer(name).count_params()
        self.assertEqual(counted, int(stated[1].replace(",", "")) if stated else 0)

    @parameterized.parameters(*NAMES)
    def test_shapes_kinds_and_finite_values(self, name: str) -> None:
        layer = self.layer(name)
        _, audio = read_setup(name)
        own_length = round(audio.duration_s * audio.sample_rate_hz)
        for num_samples in (NUM_SAMPLES, own_length):
            features = layer(make_waveforms(2, num_samples))
            self.assertEqual(features.shape, layer.compute_output_shape((2, num_samples)))
            self.assertEqual(features.dtype, tf.float32)
            self.assertTrue(np.isfinite(features.numpy()).all())
            self.assertGreater(float(tf.math.reduce_std(features)), 0.0)
        self.assertEqual(layer.compute_output_shape((None, None))[0], None)

    @parameterized.parameters(*NAMES)
    def test_silence_and_full_scale_stay_finite(self, name: str) -> None:
        signs = np.resize([1.0, -1.0], NUM_SAMPLES)
        extremes = np.stack([np.zeros(NUM_SAMPLES), np.ones(NUM_SAMPLES), signs])
        features = self.layer(name)(extremes.astype(np.float32)).numpy()
        self.assertTrue(np.isfinite(features).all())

    @parameterized.parameters(*NAMES)
    def test_saved_and_loaded_is_equal(self, name: str) -> None:
        layer, path = self.layer(name), Path(self.get_temp_dir()) / f"{name}.keras"
        inputs = keras.Input((NUM_SAMPLES,))
        keras.Model(inputs, layer(inputs)).save(path)
        loaded = keras.saving.load_model(path)
        path.unlink()
        waveforms = make_waveforms(2, NUM_SAMPLES)
        self.assertAllEqual(loaded(waveforms), layer(waveforms))

    @parameterized.parameters(*NAMES)
    def test_configuration_survives_json(self, name: str) -> None:
        layer = self.layer(name)
        text = json.dumps(layer.get_config(), allow_nan=False)
        copy = type(layer).from_config(json.loads(text))
        self.assertEqual(json.dumps(copy.get_config()), text)
        copy.set_weights(layer.get_weights())
        waveforms = make_waveforms(1, NUM_SAMPLES)
        self.assertAllEqual(copy(waveforms), layer(waveforms))

    @parameterized.parameters(*NAMES)
    def test_a_row_alone_equals_the_row_in_a_batch(self, name: str) -> None:
        layer, waveforms = self.layer(name), make_waveforms(4, NUM_SAMPLES)
        together = layer(waveforms).numpy()
        scale = np.abs(together).max()
        self.assertGreater(scale, 0.0)
        for row in range(4):
            alone = layer(waveforms[row : row + 1]).numpy()[0]
            # measured: at most 6e-7 of the largest value
            self.assertAllClose(alone, together[row], rtol=0, atol=1e-5 * scale)

    @parameterized.parameters(*NAMES)
    def test_what_lies_beyond_a_clip_is_not_heard(self, name: str) -> None:
        layer, waveforms = self.layer(name), make_waveforms(3, NUM_SAMPLES)
        beyond = np.arange(NUM_SAMPLES) >= LENGTHS[:, np.newaxis]
        quiet, loud = np.where(beyond, 0.0, waveforms), np.where(beyond, 0.9, waveforms)
        features = layer(quiet.astype(np.float32), num_samples=LENGTHS)
        self.assertAllEqual(layer(loud.astype(np.float32), num_samples=LENGTHS), features)

    @parameterized.parameters(*NAMES)
    def test_gradients_are_finite_and_reach_every_trainable_variable(self, name: str) -> None:
        layer, waveforms = self.layer(name), make_waveforms(3, NUM_SAMPLES)
        waveforms[1] = 0.0
        weights = np.random.default_rng(0).normal(size=layer(waveforms).shape).astype(np.float32)
        for lengths in (None, LENGTHS):
            with tf.GradientTape() as tape:
                value = tf.reduce_sum(layer(waveforms, num_samples=lengths) * weights)
            gradients = tape.gradient(value, layer.trainable_variables)
            for variable, gradient in zip(layer.trainable_variables, gradients, strict=True):
                self.assertTrue(np.isfinite(gradient.numpy()).all(), msg=variable.path)
                self.assertGreater(np.abs(gradient.numpy()).max(), 0.0, msg=variable.path)

    @parameterized.parameters(*ONE_OF_EACH_KIND)
    def test_compiled_by_xla_with_a_length_known_at_run_time(self, name: str) -> None:
        layer, waveforms = self.layer(name), make_waveforms(3, NUM_SAMPLES)
        expected = layer(waveforms, num_samples=LENGTHS)
        scale = float(tf.reduce_max(tf.abs(expected)))
        compiled = tf.function(
            lambda waveform, lengths: layer(waveform, num_samples=lengths), jit_compile=True
        )
        # measured: at most 2e-6 of the largest value
        self.assertAllClose(compiled(waveforms, LENGTHS), expected, rtol=0, atol=2e-5 * scale)
        specification = [tf.TensorSpec([None, None]), tf.TensorSpec([None], tf.int32)]
        in_graph = tf.function(
            lambda waveform, lengths: layer(waveform, num_samples=lengths), specification
        )
        for num_samples in (NUM_SAMPLES, 15_000):
            lengths = np.minimum(LENGTHS, num_samples)
            expected = layer(waveforms[:, :num_samples], num_samples=lengths)
            features = in_graph(waveforms[:, :num_samples], lengths)
            self.assertAllClose(features, expected, rtol=0, atol=1e-5 * scale)

    @parameterized.parameters(*NAMES)
    def test_sub_layers_have_names_of_their_own_and_known_shapes(self, name: str) -> None:
        layer = self.layer(name)
        stages = {stage.name: stage for stage in list_sublayers(layer)}
        held = [id(weight) for stage in stages.values() for weight in stage.weights]
        self.assertEqual(held, [id(weight) for weight in layer.weights])
        if stages:
            shapes = layer.measure_stage_shapes(NUM_SAMPLES)
            self.assertContainsSubset(set(stages), set(shapes))
            self.assertEqual(
                list(shapes.values())[-1][1], layer(make_waveforms(1, 20_992)).shape[2]
            )

    @parameterized.parameters(*NAMES)
    def test_a_click_is_where_the_times_of_the_frames_say(self, name: str) -> None:
        layer = self.layer(name)
        rate_hz = layer.sample_rate_hz
        _, audio = read_setup(name)
        num_samples = round(audio.duration_s * rate_hz)
        waveforms = np.zeros((2, num_samples), np.float32)
        place = int(0.43 * num_samples)
        waveforms[1, place] = 1.0
        silence, click = layer(waveforms).numpy()[..., 0]
        # Against silence alone: frames far from the click differ by what a clip's statistics do.
        change = np.abs((click - silence) - np.median(click - silence, axis=0)).sum(axis=1)
        grid = layer.measure_time_grid(num_samples)
        times_s = np.array(grid.times_s(len(change)))
        heard_s = float((times_s * change).sum() / change.sum())
        self.assertLess(abs(heard_s - place / rate_hz), grid.step_s)
