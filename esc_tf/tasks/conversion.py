"""From a published checkpoint to a classifier of this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from esc_tf.config import Experiment, build_experiment
from esc_tf.config.published import VARIANTS, Variant
from esc_tf.errors import CheckpointError, RequestError
from esc_tf.files import write_atomically
from esc_tf.models.checkpoints.assignment import ImportReport, assign_weights
from esc_tf.models.checkpoints.reader import read_checkpoint
from esc_tf.models.checkpoints.tables import TABLES, count_classes
from esc_tf.registry import look_up
from esc_tf.tasks.classifier import Classifier, build_classifier, load_classifier

# A saved and reloaded model computes the same; threads may add in another order.
_RELOAD_TOLERANCE = 1e-5
_LOSSES = {"sigmoid": "binary_crossentropy", "softmax": "categorical_crossentropy"}


@dataclass(frozen=True)
class Conversion:
    """A converted checkpoint.

    Attributes:
        classifier: with the checkpoint's weights.
        experiment: the configuration that makes the same network.
        report: what became of every tensor.
    """

    classifier: Classifier
    experiment: Experiment
    report: ImportReport


def find_variant(model: str, variant: str | None) -> Variant:
    """Look up a published network.

    Args:
        model: an architecture's name in a configuration.
        variant: which of its published forms; None: the only one.

    Raises:
        UnknownNameError: no such model or variant.
        RequestError: there are several variants and none was named.
    """
    variants = look_up(VARIANTS, model, "model with published checkpoints")
    if variant is None and len(variants) > 1:
        raise RequestError(f"--variant: {model} has {', '.join(variants)}; name one of them")
    return look_up(variants, variant or next(iter(variants)), f"variant of {model}")


def convert_checkpoint(
    source: str | Path,
    model: str,
    variant: str | None = None,
    *,
    key: str | None = None,
    **options: Any,
) -> Conversion:
    """Read a PyTorch checkpoint into a classifier that computes the same.

    Args:
        source: the file.
        model: an architecture's name in a configuration, e.g. ``mobilenet_v3``.
        variant: which of its published forms, e.g. ``mn04``; None: the only one.
        key: where the tensors lie in the file; None: the only place there is.
        **options: as ``convert_tensors`` takes them.

    Raises:
        UnknownNameError: no such model or variant.
        RequestError: the file is not there.
        CheckpointError: the file cannot be read; see ``read_checkpoint``.
        EscTfError: as ``convert_tensors``.
    """
    wanted = find_variant(model, variant)
    origin = f"{source} as {model} {variant or ''}".rstrip()
    return convert_tensors(read_checkpoint(source, key), wanted, origin=origin, **options)


def convert_tensors(
    tensors: Mapping[str, np.ndarray],
    variant: Variant,
    *,
    origin: str = "the checkpoint",
    label_names: Sequence[str] | None = None,
    duration_s: float | None = None,
    output: str | None = None,
) -> Conversion:
    """Put the tensors of a checkpoint into the classifier of a published network.

    Args:
        tensors: name in the checkpoint → values.
        variant: the network.
        origin: what the tensors are from, for messages.
        label_names: name of each class; None: ``class_0``, ``class_1``, …
        duration_s: clips that the classifier is made for, in seconds; None: as published.
        output: ``sigmoid`` or ``softmax``; None: as published.

    Returns:
        The classifier and what became of every tensor.

    Raises:
        RequestError: the names are not as many as the classes.
        CheckpointError: the tensors are not those of this network; see ``assign_weights``.
        ConfigError: the network cannot take clips of that length.
    """
    # Without a head that is known, the assignment says what is missing.
    num_classes = count_classes(tensors) or variant.num_classes
    if label_names is not None and len(label_names) != num_classes:
        raise RequestError(
            f"{origin} has {num_classes} classes, and there are {len(label_names)} names; give as "
            "many names as classes"
        )
    experiment = build_experiment(
        describe_experiment(variant, duration_s=duration_s, output=output)
    )
    classifier = build_classifier(
        experiment, label_names or [f"class_{index}" for index in range(num_classes)]
    )
    try:
        report = assign_weights(classifier, tensors, TABLES[variant.table](classifier))
    except CheckpointError as error:
        first, *rest = error.problems
        raise CheckpointError([f"{origin}: {first}", *rest]) from None
    return Conversion(classifier, experiment, report)


def describe_experiment(
    variant: Variant, *, duration_s: float | None = None, output: str | None = None
) -> dict[str, Any]:
    """The configuration of a published network, to be built or to be changed.

    The data are a placeholder: generated sounds, which need nothing on the disk.
    """
    audio = variant.audio | ({} if duration_s is None else {"duration_s": float(duration_s)})
    return {
        "name": str(variant.model["name"]),
        "audio": audio,
        "data": {"name": "synthetic"},
        "front_end": variant.front_end,
        "model": variant.model,
        "recipe": {"loss": _LOSSES[output or variant.output]},
    }


def save_converted(classifier: Classifier, out: Path) -> float:
    """Save a classifier, load it again and compare; only then it is put in place.

    Args:
        classifier: any classifier.
        out: a ``.keras`` file; it is replaced if it is there.

    Returns:
        Relative difference of the reloaded classifier's logits on a fixed clip of noise.

    Raises:
        CheckpointError: the reloaded classifier computes something else, or what it computes is
            not finite; nothing is written.
        OSError: it cannot be written.
    """
    audio = classifier.audio
    num_samples = int(audio["sample_rate_hz"] * audio["duration_s"])
    noise = np.random.default_rng(0).normal(0.0, 0.1, (1, num_samples)).astype(np.float32)
    expected = np.asarray(classifier(noise)["logits"])
    if not np.isfinite(expected).all():
        raise CheckpointError(
            f"{out}: the model makes logits of noise that are not finite, so it was not kept; is "
            "the checkpoint whole?"
        )
    differences = []

    def write(path: Path) -> None:
        classifier.save(path)
        found = np.asarray(load_classifier(path)(noise)["logits"])
        difference = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
        if not difference <= _RELOAD_TOLERANCE:  # nor if it is not a number
            raise CheckpointError(
                f"{out}: the saved model computes other logits (relative difference "
                f"{difference:.1e}), so it was not kept"
            )
        differences.append(difference)

    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, write)
    return differences[0]
