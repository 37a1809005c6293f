"""Files joined from parts: the same computation, in the right order, and nothing twice."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import tensorflow as tf

from esc_tf.errors import ExportError
from export.tflite_parts import join_parts
from tests.export.converted import list_signatures, list_types, read, run_file

WEIGHTS = np.random.default_rng(0).standard_normal((4, 500)).astype(np.float32)


def convert(function: Any, *names: str) -> bytes:
    """One part, of vectors of four."""
    module = tf.Module()
    specifications = [tf.TensorSpec([1, 4], tf.float32, name) for name in names]
    module.function = tf.function(function, specifications, autograph=False)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": module.function})
        return tf.lite.TFLiteConverter.from_saved_model(folder).convert()


def project(values: Any) -> Any:
    return values @ WEIGHTS @ WEIGHTS.T


class JoinPartsTest(tf.test.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.first = convert(lambda x: {"y": tf.exp(x), "unused": project(x)}, "x")
        self.second = convert(lambda y, x: {"z": project(y) - x, "w": tf.sin(y)}, "y", "x")
        self.clips = np.linspace(-1.0, 1.0, 12, dtype=np.float32).reshape(3, 4)

    def test_the_outputs_of_one_are_the_inputs_of_the_next(self) -> None:
        signatures = {"short": ["z"], "long": ["z", "w", "y"]}
        content = join_parts([self.first, self.second], ["x"], signatures)
        y = np.exp(self.clips)
        expected = {"z": y @ WEIGHTS @ WEIGHTS.T - self.clips, "w": np.sin(y), "y": y}
        for key, names in signatures.items():
            found = run_file(content, self.clips, key)
            self.assertEqual(set(found), set(names))
            for name in names:
                self.assertAllClose(found[name], expected[name], rtol=1e-5, atol=1e-5)
        self.assertEqual(list_signatures(content)["long"]["inputs"], ["x"])

    def test_what_nothing_needs_is_left_out(self) -> None:
        both = join_parts([self.first, self.second], ["x"], {"all": ["z", "w", "y", "unused"]})
        without = join_parts([self.first, self.second], ["x"], {"all": ["w", "y"]})
        self.assertEqual([name for name, _ in list_types(without)], ["EXP", "SIN"])
        # Each part has its own copies of two matrices.
        self.assertGreater(len(both) - len(without), 4 * WEIGHTS.nbytes - 1_000)
        self.assertLess(len(both), 4 * WEIGHTS.nbytes + 10_000)

    def test_the_runtime_that_the_newest_part_needs(self) -> None:
        (entry,) = (model := read(join_parts([self.first], ["x"], {"all": ["y"]}))).metadata
        self.assertEqual(entry.name, b"min_runtime_version")
        self.assertRegex(bytes(model.buffers[entry.buffer].data), rb"^\d+\.\d+\.\d+\0*$")

    def test_a_loop_is_refused(self) -> None:
        loop = convert(
            lambda x: {
                "y": tf.while_loop(lambda v: tf.reduce_sum(v) < 9.0, lambda v: (v + 1.0,), (x,))[0]
            },
            "x",
        )
        with self.assertRaisesRegex(ExportError, "loop"):
            join_parts([loop], ["x"], {"all": ["y"]})


if __name__ == "__main__":
    tf.test.main()
