"""What a training takes of another model: all of it, or some of its layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from esc_tf.errors import RequestError
from esc_tf.frontends.sublayers import list_sublayers
from esc_tf.registry import suggest_name
from esc_tf.tasks.classifier import Classifier, load_classifier

_KEY = "recipe.fine_tuning"
# Layers whose weights belong to the classes, whatever the kind of head.
CLASS_LAYERS = ("logits", "logits_conv", "logits_bn", "attention_projection", "attention_pooling")
# What a layer or a front end is without: how it began, how it is trained, how long its input is.
_NO_MATTER = (
    "name",
    "dtype",
    "trainable",
    "trained",
    "batch_shape",
    "momentum",
    "seed",
    "kernel_regularizer",
    "num_frames",
)
_MOST_DIFFERENCES = 8
_MOST_NAMES = 6


@dataclass(frozen=True)
class Source:
    """The file that the first weights come from.

    Attributes:
        path: as the configuration has it.
        file: the ``.keras`` file itself.
        digest: its SHA-256.
    """

    path: str
    file: Path
    digest: str


def take_weights(model: Classifier, source: Source) -> str:
    """Copy the source's weights into ``model`` and say in a line what was taken and what not.

    Nothing is changed unless the whole backbone fits.

    Raises:
        RequestError: backbone or front end differ; the differences are listed.
        CheckpointError: the source cannot be loaded.
    """
    donor = load_classifier(source.file)
    differences = [
        *_compare("front_end", *(_settings(item.front_end) for item in (model, donor))),
        *_compare_layers(model.backbone, donor.backbone),
    ]
    _refuse(source, differences)
    taken = list_weighted(model.backbone.layers)
    fresh = []
    same_hidden = _hidden_layers(model.head) == _hidden_layers(donor.head)
    same_classes = model.label_names == donor.label_names
    for layer in list_weighted(model.head.layers):
        fits = same_hidden
        if layer.name in CLASS_LAYERS:
            fits = fits and same_classes
            fits = fits and _settings(layer) == _settings(donor.head.get_layer(layer.name))
        if fits:
            taken.append(layer)
        else:
            fresh.append(layer.name)
    for layer in taken:
        part = donor.backbone if layer in model.backbone.layers else donor.head
        layer.set_weights(part.get_layer(layer.name).get_weights())
    pairs = zip(list_sublayers(model.front_end), list_sublayers(donor.front_end), strict=True)
    for layer, theirs in pairs:
        layer.set_weights(theirs.get_weights())
    line = f"weights from {source.path} (SHA-256 {source.digest[:12]}…): "
    line += "front end, backbone" if list_sublayers(model.front_end) else "backbone"
    line += "".join(f", {layer.name}" for layer in taken if layer in model.head.layers)
    if not fresh:
        return f"{line}; nothing is fresh"
    reason = "its head is another one"
    if same_hidden and not same_classes:
        reason = f"its {len(donor.label_names)} classes are not these {len(model.label_names)}"
    return f"{line}; fresh: {', '.join(fresh)} ({reason})"


def take_layers(model: Classifier, source: Source, inherited: Sequence[str]) -> str:
    """Copy the weights of some layers, and say so in a line. Nothing is changed unless all fit.

    Layers of the head are left fresh where they do not fit, or belong to other classes.

    Args:
        model: changed in place.
        source: any network that has these layers, before any front end.
        inherited: keys of ``name_layers(model)``.

    Raises:
        RequestError: a layer is not there, or is another one; the differences are listed.
        CheckpointError: the source cannot be loaded.
    """
    donor = load_classifier(source.file)
    mine, theirs = name_layers(model), name_layers(donor)
    differences: list[str] = []
    taken = []
    for name in inherited:
        found = None
        if name in theirs:
            found = _compare_layer(mine[name], theirs[name])
        if mine[name] in model.head.layers:
            same_classes = name not in CLASS_LAYERS or model.label_names == donor.label_names
            if found != [] or not same_classes:
                continue
        elif found is None:
            near = suggest_name(name, list(theirs))
            differences.append(f"layer {name} is not in the source{near}")
        taken.append(name)
        differences += found or []
    _refuse(source, differences)
    for name in taken:
        mine[name].set_weights(theirs[name].get_weights())
    line = f"weights from {source.path} (SHA-256 {source.digest[:12]}…): {len(taken)} layers, "
    line += f"{taken[0]} to {taken[-1]}" if taken else "none fits"
    fresh = [name for name in mine if name not in taken]
    line += f"; fresh: {', '.join(fresh) if fresh else 'nothing'}"
    if _settings(model.front_end) != _settings(donor.front_end):
        line += "; the source hears through another front end"
    return line


def _refuse(source: Source, differences: Sequence[str]) -> None:
    if not differences:
        return
    more = len(differences) - _MOST_DIFFERENCES
    raise RequestError(
        [
            f"{_KEY}.source: {source.path} does not fit this experiment: {difference}"
            for difference in differences[:_MOST_DIFFERENCES]
        ]
        + ([f"{_KEY}.source: {more} more differences of this kind"] if more > 0 else [])
    )


def _hidden_layers(head: keras.Model) -> dict[str, Any]:
    """What a head is but for its classes and its dropout: layer → settings."""
    without = {*CLASS_LAYERS, "probabilities"}
    return {
        layer.name: (type(layer).__name__, _settings(layer))
        for layer in head.layers
        if layer.name not in without and not _is_only_for_training(layer)
    } | {"class layers": [layer.name for layer in head.layers if layer.name in CLASS_LAYERS]}


def _compare_layers(mine: keras.Model, theirs: keras.Model) -> Iterator[str]:
    """What one of two backbones has alone, and one sentence for each layer that differs."""
    here, there = (
        {layer.name: layer for layer in model.layers if not _is_only_for_training(layer)}
        for model in (mine, theirs)
    )
    for where, one, other in (("here", here, there), ("in the source", there, here)):
        alone = [name for name in one if name not in other]
        if alone:
            shown = ", ".join(alone[:_MOST_NAMES]) + (", …" if len(alone) > _MOST_NAMES else "")
            yield f"{len(alone)} layers are {where} alone: {shown}"
    for name, layer in here.items():
        if name in there:
            yield from _compare_layer(layer, there[name])


def _compare_layer(layer: keras.layers.Layer, other: keras.layers.Layer) -> list[str]:
    """One sentence for each setting of two layers of one name that differs."""
    name = layer.name
    kinds = [type(item).__name__ for item in (layer, other)]
    if kinds[0] != kinds[1]:
        return [f"layer {name} is a {kinds[0]} here and a {kinds[1]} in the source"]
    found = list(_compare(name, _settings(layer), _settings(other)))
    shapes = [[list(weight.shape) for weight in item.weights] for item in (layer, other)]
    if not found and shapes[0] != shapes[1]:
        found = [f"{name}: weights of {shapes[0]} here and {shapes[1]} in the source"]
    return found


def _compare(name: str, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    for key in [*mine, *(key for key in theirs if key not in mine)]:
        if mine.get(key) != theirs.get(key):
            yield f"{name}.{key} is {mine.get(key)} here and {theirs.get(key)} in the source"


def _settings(layer: keras.layers.Layer) -> dict[str, Any]:
    """A layer's configuration, without what does not change the meaning of its weights."""
    settings: dict[str, Any] = _strip(layer.get_config())
    return settings


def _strip(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _strip(item)
            for key, item in value.items()
            if key not in _NO_MATTER and not str(key).endswith("_initializer")
        }
    return [_strip(item) for item in value] if isinstance(value, list | tuple) else value


def _is_only_for_training(layer: keras.layers.Layer) -> bool:
    return "Dropout" in type(layer).__name__ or isinstance(layer, keras.layers.InputLayer)


def list_weighted(layers: Iterable[keras.layers.Layer]) -> list[keras.layers.Layer]:
    """Those of ``layers`` that have weights."""
    return [layer for layer in layers if layer.weights]


def name_layers(model: Classifier) -> dict[str, keras.layers.Layer]:
    """Name → layer with weights, from input to output; in the front end ``front_end/conv_1``."""
    named = {f"front_end/{layer.name}": layer for layer in list_sublayers(model.front_end)}
    rest = list_weighted([*model.backbone.layers, *model.head.layers])
    return {**named, **{layer.name: layer for layer in rest}}
