"""The precision chosen for a stretch of code does not leak out of it."""

from __future__ import annotations

import keras
import tensorflow as tf

from esc_tf.models.precision import precision_scope


class PrecisionScopeTest(tf.test.TestCase):
    def test_holds_inside_and_ends_outside(self) -> None:
        before = keras.config.dtype_policy().name
        with precision_scope("mixed_bfloat16"):
            self.assertEqual(keras.layers.Dense(1).compute_dtype, "bfloat16")
        self.assertEqual(keras.config.dtype_policy().name, before)

    def test_ends_after_an_error_too(self) -> None:
        before = keras.config.dtype_policy().name
        with self.assertRaises(RuntimeError), precision_scope("mixed_float16"):
            raise RuntimeError
        self.assertEqual(keras.config.dtype_policy().name, before)
