"""How the network of a TFLite file is rounded: float16, 8-bit weights, or integers throughout."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

INPUT = "features"

# XNNPACK, which runs TFLite files on phones and computers, has no integer kernel for these, and the
# interpreter's own is slow. In float between integer convolutions they take half of the time off,
# and lose nothing. Microcontrollers, which have no other, get integers.
_FASTER_IN_FLOAT = ["HARD_SWISH"]

Finish = Callable[[Any], bytes]
"""Sets a converter's options and converts."""


def to_float32(converter: Any) -> bytes:
    """Convert as it is."""
    return converter.convert()


def to_float16(converter: Any) -> bytes:
    """Store weights in float16; they are made float32 when a file is loaded."""
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def to_dynamic(converter: Any) -> bytes:
    """Store weights in 8 bits; their inputs are rounded anew at each call, to their range then."""
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return converter.convert()


def to_integers(features: np.ndarray) -> Finish:
    """Compute in 8 bits, with float32 inputs and outputs.

    Weights of convolutions have one scale a channel and are symmetric, activations have one scale
    and one zero point, from the smallest to the largest value that ``features`` give. Hard-swish
    stays in float (see above).

    Args:
        features: float32 ``(clips, time, frequency, channel)``.
    """

    def convert(converter: Any) -> bytes:
        _calibrate(converter, features)
        options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=_FASTER_IN_FLOAT)
        with warnings.catch_warnings():  # it makes an interpreter of the kind that is going away
            warnings.simplefilter("ignore", UserWarning)
            debugger = tf.lite.experimental.QuantizationDebugger(
                converter=converter,
                debug_dataset=lambda: ([clip[np.newaxis]] for clip in features[:1]),
                debug_options=options,
            )
        return debugger.get_nondebug_quantized_model()

    return convert


def to_integers_alone(features: np.ndarray) -> Finish:
    """Compute in 8 bits throughout, with 8-bit inputs and outputs: no float operation is left.

    Args:
        features: as in ``to_integers``.
    """

    def convert(converter: Any) -> bytes:
        _calibrate(converter, features)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        return converter.convert()

    return convert


def _calibrate(converter: Any, features: np.ndarray) -> None:
    def list_inputs() -> Iterator[dict[str, np.ndarray]]:
        for clip in features:
            yield {INPUT: clip[np.newaxis]}

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = list_inputs
