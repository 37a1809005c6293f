"""Grad-CAM: where in a clip the maps of a convolution hold what speaks for a class.

For a class ``c`` and the maps ``A[k]`` of a layer, each channel is weighted by how much the class's
logit rises with it: ``weight[k] = mean over positions of d logit[c] / d A[k]``. The result is
``ReLU(Σ_k weight[k] A[k])``, a map over time and frequency.

The maps of a convolution are read behind its batch norm and its activation, where the next layer
reads them. In front of them a channel's zero is nowhere in particular, and neither is the result:
of clicks planted in noise, a network's first convolution showed 33 % at the right time in front of
its ReLU, 62 % behind it, its last one all.

What moves the logit through a mean over all places (squeeze and excitation) has no place; Grad-CAM
does not see it. Where clicks were told by such a gate, it did not find them.

Source: Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via
Gradient-based Localization".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers as keras_layers

from esc_tf.errors import RequestError
from esc_tf.evaluation.layer_kinds import POINTWISE
from esc_tf.evaluation.layer_shapes import measure_output_shapes
from esc_tf.evaluation.time_grids import measure_band_grids, measure_time_grids
from esc_tf.frames import BandGrid, count_samples, divide_evenly
from esc_tf.interpretation.alignment import align_in_time
from esc_tf.registry import look_up
from esc_tf.tasks.classifier import Classifier

_CONVOLUTIONS = (
    keras_layers.Conv2D,
    keras_layers.DepthwiseConv2D,
    keras_layers.SeparableConv2D,
    keras_layers.Conv2DTranspose,
)
_LOGITS = "logits"
# Axes of a feature map of one clip: time, frequency, channel.
_MAP_RANK = 3


@dataclass(frozen=True)
class MapLayer:
    """A layer whose output has places in time and frequency.

    Attributes:
        name: of the layer, or of a named activation.
        read_at: name of the layer whose output is read; another one only for convolutions that are
            followed by batch norm or an activation.
        shape: of its maps for one clip: frames, bands, channels.
        times_s: centre of each frame, in seconds.
        places: centre of each band, in bands of the network's features, from 0.
    """

    name: str
    read_at: str
    shape: tuple[int, int, int]
    times_s: tuple[float, ...]
    places: tuple[float, ...]


class GradCam:
    """Computes Grad-CAM of a classifier for the layers that are named.

    A frame or a band of a map lies where its kernels and strides look (``measure_time_grids``),
    which for a network with strides is not where stretching the map over the picture would put
    it. Layers of which that is not known share the clip, or the bands, evenly.

    Args:
        model: a classifier. What is computed in a mixed precision is so here, too.
        names: layers or named activations, from input to output or in any order; ``None``: every
            convolution that has more than one place. A convolution stands for its output behind
            batch norm and activation.

    Attributes:
        layers: in the order of ``names``.

    Raises:
        UnknownNameError: no such layer; near matches and all names are listed.
        RequestError: a layer has no places in time and frequency; the model has no convolution.

    Source: see the module. Tests compare it with finite differences (relative difference 1e-5)
    and with class activation maps, which it equals in front of a global average (1e-6).
    """

    def __init__(self, model: Classifier, names: Sequence[str] | None = None) -> None:
        self._model = model
        located = _locate_layers(model)
        if names is None:
            found = [name for name in find_convolutions(model) if located[name] is not None]
            if not found:
                raise RequestError("the model has no convolution; Grad-CAM needs feature maps")
            names = found
        chosen = []
        for name in dict.fromkeys(names):
            layer = look_up(located, name, "layer")
            if layer is None:
                raise RequestError(
                    f"{name}: its output has no places in time and frequency; name a layer with "
                    "feature maps, such as a convolution before the pooling over time"
                )
            chosen.append(layer)
        self.layers: tuple[MapLayer, ...] = tuple(chosen)
        features = located["features"]
        assert features is not None  # they always have time and frequency
        self.features = features
        self._compute = self._trace()

    def compute(self, features: np.ndarray, class_ids: Sequence[int]) -> dict[str, np.ndarray]:
        """Grad-CAM of some clips, each for one class.

        Args:
            features: the network's input, ``(clips, time, frequency, channel)``.
            class_ids: of each clip, the class whose logit is asked about.

        Returns:
            Layer → float32 ``(clips, frames, bands)`` of its maps, no value below 0. Its unit is
            the logit's, over the number of places; values of two layers do not compare.
        """
        maps = self._compute(
            tf.constant(features, tf.float32), tf.constant(list(class_ids), tf.int32)
        )
        return {layer.name: found.numpy() for layer, found in zip(self.layers, maps, strict=True)}

    def spread(self, layer: MapLayer, values: np.ndarray) -> np.ndarray:
        """A layer's map ``(frames, bands)`` at every frame and band of the network's input.

        Linear between the centres of the map's places; beyond the first and the last as there.

        Returns:
            float32 ``(time, frequency)``.
        """
        in_time = align_in_time(values.T, layer.times_s, self.features.times_s)
        # The same between bands: the axis that is interpolated comes last.
        return align_in_time(in_time.T, layer.places, self.features.places)

    def _trace(self) -> Any:
        names = [layer.read_at for layer in self.layers]

        @tf.function(reduce_retracing=True)
        def compute(features: Any, class_ids: Any) -> list[Any]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(features)
                values = self._model.compute_feature_activations(features, [*names, _LOGITS])
                scores = tf.gather(values[_LOGITS], class_ids, axis=1, batch_dims=1)
                maps = [values[name] for name in names]
            # No clip's logits depend on another's maps, so one pass serves all.
            gradients = tape.gradient(
                scores, maps, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )
            found = []
            for feature_map, gradient in zip(maps, gradients, strict=True):
                weights = tf.reduce_mean(tf.cast(gradient, tf.float32), axis=[1, 2], keepdims=True)
                weighed = weights * tf.cast(feature_map, tf.float32)
                found.append(tf.nn.relu(tf.reduce_sum(weighed, axis=-1)))
            return found

        return compute


def find_convolutions(model: Classifier) -> tuple[str, ...]:
    """Names of all convolutions of a classifier, from input to output."""
    return tuple(
        layer.name
        for part in (model.backbone, model.head)
        for layer in part.layers
        if isinstance(layer, _CONVOLUTIONS)
    )


def _locate_layers(model: Classifier) -> dict[str, MapLayer | None]:
    """Name of each layer and named activation → where its places are; None: it has none."""
    audio = model.audio
    num_samples = count_samples(audio["duration_s"], audio["sample_rate_hz"])
    shape = tuple(model.front_end.compute_output_shape((1, num_samples))[1:])
    times, bands = measure_time_grids(model), measure_band_grids(model)

    read_at = {**_follow_activations(model.backbone), **_follow_activations(model.head)}

    def locate(name: str, size: tuple[int, ...]) -> MapLayer | None:
        if len(size) != _MAP_RANK or size[0] * size[1] < 2:
            return None
        num_frames, num_bands, num_channels = size
        grid = times.get(name) or divide_evenly(num_frames, audio["duration_s"])
        share = shape[1] / num_bands
        band_grid = bands.get(name) or BandGrid((share - 1) / 2, share)
        return MapLayer(
            name,
            read_at.get(name, name),
            (num_frames, num_bands, num_channels),
            tuple(grid.times_s(num_frames)),
            tuple(band_grid.places(num_bands)),
        )

    in_backbone = _measure_outputs(model.backbone, shape)
    in_head = _measure_outputs(model.head, in_backbone[model.head_source])
    sizes = {"features": shape, **in_backbone, **in_head}
    return {name: locate(name, size) for name, size in sizes.items()}


def _follow_activations(network: keras.Model) -> dict[str, str]:
    """Name of each convolution → name of the last batch norm or activation right behind it."""
    readers: dict[int, list[Any]] = {}
    for layer in network.layers:
        if not isinstance(layer, keras_layers.InputLayer):
            for tensor in keras.tree.flatten(layer.input):
                readers.setdefault(id(tensor), []).append(layer)
    found = {}
    for layer in network.layers:
        if isinstance(layer, _CONVOLUTIONS):
            last = layer
            while len(behind := readers.get(id(last.output), [])) == 1 and isinstance(
                behind[0], POINTWISE
            ):
                last = behind[0]
            found[layer.name] = last.name
    return found


def _measure_outputs(network: keras.Model, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Shape of every layer and every named output of a part of the model for one clip."""
    sizes = measure_output_shapes(network, shape)
    by_tensor = {id(layer.output): sizes[layer.name] for layer in network.layers}
    named = {name: by_tensor[id(tensor)] for name, tensor in network.output.items()}
    inputs = {layer.name for layer in network.layers if isinstance(layer, keras_layers.InputLayer)}
    return {**{name: size for name, size in sizes.items() if name not in inputs}, **named}
