"""mn04 from the waveform on, as one TFLite file of built-in operations."""

from __future__ import annotations

import tempfile

import numpy as np
import tensorflow as tf

from esc_tf.tasks import Classifier
from tests.models.random_weights import assign_random_weights
from tests.models.test_parity import build

NUM_SAMPLES = 32_000


def convert(model: Classifier) -> bytes:
    """Convert by way of a SavedModel with one clip in and a dict out, built-in ops only."""
    specification = tf.TensorSpec([1, NUM_SAMPLES], tf.float32, name="waveform")
    module = tf.Module()
    # The variables and not the model: with it come Keras's own functions, which write to the batch
    # statistics, and then the converter leaves those as variables that nothing ever fills.
    module.variables_in_use = [variable.value for variable in model.variables]
    module.run = tf.function(lambda waveform: model(waveform), [specification])
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": module.run})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        return converter.convert()


class TFLiteTest(tf.test.TestCase):
    def test_agrees_with_keras(self) -> None:
        model = build("mn04", "efficientat_log_mel", num_classes=10)
        assign_random_weights(model)
        rng = np.random.default_rng(0)
        interpreter = tf.lite.Interpreter(model_content=convert(model))
        run = interpreter.get_signature_runner("serving_default")
        waveform = 0.1 * rng.standard_normal((1, NUM_SAMPLES)).astype(np.float32)
        expected, outputs = model(waveform), run(waveform=waveform)
        self.assertEqual(set(outputs), set(expected))
        for name, value in expected.items():
            self.assertTrue(np.isfinite(outputs[name]).all(), msg=name)
            error = np.linalg.norm(outputs[name] - value) / np.linalg.norm(value)
            # measured: logits 3.5e-6, embedding 3.6e-6, probabilities 7.6e-6
            self.assertLess(error, 1e-4, msg=name)
