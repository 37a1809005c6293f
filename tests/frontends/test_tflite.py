"""The layer that trains is the layer that goes on the phone."""

from __future__ import annotations

import tempfile

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.frontends.clip_statistics import standardize
from tests.frontends.setups import build_setup, make_waveforms

NUM_SAMPLES = 12_000
# The FFT of TFLite takes powers of two alone; the others take what comes.
PRODUCT = [
    ("se_cnn_log_mel", "rfft"),
    ("efficientat_log_mel", "rfft"),
    ("panns_log_mel", "rfft"),
    ("se_cnn_log_mel", "dft_conv"),
    ("efficientat_log_mel", "dft_conv"),
    ("panns_log_mel", "dft_conv"),
    ("tfnet_log_mel", "dft_conv"),
    ("se_cnn_log_mel", "factored_dft"),
    ("efficientat_log_mel", "factored_dft"),
    ("panns_log_mel", "factored_dft"),
    ("tfnet_log_mel", "factored_dft"),
]


def convert(layer: keras.layers.Layer) -> bytes:
    """Convert by way of a SavedModel with one clip in and a dict out, built-in ops only."""
    specification = tf.TensorSpec([1, NUM_SAMPLES], tf.float32, name="waveform")
    module = tf.Module()
    module.layer = layer
    module.run = tf.function(lambda waveform: {"features": layer(waveform)}, [specification])
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": module.run})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        return converter.convert()


class TFLiteTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*PRODUCT)
    def test_agrees_with_keras(self, name: str, computation: str) -> None:
        layer = build_setup(name, computation=computation, num_frames=40)
        interpreter = tf.lite.Interpreter(model_content=convert(layer))
        run = interpreter.get_signature_runner("serving_default")
        silence = np.zeros((1, NUM_SAMPLES), np.float32)
        for waveform in (*np.split(make_waveforms(2, NUM_SAMPLES), 2), silence):
            ours = run(waveform=waveform)["features"]
            self.assertAllInRange(ours, -200.0, 200.0)
            # In dB or in standard deviations. Measured: 2e-4.
            self.assertAllClose(ours, layer(waveform), rtol=0.0, atol=1e-3)

    def test_the_spread_of_a_clip_that_is_silent_for_the_most_part(self) -> None:
        rng = np.random.default_rng(0)
        features = np.full((1, 431, 128), -93.27, np.float32)
        features[:, :140] += rng.gamma(2.0, 15.0, (1, 140, 128)).astype(np.float32)
        run = tf.function(
            lambda features: {"features": standardize(features)},
            [tf.TensorSpec([1, 431, 128], tf.float32, name="features")],
        )
        module = tf.Module()
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [run.get_concrete_function()], module
        )
        interpreter = tf.lite.Interpreter(model_content=converter.convert())
        found = interpreter.get_signature_runner()(features=features)["features"]
        exact = features.astype(np.float64)
        exact = (exact - exact.mean()) / (exact.std() + 1e-6)
        self.assertLess(np.linalg.norm(found - exact) / np.linalg.norm(exact), 2e-6)


if __name__ == "__main__":
    tf.test.main()
