"""A student's embedding held against its teacher's, through a map that is trained along."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

_SMALLEST_DEVIATION = 1e-3


def standardize_embeddings(embeddings: np.ndarray) -> np.ndarray:
    """Each unit with mean 0 and variance 1 over all clips and views; dead units stay 0.

    Args:
        embeddings: ``(clips, views, units)``.

    Returns:
        float32 of the same shape.
    """
    values = embeddings.astype(np.float32)
    mean, deviation = values.mean(axis=(0, 1)), values.std(axis=(0, 1))
    smallest = _SMALLEST_DEVIATION * max(float(deviation.max()), np.finfo(np.float32).tiny)
    return np.where(deviation > smallest, (values - mean) / np.maximum(deviation, smallest), 0.0)


class EmbeddingMatch:
    """The mean squared difference between an affine map of an embedding and a teacher's.

    The map belongs to the training and not to the model; call it under the strategy's scope.

    Source: Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015.

    Args:
        num_units: of the student's embedding.
        num_taught: units of the teacher's.
    """

    def __init__(self, num_units: int, num_taught: int) -> None:
        self.num_taught = num_taught
        self._map = keras.layers.Dense(num_taught, dtype="float32", name="embedding_match")
        self._map.build((None, num_units))

    @property
    def variables(self) -> list[keras.Variable]:
        """What is trained along with the model."""
        return list(self._map.trainable_variables)

    def __call__(self, embedding: Any, taught: Any) -> Any:
        """Losses ``(batch,)`` float32.

        Args:
            embedding: the student's, ``(batch, units)``.
            taught: the teacher's, ``(batch, units of the teacher)``.
        """
        found = self._map(ops.cast(embedding, "float32"))
        return ops.mean(ops.square(found - ops.cast(taught, "float32")), axis=-1)


def build_embedding_match(model: keras.Model, num_taught: int) -> EmbeddingMatch | None:
    """The match for a classifier, or None where the teacher gives no embedding.

    Args:
        model: a built ``Classifier``.
        num_taught: units of the teacher's embedding, or 0.
    """
    if not num_taught:
        return None
    return EmbeddingMatch(model.backbone.output["embedding"].shape[-1], num_taught)
