"""What the network is made of and how it sees one clip."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import layers, ops

from esc_tf.config import Experiment
from esc_tf.evaluation.complexity import measure_classifier
from esc_tf.evaluation.report.figures.network import (
    choose_channels,
    draw_feature_maps,
    draw_part_shares,
    draw_weight_histogram,
)
from esc_tf.evaluation.report.findings import Findings, read_sounds
from esc_tf.evaluation.report.markup import (
    Html,
    Section,
    element,
    figure,
    grid,
    image,
    inline,
    join,
    number,
    paragraph,
    table,
)
from esc_tf.tasks.classifier import Classifier

_CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D)
_NUM_CHANNELS = 8
_NUM_COLUMNS = 2
# Pixels of one channel's picture; larger maps are averaged down.
_LARGEST_MAP = (216, 64)
_MOST_HISTOGRAMS = 60
_MOST_MAPS = 40


def parameters_section(model: Classifier, experiment: Experiment) -> Section:
    """Parameters and multiply-adds, part by part."""
    title = "Parameters"
    try:
        cost = measure_classifier(model, experiment.num_samples)
    except NotImplementedError as error:
        return Section("parameters", title, paragraph(f"Not measured: {error}."))
    parts = cost["parts"]
    largest = max(parts, key=lambda part: part["trainable_parameters"])
    share = largest["trainable_parameters"] / max(cost["trainable_parameters"], 1)
    plot = figure(
        draw_part_shares(parts, "part-shares"),
        alt=f"Each part's share of parameters and multiply-adds; {largest['name']} holds "
        f"{share:.1%} of the parameters",
        caption="Batch norm folds into the convolution before it and costs no multiply-adds.",
    )
    rows = [
        [
            part["name"],
            number(part["trainable_parameters"]),
            number(part["multiply_adds"]),
            " × ".join(map(str, part["output_shape"])),
        ]
        for part in parts
    ]
    rows.append(["all", number(cost["trainable_parameters"]), number(cost["multiply_adds"]), ""])
    numbers = table("For one clip", ["part", "parameters", "multiply-adds", "output shape"], rows)
    megabytes = paragraph(
        f"Parameters take {cost['parameter_bytes'] / 1e6:.2f} MB, forward and backward activations "
        f"{cost['forward_backward_bytes'] / 1e6:.2f} MB a clip in float32."
    )
    body = element("div", plot, element("div", numbers, megabytes, class_="prose"), class_="split")
    return Section("parameters", title, body)


def weights_section(model: Classifier) -> Section:
    """The distribution of every kernel's values."""
    kernels = [
        variable
        for part in (model.backbone, model.head)
        for variable in part.trainable_variables
        if len(variable.shape) >= 2
    ]
    shown = choose_evenly(kernels, _MOST_HISTOGRAMS)
    figures = []
    for place, variable in enumerate(shown):
        weights = np.asarray(ops.convert_to_numpy(variable), np.float32)
        name = _name_variable(variable)
        shape = " × ".join(map(str, weights.shape))
        caption = f"{shape}; mean {weights.mean():.4f}, deviation {weights.std():.4f}"
        figures.append(
            figure(
                draw_weight_histogram(weights, f"weights-{place}"),
                alt=f"Histogram of the weights of {name}: {caption}",
                caption=inline(element("strong", name), Html("<br>"), caption),
            )
        )
    text = (
        f"Kernels of all {len(kernels)} layers that have one; the selected weights."
        if len(shown) == len(kernels)
        else f"{len(shown)} of {len(kernels)} kernels, evenly chosen; the selected weights."
    )
    text += " Biases and the scales of batch norm are left out."
    return Section("weights", "Weights", join([paragraph(text), grid(figures, "small-grid")]))


def maps_section(
    model: Classifier, experiment: Experiment, findings: Findings, position: int
) -> Section | None:
    """Feature maps of every convolution and every named activation for one clip."""
    names = choose_evenly(_find_map_names(model), _MOST_MAPS)
    if not names:
        return None
    clip = findings.clips[position]
    (sound,) = read_sounds([clip], experiment)
    inputs = {
        "waveform": sound.waveform[np.newaxis],
        "num_samples": np.array([sound.num_samples]),
    }
    activations = model.compute_activations(inputs, names)
    parts = [_draw_maps(name, activations[name]) for name in names]
    text = (
        f"Clip {clip.record.clip_id} ({clip.record.label_name}) on its way through the network. Of "
        f"each layer the {_NUM_CHANNELS} channels that vary most over the clip, each from its own "
        "smallest (dark) to its largest value (bright); time runs to the right, low frequencies "
        "lie at the bottom. Convolutions are shown before batch norm and ReLU; blocks after their "
        "pooling; SE blocks after their channels were weighted."
    )
    return Section("maps", "Feature maps", join([paragraph(text), grid(parts, "maps")]))


def _find_map_names(model: Classifier) -> list[str]:
    """Convolutions and named activations that have a time and a frequency, in their order."""
    by_tensor = {id(tensor): name for name, tensor in model.backbone.output.items()}
    names = []
    for layer in model.backbone.layers:
        name = by_tensor.get(id(layer.output))
        if isinstance(layer, _CONVOLUTIONS):
            name = name or layer.name
        if name is not None and len(layer.output.shape) == 4:
            names.append(name)
    return names


def _draw_maps(name: str, activation: Any) -> Html:
    feature_map = np.asarray(ops.convert_to_numpy(activation), np.float32)[0]
    channels = choose_channels(feature_map, _NUM_CHANNELS)
    shape = " × ".join(map(str, feature_map.shape))
    source = draw_feature_maps(
        _shrink(feature_map[..., channels]), range(len(channels)), _NUM_COLUMNS
    )
    alt = f"{len(channels)} feature maps of {name}"
    facts = [shape, f"channels {', '.join(map(str, channels))}"]
    constant = float((feature_map.std(axis=(0, 1)) < 1e-6).mean())
    if constant:
        facts.append(f"{constant:.0%} of all are constant")
    caption = inline(element("strong", name), f" {'; '.join(facts)}")
    return element("figure", image(source, alt, "map"), element("figcaption", caption))


def _shrink(feature_map: np.ndarray) -> np.ndarray:
    """Average neighbours until the map fits into ``_LARGEST_MAP``."""
    for axis, most in enumerate(_LARGEST_MAP):
        factor = math.ceil(feature_map.shape[axis] / most)
        starts = np.arange(0, feature_map.shape[axis], factor)
        counts = np.diff(np.append(starts, feature_map.shape[axis]))
        sums = np.add.reduceat(feature_map, starts, axis=axis)
        feature_map = sums / np.expand_dims(counts, tuple({0, 1, 2} - {axis}))
    return feature_map


def choose_evenly(items: list[Any], most: int) -> list[Any]:
    """At most so many of them, evenly chosen, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[index] for index in np.linspace(0, len(items) - 1, most).round().astype(int)]


def _name_variable(variable: Any) -> str:
    """``block1_conv1`` for its kernel, ``layer/name`` for other weights."""
    path = str(getattr(variable, "path", variable.name))
    return path.removesuffix("/kernel").removeprefix("backbone/").removeprefix("head/")
