"""Training that begins with the weights of another model: what is taken, frozen and slowed down.

Everything is checked before a run directory is made. Once there is a checkpoint, a run needs its
source no more: which layers are frozen or slow follows from the configuration alone.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from esc_tf.config.recipe import FineTuningConfig
from esc_tf.errors import RequestError
from esc_tf.registry import suggest_name
from esc_tf.tasks.classifier import Classifier
from esc_tf.training.devices import find_batch_norms
from esc_tf.training.run_directory import MODEL_FILE
from esc_tf.training.source_weights import (
    Source,
    name_layers,
    take_layers,
    take_weights,
)

_KEY = "recipe.fine_tuning"
_MOST_NAMES = 6
_BLOCK_BYTES = 1 << 20


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


def find_source(source: str, known_digest: str | None = None) -> Source:
    """Find the source's file.

    Args:
        source: ``recipe.fine_tuning.source``.
        known_digest: what it was when the run began; None: the run begins now.

    Raises:
        RequestError: there is no such file, or it has changed since the run began.
    """
    path = Path(source).expanduser()
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        missing = f"holds no {MODEL_FILE}" if path.is_dir() else "no such file"
        raise RequestError(
            f"{_KEY}.source: {source}: {missing}; name a .keras file (python -m "
            "esc_tf.checkpoints convert makes one) or a finished run's directory"
        )
    digest = _digest(file)
    if known_digest not in (None, digest):
        raise RequestError(
            f"{_KEY}.source: {file} is not what it was when the run began (SHA-256 {digest}, "
            f"then {known_digest}), and there is no checkpoint yet; bring the first file back or "
            "start a new run"
        )
    return Source(source, file, digest)


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
    layers = name_layers(model)
    frozen, factors = _select_layers(layers, config)
    inherited = _find_inherited(layers, config)
    if source is None:
        lines = []
    elif inherited is None:
        lines = [take_weights(model, source)]
    else:
        lines = [take_layers(model, source, inherited)]
    # What its own settings hold fast already is not freed afterwards.
    held = [layers[name] for name in frozen if layers[name].trainable]
    for layer in held:
        layer.trainable = False
    rate_factors = None
    if config.learning_rates:
        by_variable = {
            id(variable): factors[name]
            for name, layer in layers.items()
            for variable in layer.trainable_variables
            if name in factors
        }
        variables = model.trainable_variables
        rate_factors = [by_variable.get(id(variable), 1.0) for variable in variables]
    kept = find_batch_norms(model.backbone) if config.freeze_batch_norm else []
    if inherited is not None:
        kept = [layer for layer in kept if layer.name in inherited]
    lines.append(_describe_training(config, layers, frozen, len(kept)))
    return FineTuning(rate_factors, held, kept, lines)


def check_patterns(model: Classifier, config: FineTuningConfig | None) -> None:
    """Make sure that every pattern matches a layer; nothing is changed.

    Raises:
        RequestError: one matches none, or nothing is left to train.
    """
    if config is not None:
        layers = name_layers(model)
        _select_layers(layers, config)
        _find_inherited(layers, config)


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


def _find_inherited(
    layers: Mapping[str, keras.layers.Layer], config: FineTuningConfig
) -> list[str] | None:
    """Names that ``inherited`` matches; None: the source must be the same network.

    Raises:
        RequestError: a pattern matches none.
    """
    if config.inherited is None:
        return None
    for pattern in config.inherited:
        if not any(_matches(name, pattern) for name in layers):
            raise RequestError(
                f"{_KEY}.inherited: '{pattern}' matches no layer with weights"
                f"{suggest_name(pattern, list(layers))}"
            )
    return [name for name in layers if any(_matches(name, item) for item in config.inherited)]


# --- patterns


def _matches(name: str, pattern: str) -> bool:
    """Whether a shell glob matches a layer's name; as in a shell, ``*`` matches no slash."""
    return name.count("/") == pattern.count("/") and fnmatch.fnmatchcase(name, pattern)


def _select_layers(
    layers: Mapping[str, keras.layers.Layer], config: FineTuningConfig
) -> tuple[list[str], dict[str, float]]:
    """The frozen layers, and the factor of every other layer that a pattern matches."""
    names = list(layers)
    problems: list[str] = []

    def match(key: str, pattern: str) -> list[str]:
        found = [name for name in names if _matches(name, pattern)]
        if not found:
            plain = pattern.translate(str.maketrans("", "", "*?[]!"))
            near = suggest_name(pattern, names) or suggest_name(plain, names)
            shown = ", ".join(names[:_MOST_NAMES])
            problems.append(
                f"{_KEY}.{key}: '{pattern}' matches no layer with weights{near} (there are "
                f"{len(names)}: {shown}, …, {names[-1]})"
            )
        return found

    if config.trained is None:
        held = {name for pattern in config.frozen for name in match("frozen", pattern)}
    else:
        free = {name for pattern in config.trained for name in match("trained", pattern)}
        held = set(names) - free
    factors: dict[str, float] = {}
    for pattern, factor in config.learning_rates.items():
        found = match("learning_rates", pattern)
        if found and held.issuperset(found):
            problems.append(
                f"{_KEY}.learning_rates: '{pattern}' matches frozen layers alone, which learn "
                "nothing; leave it out or freeze fewer layers"
            )
        factors.update({name: factor for name in found if name not in held})
    if held.issuperset(names) and not problems:
        problems.append(f"{_KEY}.frozen: leaves no layer to train; freeze fewer of them")
    if problems:
        raise RequestError(problems)
    return [name for name in names if name in held], factors


def _describe_training(
    config: FineTuningConfig,
    layers: Mapping[str, keras.layers.Layer],
    frozen: Sequence[str],
    num_kept: int,
) -> str:
    parts = [f"all {len(layers)} layers with weights train"]
    if frozen:
        held = sum(int(np.prod(weight.shape)) for name in frozen for weight in layers[name].weights)
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
