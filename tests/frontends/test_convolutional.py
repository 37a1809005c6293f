"""HeuriNet and MSTNet: published sizes, a rendering in NumPy, the ends of a clip."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.errors import ConfigError
from esc_tf.frontends import HeuriNet, MSTNet, list_sublayers
from tests.frontends.setups import build_setup, make_waveforms

NUM_SAMPLES = 20_992


def convolve(x: np.ndarray, layer: keras.layers.Conv1D, stride: int) -> np.ndarray:
    """(positions, channels) by one product for each position, in float64."""
    kernel, bias = (weight.astype(np.float64) for weight in layer.get_weights())
    size = len(kernel)
    starts = range(0, len(x) - size + 1, stride)
    return np.array([np.tensordot(x[start : start + size], kernel, 2) + bias for start in starts])


def pool(x: np.ndarray, size: int, stride: int) -> np.ndarray:
    starts = range(0, len(x) - size + 1, stride)
    return np.array([x[start : start + size].max(axis=0) for start in starts])


def randomize_biases(layer: HeuriNet | MSTNet) -> None:
    rng = np.random.default_rng(3)
    for stage in list_sublayers(layer):
        kernel, bias = stage.get_weights()
        stage.set_weights([kernel, 0.05 * rng.normal(size=bias.shape)])


class PublishedTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ("heurinet", {"conv_1": 12_480, "conv_2": 72_060}, 84_540),
        ("mstnet", {"conv_1": 524_800, "conv_2": 393_472, "conv_3": 46_140}, 964_412),
    )
    def test_parameters(self, name: str, stages: dict[str, int], total: int) -> None:
        layer = build_setup(name)
        counted = {stage.name: stage.count_params() for stage in list_sublayers(layer)}
        self.assertEqual(counted, stages)
        self.assertEqual(layer.count_params(), total)

    @parameterized.parameters(
        (
            "heurinet",
            {"conv_1": (2084, 80), "pool_1": (692, 80), "conv_2": (170, 60), "pool_2": (41, 60)},
        ),
        ("mstnet", {"conv_1": (41, 512), "conv_2": (41, 256), "conv_3": (41, 60)}),
    )
    def test_sizes(self, name: str, shapes: dict[str, tuple[int, int]]) -> None:
        layer = build_setup(name)
        self.assertEqual(layer.measure_stage_shapes(NUM_SAMPLES), shapes)
        self.assertEqual(layer(make_waveforms(2, NUM_SAMPLES)).shape, (2, 41, 60, 1))

    @parameterized.parameters("heurinet", "mstnet")
    def test_weights_start_glorot_uniform_and_biases_at_zero(self, name: str) -> None:
        for stage in list_sublayers(build_setup(name)):
            kernel, bias = stage.get_weights()
            self.assertAllEqual(bias, np.zeros_like(bias))
            size, channels, filters = kernel.shape
            limit = np.sqrt(6.0 / (size * (channels + filters)))
            self.assertLessEqual(np.abs(kernel).max(), limit)
            # measured: within 1 % of a uniform draw's deviation
            self.assertAllClose(kernel.std(), limit / np.sqrt(3.0), rtol=0.03)


class NumpyTest(tf.test.TestCase):
    def test_heurinet(self) -> None:
        layer = build_setup("heurinet")
        randomize_biases(layer)
        waveform = make_waveforms(1, 4_000)[0]
        x = np.maximum(convolve(waveform[:, np.newaxis], layer.conv_1, 10), 0.0)
        x = np.maximum(convolve(pool(x, 9, 3), layer.conv_2, 4), 0.0)
        expected = pool(x, 9, 4)
        self.assertGreater(np.ptp(expected), 0.1)
        # measured: 2e-7
        self.assertAllClose(layer(waveform[np.newaxis])[0, ..., 0], expected, rtol=0, atol=5e-6)

    def test_mstnet(self) -> None:
        layer = build_setup("mstnet")
        randomize_biases(layer)
        waveform = make_waveforms(1, NUM_SAMPLES)[0]
        x = np.pad(waveform, 256)[:, np.newaxis]
        x = np.maximum(convolve(x, layer.conv_1, 512), 0.0)
        x = np.maximum(convolve(np.pad(x, ((1, 1), (0, 0))), layer.conv_2, 1), 0.0)
        expected = np.tanh(convolve(np.pad(x, ((1, 1), (0, 0))), layer.conv_3, 1))
        self.assertEqual(expected.shape, (41, 60))
        self.assertGreater(np.ptp(expected), 0.1)
        # measured: 3e-7
        self.assertAllClose(layer(waveform[np.newaxis])[0, ..., 0], expected, rtol=0, atol=5e-6)


class EndsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters("heurinet", "mstnet")
    def test_what_is_beyond_a_clip_is_silence(self, name: str) -> None:
        layer = build_setup(name)
        waveforms = make_waveforms(2, NUM_SAMPLES)[::-1].copy()
        silenced = waveforms.copy()
        silenced[1, 9_000:] = 0.0
        features = layer(waveforms, num_samples=np.array([NUM_SAMPLES, 9_000], np.int32))
        self.assertAllEqual(features, layer(silenced))
        self.assertGreater(np.abs(features[1] - layer(waveforms)[1]).max(), 1e-3)

    def test_too_short_a_waveform(self) -> None:
        layer = build_setup("heurinet")
        shortest = next(n for n in range(1, 2_000) if layer.settings.count_frames(n) == 1)
        self.assertEqual(layer(make_waveforms(1, shortest)).shape, (1, 1, 60, 1))
        with self.assertRaisesRegex(ValueError, "fewer than one frame of HeuriNet needs"):
            layer(make_waveforms(1, shortest - 1))

    def test_wrong_settings(self) -> None:
        with self.assertRaises(ConfigError) as caught:
            HeuriNet(22050, filters=[80], kernel_size=[155, 15])
        self.assertSameElements(
            caught.exception.problems,
            [
                "front_end.kernel_size: unknown key; did you mean 'kernel_sizes'?",
                "front_end.filters: must have at least 2 item(s), not [80]",
            ],
        )

    @parameterized.parameters("heurinet", "mstnet")
    def test_float32_under_any_policy(self, name: str) -> None:
        keras.config.set_dtype_policy("mixed_float16")
        self.addCleanup(keras.config.set_dtype_policy, "float32")
        layer = build_setup(name)
        self.assertEqual({str(weight.dtype) for weight in layer.weights}, {"float32"})
        self.assertEqual(layer(make_waveforms(1, NUM_SAMPLES)).dtype, tf.float32)


if __name__ == "__main__":
    tf.test.main()
