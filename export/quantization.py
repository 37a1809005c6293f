"""How the network of a TFLite file is rounded: float16, 8-bit weights, or integers throughout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert import mlir_quantize

from export.calibration import CalibratedNetwork, calibrate, compute_logits
from export.weight_rounding import round_to_bytes, round_to_half

INPUT = "features"

# XNNPACK, which runs TFLite files on phones and computers, has no integer code for these, and the
# interpreter's own is slow: with hard-swish in float between integer convolutions, mn04 takes half
# of the time, and loses nothing. Microcontrollers, which have no other, get integers.
_FASTER_IN_FLOAT = ["HARD_SWISH"]
# Shares of the network's operators, from its start, that may stay in float, and the error of the
# logits at which no more are tried.
_SHARES_IN_FLOAT = (0.0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
_ERROR_WANTED = 0.03

Finish = Callable[[Any], bytes]
"""Takes a ``TFLiteConverter`` and converts."""


def to_float32(converter: Any) -> bytes:
    """Convert as it is."""
    return converter.convert()


def to_float16(converter: Any) -> bytes:
    """Store large weights in float16, see ``round_to_half``."""
    return round_to_half(converter.convert())


def to_dynamic(converter: Any) -> bytes:
    """Store large weights in 8 bits, see ``round_to_bytes``."""
    return round_to_bytes(converter.convert())


def to_integers(features: np.ndarray) -> Finish:
    """Compute in 8 bits, with float32 inputs and outputs.

    Weights are symmetric, with one scale for each channel; activations have one scale and one zero
    point, from the ranges that ``calibrate`` finds. Hard-swish stays in float (see above), and so
    do the first operators where that is what it takes: the first layers of a network are few
    weights, but all later ones enlarge what is rounded there. As few as bring the logits' error
    (median, relative to their norm, on some of the clips) below 3 %, half of the operators at most.

    Measured on ESC-10, 80 clips a fold. mn04: with the converter's own ranges, from the smallest
    value to the largest, and no more than hard-swish in float, errors of 12 to 14 % and up to four
    changes of the first class a fold; with these ranges 10 %, and one; as it is now 6 %, and none.
    In float, squeeze-excitation gained nothing. A student of 92 thousand parameters: with 5 %
    wanted and a quarter at most, three changes in 320 clips, as it is now one; 2 % wanted, two in
    the fold of that one.

    Args:
        features: float32 ``(clips, time, frequency, channel)``.
    """

    def convert(converter: Any) -> bytes:
        network = _calibrate(converter, features)
        best, smallest_error = b"", np.inf
        for share in _SHARES_IN_FLOAT:
            in_float = network.steps[: int(share * len(network.steps))]
            content = mlir_quantize(
                network.content,
                denylisted_ops=_FASTER_IN_FLOAT,
                denylisted_nodes=list(in_float),
            )
            error = _measure_error(network, content)
            if error < smallest_error:
                best, smallest_error = content, error
            if error <= _ERROR_WANTED:
                break
        return best

    return convert


def to_integers_alone(features: np.ndarray) -> Finish:
    """Compute in 8 bits throughout, with 8-bit inputs and outputs: no float operator is left.

    The first layers are in 8 bits too, which costs much of the error: of mn04 on ESC-10 11 to 14 %
    of the logits' norm over the 80 clips of a fold, and one change of the first class in 320. Tried
    on the fold of that change alone: ranges chosen by the squared error of their rounding make it
    11 in place of 14 % and do not undo it; taking the mean error of the logits from their bias
    gained nothing.

    Args:
        features: as in ``to_integers``.
    """

    def convert(converter: Any) -> bytes:
        return mlir_quantize(
            _calibrate(converter, features).content,
            fully_quantize=True,
            input_data_type=tf.int8,
            output_data_type=tf.int8,
        )

    return convert


def _calibrate(converter: Any, features: np.ndarray) -> CalibratedNetwork:
    def list_inputs() -> Iterator[dict[str, np.ndarray]]:
        # For the places of ranges alone, whose values are found otherwise.
        yield {INPUT: features[:1]}

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = list_inputs
    # As tf.lite.experimental.QuantizationDebugger does it, which converts twice as often.
    converter.experimental_mlir_quantizer = True
    converter._experimental_calibrate_only = True
    return calibrate(converter.convert(), features)


def _measure_error(network: CalibratedNetwork, content: bytes) -> float:
    """Median over some clips of ``‖found - wanted‖ / ‖wanted‖``."""
    found = compute_logits(content, network.few_features)
    wanted = network.logits
    norms = np.maximum(np.linalg.norm(wanted, axis=1), np.finfo(np.float32).tiny)
    return float(np.median(np.linalg.norm(found - wanted, axis=1) / norms))
