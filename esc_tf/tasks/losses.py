"""Losses of classifiers, one value for each clip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from esc_tf.config import RecipeConfig
from esc_tf.registry import look_up

Loss = Callable[[Any, Any], Any]


def categorical_crossentropy(labels: Any, logits: Any) -> Any:
    """``-sum_c labels_c log softmax(logits)_c`` of each clip.

    Args:
        labels: ``(batch, classes)``, each row a distribution.
        logits: ``(batch, classes)``.

    Returns:
        ``(batch,)`` float32, in nats.
    """
    return -ops.sum(labels * ops.log_softmax(logits, axis=-1), axis=-1)


def binary_crossentropy(labels: Any, logits: Any) -> Any:
    """Mean over classes of ``-y log sigmoid(z) - (1 - y) log(1 - sigmoid(z))`` of each clip.

    Args:
        labels: ``(batch, classes)``, each value between 0 and 1.
        logits: ``(batch, classes)``.

    Returns:
        ``(batch,)`` float32, in nats.
    """
    # Never the logarithm of a rounded 0: softplus(z) = -log(1 - sigmoid(z)).
    return ops.mean(ops.softplus(logits) - labels * logits, axis=-1)


LOSSES: dict[str, Loss] = {
    "categorical_crossentropy": categorical_crossentropy,
    "binary_crossentropy": binary_crossentropy,
}


def build_loss(recipe: RecipeConfig) -> Loss:
    """Build the loss that a recipe names, with its label smoothing ``s``.

    Labels become ``(1 - s) labels + s u``, with ``u = 1 / classes`` for categorical and ``1 / 2``
    for binary cross-entropy.

    Returns:
        A function (labels ``(batch, classes)``, logits ``(batch, classes)``) → ``(batch,)``
        float32.
    """
    loss = look_up(LOSSES, recipe.loss, "loss")
    smoothing, binary = recipe.label_smoothing, recipe.loss == "binary_crossentropy"

    def compute_loss(labels: Any, logits: Any) -> Any:
        labels, logits = ops.cast(labels, "float32"), ops.cast(logits, "float32")
        if smoothing:
            uniform = 0.5 if binary else 1.0 / labels.shape[-1]
            labels = (1.0 - smoothing) * labels + smoothing * uniform
        return loss(labels, logits)

    return compute_loss


def soften(logits: Any, loss: str, temperature: float) -> Any:
    """Probabilities from logits divided by a temperature.

    Args:
        logits: ``(batch, classes)``.
        loss: a recipe's: ``categorical_crossentropy`` makes distributions over the classes,
            ``binary_crossentropy`` independent probabilities.
        temperature: above 1 flattens, below sharpens.

    Returns:
        Float32 of the same shape.
    """
    logits = ops.cast(logits, "float32") / temperature
    return ops.sigmoid(logits) if loss == "binary_crossentropy" else ops.softmax(logits, axis=-1)


def build_teacher_loss(recipe: RecipeConfig) -> Loss:
    """Build the loss of a student against its teacher, for ``recipe.distillation``.

    With softmax ``T^2 KL(teacher || student)``, which is 0 where both agree; with sigmoid ``T^2``
    times the binary cross-entropy. ``T^2`` keeps gradients at their size whatever the temperature
    (Hinton et al. 2015).

    Returns:
        A function (the teacher's probabilities as ``soften`` makes them, mixed or not,
        ``(batch, classes)``; the student's logits ``(batch, classes)``) → ``(batch,)`` float32.

    Raises:
        ValueError: the recipe has no distillation.
    """
    if recipe.distillation is None:
        raise ValueError("recipe.distillation is null")
    temperature = recipe.distillation.temperature
    binary = recipe.loss == "binary_crossentropy"

    def compute_loss(taught: Any, logits: Any) -> Any:
        taught, logits = ops.cast(taught, "float32"), ops.cast(logits, "float32") / temperature
        if binary:
            return temperature**2 * binary_crossentropy(taught, logits)
        # A probability of 0 adds nothing, whatever its logarithm.
        known = ops.log(ops.maximum(taught, 1e-30))
        divergence = taught * (known - ops.log_softmax(logits, axis=-1))
        return temperature**2 * ops.sum(divergence, axis=-1)

    return compute_loss
