"""Trains a spectral transform: what each hidden feature stands for, by gradient descent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from esc_tf.errors import RequestError
from esc_tf.interpretation.divergences import Divergence, check_spectrogram, compute_divergence
from esc_tf.interpretation.filter_history import FilterHistory
from esc_tf.interpretation.nmf import check_activations, learn_patterns
from esc_tf.interpretation.transforms import SpectralTransform

# Of the mean: keeps ratios and their gradients finite where nothing is estimated.
_FLOOR = 1e-4
_TINY = 1e-30
_PATTERN_ITERATIONS = 50


def compute_roughness(filters: Any) -> Any:
    """Mean squared difference of neighbouring bins of W ``(bins, rank)``; 0: flat columns.

    >>> float(compute_roughness(np.array([[0.0], [2.0], [2.0]])))
    2.0
    """
    return keras.ops.mean(keras.ops.square(filters[1:] - filters[:-1]))


def order_by_frequency(spectrogram: np.ndarray, activations: np.ndarray) -> list[int]:
    """Features from the lowest pattern to the highest, for a transform's ``order``.

    The pattern is that of NMF with these activations, and its height is the mean bin that it
    weighs. NMF leaves features without one whose part others explain as well; theirs is by how much
    the spectrogram is louder than on average while they fire. Features that never fire come last.

    Args:
        spectrogram: V, ``(bins, frames)``.
        activations: H, ``(rank, frames)``.

    Raises:
        RequestError: see ``learn_patterns``.
    """
    found = learn_patterns(spectrogram, activations, max_iterations=_PATTERN_ITERATIONS)
    louder = spectrogram @ activations.T / np.maximum(activations.sum(axis=1), _TINY)
    louder = np.maximum(louder - spectrogram.mean(axis=1, keepdims=True), 0.0)
    fires = activations.any(axis=1)
    patterns = np.where(found.patterns.any(axis=0), found.patterns, louder * fires)
    weight = patterns.sum(axis=0)
    moment = np.arange(len(patterns)) @ patterns
    heights = np.divide(moment, weight, out=np.full_like(moment, np.inf), where=weight > 0)
    return [int(feature) for feature in np.argsort(heights, kind="stable")]


def train_transform(
    transform: SpectralTransform,
    spectrogram: np.ndarray,
    activations: np.ndarray,
    *,
    divergence: Divergence = "euclidean",
    smoothness: float = 1e-3,
    epochs: int = 200,
    batch_frames: int = 256,
    learning_rate: float = 0.1,
    keep_every: int = 20,
    start_at_patterns: bool = False,
    seed: int = 0,
    on_epoch: Callable[[int, float], object] | None = None,
) -> FilterHistory:
    """Minimise reconstruction + smoothness · roughness of W, by Adam.

    Both terms are of a spectrogram and activations with a mean of 1, the roughness of columns
    that share its sum: neither depends on units, the clip's loudness or the number of features.
    The frames may be those of one clip, of a class or of a data set, one after the other; they
    may lie in memory-mapped files, of which a batch at a time is copied. The learning rate falls
    to 0 along a cosine. The filter of a feature that never fires tells nothing of it.

    Args:
        transform: trained in place.
        spectrogram: V, ``(bins, frames)``, non-negative.
        activations: H, ``(rank, frames)``, non-negative, at the same frames.
        divergence: of the reconstruction, a mean over bins and frames.
        smoothness: weight λ of ``compute_roughness``.
        epochs: passes over all frames.
        batch_frames: frames of an update.
        learning_rate: of Adam, at the start.
        keep_every: epochs between two filters in the history.
        start_at_patterns: start near the patterns that ``learn_patterns`` finds, in a transform
            whose start matters (``start_near``), instead of the published start.
        seed: of the order of the frames.
        on_epoch: called with the number of each epoch, from 1, and its loss.

    Raises:
        RequestError: see ``learn_patterns``; the spectrogram has not the transform's bins; a
            setting is out of range.
    """
    spectrogram = check_spectrogram(spectrogram, divergence)
    activations = check_activations(activations, spectrogram)
    if len(spectrogram) != len(transform.frequencies_hz):
        raise RequestError(
            f"the spectrogram has {len(spectrogram)} bins and the transform "
            f"{len(transform.frequencies_hz)} frequencies"
        )
    if min(epochs, batch_frames, keep_every) < 1:
        raise RequestError("epochs, batch_frames and keep_every must be 1 or more")
    if not (smoothness >= 0 and learning_rate > 0):
        raise RequestError("smoothness must be 0 or more and learning_rate more than 0")
    rank, num_frames = activations.shape
    if not transform.built:
        transform.build((None, rank))
    if transform.input_scale.shape[0] != rank:
        raise RequestError(
            f"the transform was built for {transform.input_scale.shape[0]} features, not {rank}"
        )
    loudness = activations.mean(axis=1, dtype=np.float64)
    alive = loudness > 0
    transform.set_scales(
        np.where(alive, loudness, 1.0) * alive.sum(), float(spectrogram.mean(dtype=np.float64))
    )
    num_batches = -(-num_frames // batch_frames)
    if start_at_patterns:
        patterns = learn_patterns(
            spectrogram, activations, divergence=divergence, max_iterations=_PATTERN_ITERATIONS
        ).patterns
        scale = np.asarray(transform.input_scale) / float(transform.output_scale)
        transform.start_near(patterns.astype(np.float64) * scale)
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * num_batches)
    step = _compile_step(transform, keras.optimizers.Adam(schedule), divergence, smoothness)
    rng = np.random.default_rng(seed)
    losses: list[float] = []
    kept = {0: transform.filters}
    for epoch in range(1, epochs + 1):
        batches = np.array_split(rng.permutation(num_frames), num_batches)
        total = 0.0
        for batch in batches:
            rows = np.sort(batch)  # reads files in one direction
            total += float(step(activations[:, rows].T, spectrogram[:, rows].T)) * len(rows)
        losses.append(total / num_frames)
        if epoch % keep_every == 0 or epoch == epochs:
            kept[epoch] = transform.filters
        if on_epoch is not None:
            on_epoch(epoch, losses[-1])
    return FilterHistory(np.asarray(losses), np.asarray(list(kept)), np.stack(list(kept.values())))


def _compile_step(
    transform: SpectralTransform, optimizer: Any, divergence: Divergence, smoothness: float
) -> Callable[[np.ndarray, np.ndarray], Any]:
    """One update on ``(frames, rank)`` and ``(frames, bins)``; returns the loss before it."""
    optimizer.build(transform.trainable_variables)

    @tf.function(reduce_retracing=True)
    def step(activations: Any, spectrogram: Any) -> Any:
        with tf.GradientTape() as tape:
            scale = transform.output_scale
            target = tf.maximum(spectrogram / scale, _FLOOR)
            estimate = tf.maximum(transform(activations) / scale, _FLOOR)
            loss = tf.reduce_mean(compute_divergence(target, estimate, divergence))
            loss += smoothness * compute_roughness(transform.compute_scaled_filters())
        variables = transform.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    def step_on(activations: np.ndarray, spectrogram: np.ndarray) -> Any:
        return step(tf.constant(activations, tf.float32), tf.constant(spectrogram, tf.float32))

    return step_on
