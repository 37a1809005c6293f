"""The ranges of an integer network, from what its layers compute for some clips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tensorflow.lite.tools import flatbuffer_utils

# The largest hundredth of a percent of a feature map's values, and the smallest, are cut off, so
# that one loud place in a hundred clips does not make the steps coarse for all.
_PERCENT_CUT = 0.01
_VALUES_PER_LAYER = 200_000
_FEATURE_MAP_RANK = 4
_EXACT_CLIPS = 32


@dataclass(frozen=True)
class CalibratedNetwork:
    """A float network that knows the range of each of its values.

    Attributes:
        content: a ``.tflite`` file in float32, whose tensors have ranges.
        features: the clips from which they are, float32 ``(clips, time, frequency, channel)``.
        logits: what the network computes for the first of them, ``(clips, classes)``.
        steps: names of what its operators compute, in their order.
    """

    content: bytes
    features: np.ndarray
    logits: np.ndarray
    steps: tuple[str, ...]

    @property
    def few_features(self) -> np.ndarray:
        """The clips whose ``logits`` are known."""
        return self.features[: len(self.logits)]


def calibrate(content: bytes, features: np.ndarray) -> CalibratedNetwork:
    """Set the ranges of a network's values anew.

    Feature maps get the range that holds all but 0.01 % of their values at either end, with 0;
    vectors, whose values are few, that from the smallest to the largest.

    Args:
        content: a float network whose values have ranges, whichever they are.
        features: one clip or more.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    (graph,) = model.subgraphs
    places = [index for index, tensor in enumerate(graph.tensors) if _has_range(tensor)]
    interpreter = _build_interpreter(content, keep_all=True)
    (given,) = interpreter.get_input_details()
    rng = np.random.default_rng(0)
    num_kept = -(-_VALUES_PER_LAYER // len(features))
    kept: dict[int, list[np.ndarray]] = {place: [] for place in places}
    for clip in features:
        interpreter.set_tensor(given["index"], clip[np.newaxis])
        interpreter.invoke()
        for place in places:
            values = interpreter.get_tensor(place)
            if values.ndim == _FEATURE_MAP_RANK and values.size > num_kept:
                values = values.ravel()[rng.integers(0, values.size, num_kept)]
            kept[place].append(values.ravel())
    for place in places:
        values, tensor = np.concatenate(kept.pop(place)), graph.tensors[place]
        cut = _PERCENT_CUT if len(tensor.shape) == _FEATURE_MAP_RANK else 0.0
        low, high = np.percentile(values, [cut, 100.0 - cut])
        tensor.quantization.min = np.array([min(low, 0.0)], np.float32)
        tensor.quantization.max = np.array([max(high, 0.0)], np.float32)
    few = features[:_EXACT_CLIPS]
    return CalibratedNetwork(
        content=bytes(flatbuffer_utils.convert_object_to_bytearray(model)),
        features=features,
        logits=compute_logits(content, few),
        steps=tuple(_text(graph.tensors[step.outputs[0]].name) for step in graph.operators),
    )


def compute_logits(content: bytes, features: np.ndarray) -> np.ndarray:
    """Logits ``(clips, classes)`` of a network with float inputs and outputs."""
    runner = _build_interpreter(content).get_signature_runner()
    return np.concatenate([runner(features=clip[np.newaxis])["logits"] for clip in features])


def _has_range(tensor: Any) -> bool:
    quantization = tensor.quantization
    return quantization is not None and quantization.min is not None


def _build_interpreter(content: bytes, keep_all: bool = False) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError:
        from tensorflow.lite import Interpreter
        from tensorflow.lite.experimental import OpResolverType

    if not keep_all:
        return Interpreter(model_content=content)
    interpreter = Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        # XNNPACK keeps to itself what it computes in between.
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    return interpreter


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
