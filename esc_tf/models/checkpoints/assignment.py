"""Put the tensors of a checkpoint into a model: everything fits exactly, or nothing is changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from esc_tf.errors import CheckpointError
from esc_tf.models.checkpoints.rules import Rules

# More names than this do not help to see what differs.
_MOST_NAMES = 12


@dataclass(frozen=True)
class ImportReport:
    """What became of every tensor and of every weight.

    Attributes:
        used: tensor → the weight ``LAYER/VARIABLE`` that it fills.
        ignored: tensor → why it is not needed.
        kept: weight → why it keeps the value it had.
        num_parameters: values that were put into the model.
    """

    used: dict[str, str]
    ignored: dict[str, str]
    kept: dict[str, str]
    num_parameters: int

    def count_reasons(self) -> dict[str, int]:
        """Reason → number of ignored tensors, in the order of the tensors."""
        return dict(Counter(self.ignored.values()))


def assign_weights(
    model: keras.Model, tensors: Mapping[str, np.ndarray], rules: Rules
) -> ImportReport:
    """Fill the weights of ``model`` with ``tensors``, each exactly once.

    Args:
        model: a classifier or a backbone of this package.
        tensors: name in the checkpoint → values in the layout of the original.
        rules: the table for this model, e.g. of ``efficientat_rules(model)``.

    Returns:
        What was used, ignored and kept.

    Raises:
        CheckpointError: a tensor has no place, a weight no tensor, a shape differs, values are not
            finite, or a tensor that must agree with a constant of the model does not. Both sides
            are listed, and the model is as it was.
        ValueError: the table itself fills a weight twice or uses a tensor twice.
    """
    weights = find_weights(model)
    _check_table(rules)
    problems: list[str] = []
    ready: dict[str, np.ndarray] = {}
    used: dict[str, str] = {}
    shapes, missing, homeless = [], [], []
    for fill in rules.fills:
        if fill.source not in tensors:
            missing.append(fill.source + _place(fill.target, weights))
            continue
        tensor = np.asarray(tensors[fill.source])
        if fill.target not in weights:
            homeless.append(f"{fill.source} {tensor.shape}")
            continue
        used[fill.source] = fill.target
        arranged = fill.arrange(tensor)
        shape = tuple(weights[fill.target].shape)
        if arranged is None or arranged.shape != shape:
            shapes.append(
                f"{fill.source} is {tensor.shape}, {fill.target} takes {fill.expect_shape(shape)}"
            )
            continue
        problems.extend(_find_bad_values(fill.source, tensor))
        ready[fill.target] = arranged
    ignored: dict[str, str] = {}
    filled = {fill.source for fill in rules.fills}
    for name, tensor in tensors.items():
        if name in filled:
            continue
        ignore = rules.find_ignore(name)
        if ignore is None:
            homeless.append(f"{name} {np.shape(tensor)}")
            continue
        problem = ignore.check(name, tensor)
        if problem:
            problems.append(problem)
        ignored[name] = ignore.reason
    targets = {fill.target for fill in rules.fills}
    kept: dict[str, str] = {}
    empty = []
    for path, weight in weights.items():
        keep = rules.find_keep(path)
        if path in targets:
            continue
        if keep is None:
            empty.append(f"{path} {tuple(weight.shape)}")
        else:
            kept[path] = keep.reason
    problems = [
        *_list("missing in the checkpoint", missing),
        *_list("in the checkpoint without a place in the model", homeless),
        *_list("weights of the model without a tensor", empty),
        *_list("shapes that differ", shapes),
        *problems,
    ]
    if problems:
        raise CheckpointError(
            [f"the checkpoint does not fit {model.name}, and nothing was changed:", *problems]
        )
    for target, values in ready.items():
        weights[target].assign(values)
    return ImportReport(used, ignored, kept, sum(values.size for values in ready.values()))


def find_weights(model: keras.Model) -> dict[str, Any]:
    """``LAYER/VARIABLE`` → variable, of every layer, however deep.

    Random states of dropout layers are no weights and are left out.

    Raises:
        ValueError: two layers with weights have the same name.
    """
    found: dict[str, Any] = {}
    for weight in model.weights:
        path = "/".join(weight.path.split("/")[-2:])
        if path in found:
            raise ValueError(f"two weights of {model.name} are called {path}")
        found[path] = weight
    return found


def _check_table(rules: Rules) -> None:
    for side in ("source", "target"):
        counts = Counter(getattr(fill, side) for fill in rules.fills)
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise ValueError(f"the table has more than one row with {side} {', '.join(twice)}")


def _place(target: str, weights: Mapping[str, Any]) -> str:
    """Where a missing tensor belongs, if the model has such a place."""
    return f" ({target} {tuple(weights[target].shape)})" if target in weights else ""


def _find_bad_values(name: str, tensor: np.ndarray) -> Iterator[str]:
    if not np.issubdtype(tensor.dtype, np.floating):
        yield f"{name} holds {tensor.dtype}, not floating-point numbers"
        return
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite in it
        is_finite = np.isfinite(tensor.astype(np.float32)).all()
    if not is_finite:
        yield f"{name} holds values that are not finite; the checkpoint is damaged"


def _list(title: str, items: Sequence[str]) -> Iterator[str]:
    """One line, cut where it gets too long, or none."""
    if items:
        more = len(items) - _MOST_NAMES
        shown = "; ".join(items[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
        yield f"{title} ({len(items)}): {shown}"
