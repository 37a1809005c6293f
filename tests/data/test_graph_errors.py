"""Failures inside a graph that repeat a sentence."""

from __future__ import annotations

import tensorflow as tf

from esc_tf.data.graph_errors import find_reason, pass_if


class GraphErrorsTest(tf.test.TestCase):
    def test_says_its_sentence_and_no_more(self):
        def check(number: tf.Tensor) -> tf.Tensor:
            return pass_if(number, number < 2, "number ", tf.as_string(number), " is too large")

        numbers = iter(tf.data.Dataset.range(3).map(check))
        self.assertEqual([int(next(numbers)), int(next(numbers))], [0, 1])
        with self.assertRaises(tf.errors.InvalidArgumentError) as caught:
            next(numbers)
        # TensorFlow adds the operation's place on a line of its own.
        self.assertEqual(find_reason(caught.exception), "number 2 is too large")

    def test_of_other_errors_the_first_line(self):
        error = tf.errors.NotFoundError(None, None, "x.wav; No such file\nmore")
        self.assertEqual(find_reason(error), "x.wav; No such file")
        self.assertEqual(find_reason(tf.errors.DataLossError(None, None, "")), "DataLossError")


if __name__ == "__main__":
    tf.test.main()
