"""Training that begins with the weights of another model: what is taken, frozen and slowed down.

Everything is checked before a run directory is made. Once there is a checkpoint, a run needs its
source no more: which layers are frozen or slow follows from the configuration alone.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from esc_tf.config.recipe import FineTuningConfig
from esc_tf.errors import RequestError
from esc_tf.registry import suggest_name
from esc_tf.tasks.classifier import Classifier, load_classifier
from esc_tf.training.devices import find_batch_norms
from esc_tf.training.run_directory import MODEL_FILE

_KEY = "recipe.fine_tuning"
# Layers whose weights belong to the classes, whatever the kind of head.
CLASS_LAYERS = ("logits", "logits_conv", "logits_bn", "attention_projection", "attention_pooling")
# What a layer or a front end is without: how it began, how it is trained, how long its input is.
_NO_MATTER = ("name", "dtype", "trainable", "batch_shape", "momentum", "seed", "num_frames")
_MOST_DIFFERENCES = 8
_MOST_NAMES = 6
_BLOCK_BYTES = 1 << 20


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


@dataclass(frozen=True)
class FineTuning:
    """What a fine-tuning does to a model.

    Attributes:
        rate_factors: what the learning rate of each trainable variable is multiplied by; None: 1.
        frozen: layers that do not train.
        kept_statistics: the backbone's batch norms, if they keep their statistics.
        lines: what to tell the user.
    """

    rate_factors: list[float] | None = None
    frozen: list[keras.layers.Layer] = field(default_factory=list)
    kept_statistics: list[keras.layers.BatchNormalization] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def find_source(config: FineTuningConfig, known_digest: str | None = None) -> Source:
    """Find the source's file.

    Args:
        config: names it.
        known_digest: what it was when the run began; None: the run begins now.

    Raises:
        RequestError: there is no such file, or it has changed since the run began.
    """
    path = Path(config.source).expanduser()
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        missing = f"holds no {MODEL_FILE}" if path.is_dir() else "no such file"
        raise RequestError(
            f"{_KEY}.source: {config.source}: {missing}; name a .keras file (python -m "
            "esc_tf.checkpoints convert makes one) or a finished run's directory"
        )
    digest = _digest(file)
    if known_digest not in (None, digest):
        raise RequestError(
            f"{_KEY}.source: {file} is not what it was when the run began (SHA-256 {digest}, "
            f"then {known_digest}), and there is no checkpoint yet; bring the first file back or "
            "start a new run"
        )
    return Source(config.source, file, digest)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def prepare_fine_tuning(
    model: Classifier, config: FineTuningConfig | None, source: Source | None
) -> FineTuning:
    """Take the source's weights, freeze layers and find every variable's rate.

    Call it under the strategy's scope, before the optimiser is built.

    Args:
        model: fresh; changed in place.
        config: None: nothing is done.
        source: None: the weights come from elsewhere, as from a checkpoint.

    Raises:
        RequestError: the source is another network or another front end, or a pattern matches
            nothing.
        CheckpointError: the source cannot be loaded.
    """
    if config is None:
        return FineTuning()
    layers = _find_weighted_layers(model)
    frozen, factors = _select_layers(layers, config)
    lines = [] if source is None else [take_weights(model, source)]
    for layer in frozen:
        layer.trainable = False
    rate_factors = None
    if config.learning_rates:
        by_variable = {
            id(variable): factors[layer.name]
            for layer in layers
            for variable in layer.trainable_variables
            if layer.name in factors
        }
        variables = model.trainable_variables
        rate_factors = [by_variable.get(id(variable), 1.0) for variable in variables]
    kept = find_batch_norms(model.backbone) if config.freeze_batch_norm else []
    lines.append(_describe_training(config, layers, frozen, len(kept)))
    return FineTuning(rate_factors, frozen, kept, lines)


def unfreeze(tuning: FineTuning) -> None:
    """Make all layers trainable again, so that the stored model is like one trained afresh."""
    for layer in tuning.frozen:
        layer.trainable = True


@contextlib.contextmanager
def keep_statistics(layers: Sequence[keras.layers.BatchNormalization]) -> Iterator[None]:
    """Let batch norms normalise by the statistics they have and keep these, while inside.

    ``trainable = False`` would do that too, but stop their scales and offsets.
    """
    for layer in layers:
        layer.call = _call_without_statistics(layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.call


def _call_without_statistics(layer: keras.layers.BatchNormalization) -> Any:
    plain = layer.call

    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return plain(inputs, training=False, mask=mask)

    return call


# --- weights


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
    if differences:
        more = len(differences) - _MOST_DIFFERENCES
        raise RequestError(
            [
                f"{_KEY}.source: {source.path} does not fit this experiment: {difference}"
                for difference in differences[:_MOST_DIFFERENCES]
            ]
            + ([f"{_KEY}.source: {more} more differences of this kind"] if more > 0 else [])
        )
    taken = _weighted(model.backbone.layers)
    fresh = []
    same_hidden = _hidden_layers(model.head) == _hidden_layers(donor.head)
    same_classes = model.label_names == donor.label_names
    for layer in _weighted(model.head.layers):
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
    line = f"weights from {source.path} (SHA-256 {source.digest[:12]}…): backbone"
    line += "".join(f", {layer.name}" for layer in taken if layer in model.head.layers)
    if not fresh:
        return f"{line}; nothing is fresh"
    reason = "its head is another one"
    if same_hidden and not same_classes:
        reason = f"its {len(donor.label_names)} classes are not these {len(model.label_names)}"
    return f"{line}; fresh: {', '.join(fresh)} ({reason})"


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
        if name not in there:
            continue
        other = there[name]
        kinds = [type(item).__name__ for item in (layer, other)]
        if kinds[0] != kinds[1]:
            yield f"layer {name} is a {kinds[0]} here and a {kinds[1]} in the source"
            continue
        found = list(_compare(name, _settings(layer), _settings(other)))
        shapes = [[list(weight.shape) for weight in item.weights] for item in (layer, other)]
        if not found and shapes[0] != shapes[1]:
            found = [f"{name}: weights of {shapes[0]} here and {shapes[1]} in the source"]
        yield from found


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


def _weighted(layers: Iterable[keras.layers.Layer]) -> list[keras.layers.Layer]:
    return [layer for layer in layers if layer.weights]


def _find_weighted_layers(model: Classifier) -> list[keras.layers.Layer]:
    return _weighted([*model.backbone.layers, *model.head.layers])


# --- patterns


def _select_layers(
    layers: Sequence[keras.layers.Layer], config: FineTuningConfig
) -> tuple[list[keras.layers.Layer], dict[str, float]]:
    """The frozen layers, and the factor of every other layer that a pattern matches."""
    names = [layer.name for layer in layers]
    problems: list[str] = []

    def match(key: str, pattern: str) -> list[str]:
        found = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not found:
            plain = pattern.translate(str.maketrans("", "", "*?[]!"))
            near = suggest_name(pattern, names) or suggest_name(plain, names)
            shown = ", ".join(names[:_MOST_NAMES])
            problems.append(
                f"{_KEY}.{key}: '{pattern}' matches no layer with weights{near} (there are "
                f"{len(names)}: {shown}, …, {names[-1]})"
            )
        return found

    held = {name for pattern in config.frozen for name in match("frozen", pattern)}
    factors: dict[str, float] = {}
    for pattern, factor in config.learning_rates.items():
        found = match("learning_rates", pattern)
        if found and held.issuperset(found):
            problems.append(
                f"{_KEY}.learning_rates: '{pattern}' matches frozen layers alone, which learn "
                "nothing; leave it out or freeze fewer layers"
            )
        factors.update({name: factor for name in found if name not in held})
    if held.issuperset(names):
        problems.append(f"{_KEY}.frozen: leaves no layer to train; freeze fewer of them")
    if problems:
        raise RequestError(problems)
    return [layer for layer in layers if layer.name in held], factors


def _describe_training(
    config: FineTuningConfig,
    layers: Sequence[keras.layers.Layer],
    frozen: Sequence[keras.layers.Layer],
    num_kept: int,
) -> str:
    parts = [f"all {len(layers)} layers with weights train"]
    if frozen:
        held = sum(int(np.prod(weight.shape)) for layer in frozen for weight in layer.weights)
        parts = [
            f"{len(frozen)} of {len(layers)} layers with weights are frozen, {held:,} parameters"
        ]
    parts += [
        f"{pattern} learns at {factor:g} of the rate"
        for pattern, factor in config.learning_rates.items()
    ]
    if num_kept:
        parts.append(f"{num_kept} batch norms keep their statistics")
    return "fine-tuning: " + "; ".join(parts)
