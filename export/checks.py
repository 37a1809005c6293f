"""What is looked at before and after a conversion: what is wrong, and in which layer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from esc_tf.errors import EscTfError, ExportError
from esc_tf.frontends import list_sublayers
from esc_tf.tasks.classifier import Classifier
from export.formats import TAKE_FEATURES

# Two operators of a graph that names where it came from: loc(… fused["Erf:", "a/layer/Erf@…"] …).
_MISSING_KERNEL = re.compile(
    r'fused\["\w+:", "(?P<place>[^"@]*)@[^"]*"\][^\n]*?'
    r"'tf\.(?P<operator>\w+)' op is neither a custom op nor a flex op"
)
_MISSING_KERNELS = re.compile(r"^(?:TF Select|Custom) ops: (?P<operators>.+)$", re.MULTILINE)


def check_model(model: Classifier, known_labels: Sequence[str] | None = None) -> None:
    """Refuse a model that no export can make right.

    Args:
        model: to be exported.
        known_labels: the names that the run's record has; None: there is none.

    Raises:
        ExportError: a weight is not finite (each such layer is named); the labels are not as many
            as the logits, are not those of the run, or are no names that a text file can hold.
    """
    problems = [*_find_bad_weights(model), *_find_bad_labels(model, known_labels)]
    if problems:
        raise ExportError(problems)


def choose_fitting(model: Classifier, formats: Sequence[str]) -> tuple[str, ...]:
    """Those of the formats that can be made of a model.

    A format that takes features is for devices that compute them themselves, from settings. Where
    the front end is learned, there are none that say it all.
    """
    is_learned = bool(list_sublayers(model.front_end))
    return tuple(name for name in formats if not (is_learned and name in TAKE_FEATURES))


def check_formats(model: Classifier, formats: Sequence[str]) -> None:
    """Raise ExportError for formats that cannot be made of a model."""
    unfit = [name for name in formats if name not in choose_fitting(model, formats)]
    if unfit:
        raise ExportError(
            f"{', '.join(unfit)} takes features that a device computes from settings, and this "
            f"model's front end ({type(model.front_end).__name__}) is made of weights; leave the "
            "format out of --formats"
        )


def list_layers(model: Classifier) -> list[keras.layers.Layer]:
    """The layers of a classifier from input to output."""
    front_end = list_sublayers(model.front_end) or [model.front_end]
    return [*front_end, *model.backbone.layers, *model.head.layers]


def _find_bad_weights(model: Classifier) -> Iterator[str]:
    for layer in list_layers(model):
        for weight in layer.weights:
            values = np.asarray(keras.ops.convert_to_numpy(weight), np.float64)
            num_bad = int(values.size - np.count_nonzero(np.isfinite(values)))
            if num_bad:
                yield (
                    f"layer '{layer.name}': {num_bad} of {values.size} values of its weight "
                    f"'{weight.name}' are NaN or infinite; train the model again, or go back to an "
                    "earlier checkpoint"
                )


def _find_bad_labels(model: Classifier, known_labels: Sequence[str] | None) -> Iterator[str]:
    labels = model.label_names
    num_logits = model.head.output["logits"].shape[-1]
    if len(labels) != num_logits:
        yield (
            f"the model has {len(labels)} labels and its layer 'logits' has {num_logits} outputs; "
            "give as many labels as outputs"
        )
    for label, count in Counter(labels).items():
        if count > 1:
            yield f"the label '{label}' is there {count} times; name each class once"
        if not label.strip() or label != label.strip() or len(label.splitlines()) != 1:
            yield f"the label {label!r} cannot stand in a line of labels.txt; name the class anew"
    if known_labels is not None and tuple(known_labels) != tuple(labels):
        place = next(
            (
                f"'{mine}' where the run has '{theirs}'"
                for mine, theirs in zip(labels, known_labels, strict=False)
                if mine != theirs
            ),
            f"{len(labels)} where the run has {len(known_labels)}",
        )
        yield (
            f"the labels of model.keras are not those of resolved.yaml ({place}); the files are of "
            "different runs"
        )


def find_non_finite_output(model: Classifier, waveform: np.ndarray) -> str | None:
    """Name of the first layer whose output is not finite; None: all are.

    Args:
        model: a classifier.
        waveform: float32 ``(samples,)``.
    """
    inputs = (keras.layers.InputLayer,)
    names = [
        layer.name
        for part in (model.backbone, model.head)
        for layer in part.layers
        if not isinstance(layer, inputs)
    ]
    values: Mapping[str, Any] = model.compute_activations(
        waveform[np.newaxis], list(dict.fromkeys(["features", *names]))
    )
    for name, value in values.items():
        if not np.isfinite(np.asarray(keras.ops.convert_to_numpy(value), np.float64)).all():
            return model.front_end.name if name == "features" else name
    return None


def explain_conversion_error(error: Exception, name: str, model: Classifier) -> ExportError:
    """One readable sentence of what a converter said: the operator, and the layer it is in.

    Args:
        error: what was raised.
        name: of the format.
        model: what was converted.
    """
    if isinstance(error, EscTfError):
        return ExportError([f"{name}: {problem}" for problem in error.problems])
    text = str(error)
    found = [(match["operator"], match["place"]) for match in _MISSING_KERNEL.finditer(text)]
    if not found:
        operators = [
            operator
            for match in _MISSING_KERNELS.finditer(text)
            for operator in match["operators"].split(", ")
        ]
        found = [(operator, "") for operator in operators]
    if not found:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        reason = (lines[0] if lines else "no reason given")[:400]
        return ExportError(f"{name}: cannot be made ({type(error).__name__}: {reason})")
    problems = []
    for operator, place in dict.fromkeys(found):
        layer = _find_layer(place, model)
        where = f"layer '{layer}' uses it" if layer else "it comes from no layer of the model"
        problems.append(
            f"{name}: TFLite has no operator {operator}; {where}, so build it of others, or leave "
            "this format out with --formats"
        )
    return ExportError(problems)


def _find_layer(place: str, model: Classifier) -> str | None:
    """The layer in an operator's path, of which Keras numbers the later calls: ``layer_1``."""
    parts = place.split("/")
    names = [layer.name for layer in list_layers(model)]
    # The longest first: 'dense_1' may be the second call of 'dense', or a layer of that name.
    for name in sorted(names, key=len, reverse=True):
        if any(part == name or re.fullmatch(rf"{re.escape(name)}_\d+", part) for part in parts):
            return name
    return None
