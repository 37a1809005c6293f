"""Errors from inside a graph that say what is wrong, without an operation that has a state."""

from __future__ import annotations

import tensorflow as tf

# What TensorFlow says of text that is no number, before the text.
_MARK = "StringToNumberOp could not correctly convert string: "


def pass_if(value: tf.Tensor, condition: tf.Tensor, *message: str | tf.Tensor) -> tf.Tensor:
    """Return ``value``; where ``condition`` is false, fail with the message instead.

    ``tf.debugging.Assert`` has a state, and under op determinism tf.data runs whatever has one in a
    single thread. Reading a sentence as a number has none, and its error repeats the sentence.

    Args:
        value: numbers of any kind.
        condition: a boolean.
        message: strings and string tensors, joined.

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs and ``condition`` is false.

    >>> int(pass_if(tf.constant(1), tf.constant(True), "one is wrong"))
    1
    """

    def fail() -> tf.Tensor:
        # Not a control dependency: optimisers drop one on an operation without a state.
        return value + tf.cast(tf.strings.to_number(tf.strings.join(message)), value.dtype)

    return tf.cond(condition, lambda: tf.identity(value), fail)


def find_reason(error: tf.errors.OpError) -> str:
    """Return what went wrong in one line: of a failed `pass_if`, its message and no more."""
    reason = (str(error.message).strip().splitlines() or [type(error).__name__])[0]
    _, found, sentence = reason.partition(_MARK)
    return sentence if found else reason
