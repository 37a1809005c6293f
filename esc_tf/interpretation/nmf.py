"""Non-negative matrix factorisation V ≈ W H, with H given by a network or learnt too."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from esc_tf.errors import RequestError
from esc_tf.interpretation.divergences import (
    BETA,
    Divergence,
    check_nonnegative,
    check_spectrogram,
    compute_divergence,
)

# Keeps divisions finite. V has a mean of 1 inside, and even its maximum divided by the square of
# this is a float32.
_TINY = 1e-14
# The products with V are most of a Euclidean iteration, and one of them serves for several updates
# of a factor (Gillis and Glineur 2012).
_EUCLIDEAN_REPEATS = 2


@dataclass(frozen=True)
class Factorization:
    """What a factorisation found.

    Args:
        patterns: W, ``(bins, rank)``; the sum of each column is 1 where H was learnt too, and the
            column of a feature that never fires is 0.
        activations: H, ``(rank, frames)``.
        objectives: the objective at the start and after each block of iterations, never rising
            but by rounding.
        num_iterations: updates of each factor that were done.
    """

    patterns: np.ndarray
    activations: np.ndarray
    objectives: tuple[float, ...]
    num_iterations: int


def factorize(
    spectrogram: np.ndarray,
    rank: int,
    *,
    divergence: Divergence = "euclidean",
    sparsity: float = 0.0,
    max_iterations: int = 400,
    tolerance: float = 1e-5,
    check_every: int = 10,
    seed: int = 0,
) -> Factorization:
    """Learn both factors: the plain NMF of a spectrogram, or the sparse one.

    Minimises D(V | W H) + sparsity · ‖H‖₁ with non-negative factors, and columns of W that sum
    to 1 (without which the penalty could be escaped by making W larger). D is the sum of
    ``compute_divergence``. The start is random.

    Args:
        spectrogram: V, ``(bins, frames)``, non-negative; computed in float64 if it is that,
            otherwise in float32.
        rank: columns of W, at most the smaller side of V.
        divergence: D.
        sparsity: weight of the L1 norm of H; 0: none.
        max_iterations: updates of each factor at most.
        tolerance: stop when the objective falls by less than this share of itself per iteration.
        check_every: iterations between two looks at the objective.
        seed: of the start.

    Raises:
        RequestError: the spectrogram is negative, not finite, silent, or has zeros for
            Itakura-Saito; the rank is larger than the data allow; a setting is out of range.

    No update raises the objective. ``euclidean`` finds the best column of a factor exactly, one
    after the other; the others are multiplied by what provably lowers them.

    Source: Cichocki and Phan 2009 (column by column), Lee and Seung 2001, Févotte and Idier 2011
    (multiplicative), Gillis and Glineur 2012 (repeats). scikit-learn is the yardstick of the tests.

    >>> rng = np.random.default_rng(0)
    >>> spectrogram = rng.random((8, 2)) @ rng.random((2, 30))
    >>> found = factorize(spectrogram, 2, max_iterations=2000, tolerance=0.0)
    >>> bool(np.abs(found.patterns @ found.activations - spectrogram).max() < 1e-2)
    True
    """
    spectrogram = check_spectrogram(spectrogram, divergence)
    if not 1 <= rank <= min(spectrogram.shape):
        raise RequestError(
            f"rank {rank} must be from 1 to {min(spectrogram.shape)}, the smaller side of a "
            f"spectrogram of {spectrogram.shape[0]} bins and {spectrogram.shape[1]} frames"
        )
    if not (np.isfinite(sparsity) and sparsity >= 0):
        raise RequestError(f"sparsity {sparsity} must be a number of 0 or more")
    rng = np.random.default_rng(seed)
    w, h = (0.1 + rng.random((size, rank)) for size in spectrogram.shape)
    w /= w.sum(axis=0)
    h /= (w @ h.T).mean()
    found = _descend(
        spectrogram,
        _Factors(w.astype(spectrogram.dtype), h.T.astype(spectrogram.dtype)),
        _Problem(divergence, float(sparsity), is_h_fixed=False),
        _Schedule(max_iterations, tolerance, check_every),
    )
    sums = found.patterns.sum(axis=0)
    alive = sums > 0
    patterns = np.divide(found.patterns, sums, out=np.zeros_like(found.patterns), where=alive)
    return replace(found, patterns=patterns, activations=found.activations * sums[:, np.newaxis])


def learn_patterns(
    spectrogram: np.ndarray,
    activations: np.ndarray,
    *,
    divergence: Divergence = "euclidean",
    max_iterations: int = 400,
    tolerance: float = 1e-5,
    check_every: int = 10,
) -> Factorization:
    """Learn W alone: the spectral pattern that each feature of a network stands for.

    Minimises D(V | W H) over non-negative W. The problem is convex in W for ``euclidean`` and
    ``kullback_leibler``, and the start is the same for all features, so nothing is random.

    Args:
        spectrogram: V, ``(bins, frames)``, non-negative; its type is that of the computation.
        activations: H, ``(rank, frames)``, non-negative; taken as it is. A row of zeros gets a
            column of zeros.
        divergence: D.
        max_iterations: updates of W at most.
        tolerance: stop when the objective falls by less than this share of itself per iteration.
        check_every: iterations between two looks at the objective.

    Raises:
        RequestError: V or H is negative, not finite or zero everywhere; they differ in their
            frames; H has more features than frames, which leaves W undetermined; V has zeros for
            Itakura-Saito; a setting is out of range.

    Source: as ``factorize``.
    """
    spectrogram = check_spectrogram(spectrogram, divergence)
    activations = check_activations(activations, spectrogram)
    # Features of any unit start as equals, each explaining as much of V.
    level = activations.mean(axis=1, dtype=np.float64)
    alive = level > 0
    level[~alive] = 1.0
    level *= alive.sum()
    w = np.tile(alive.astype(spectrogram.dtype), (len(spectrogram), 1))
    h = (activations / level[:, np.newaxis]).astype(spectrogram.dtype)
    found = _descend(
        spectrogram,
        _Factors(w, h),
        _Problem(divergence, 0.0, is_h_fixed=True),
        _Schedule(max_iterations, tolerance, check_every),
    )
    patterns = (found.patterns / level).astype(spectrogram.dtype)
    return replace(found, patterns=patterns, activations=activations)


def check_activations(activations: np.ndarray, spectrogram: np.ndarray) -> np.ndarray:
    """Return H ``(rank, frames)`` if it can explain V ``(bins, frames)``.

    Raises:
        RequestError: see ``learn_patterns``.
    """
    activations = check_nonnegative(activations, "the matrix of activations")
    rank, num_frames = activations.shape
    if num_frames != spectrogram.shape[1]:
        raise RequestError(
            f"the activations have {num_frames} frames and the spectrogram "
            f"{spectrogram.shape[1]}; align both in time first"
        )
    if rank > num_frames:
        raise RequestError(
            f"{rank} features are more than {num_frames} frames, which leaves their patterns "
            "undetermined; take more or longer clips, or fewer features"
        )
    return activations


class _Factors(NamedTuple):
    w: Any
    h: Any


@dataclass(frozen=True)
class _Problem:
    divergence: Divergence
    sparsity: float
    is_h_fixed: bool


@dataclass(frozen=True)
class _Schedule:
    max_iterations: int
    tolerance: float
    check_every: int

    def __post_init__(self) -> None:
        if self.max_iterations < 1 or self.check_every < 1:
            raise RequestError("max_iterations and check_every must be 1 or more")
        if not self.tolerance >= 0:
            raise RequestError(f"tolerance {self.tolerance} must be 0 or more")


def _descend(
    spectrogram: np.ndarray, start: _Factors, problem: _Problem, schedule: _Schedule
) -> Factorization:
    """Update until the objective hardly falls; V and W H have a mean of 1 on the way."""
    dtype = spectrogram.dtype
    scale = spectrogram.mean(dtype=np.float64)
    v = tf.constant(spectrogram / dtype.type(scale))
    w, h = tf.constant(start.w), tf.constant(start.h.T)
    # Of the scaled problem: D shrinks by scale^β, the norm of H by scale.
    unit = float(scale ** BETA[problem.divergence])
    penalty = tf.constant(problem.sparsity * scale / unit, dtype=dtype)
    update, measure = _compile(problem.divergence, problem.is_h_fixed)
    objectives = [unit * float(measure(v, w, h, penalty))]
    done = 0
    while done < schedule.max_iterations:
        num_iterations = min(schedule.check_every, schedule.max_iterations - done)
        w, h = update(v, w, h, penalty, tf.constant(num_iterations))
        done += num_iterations
        objectives.append(unit * float(measure(v, w, h, penalty)))
        fall = objectives[-2] - objectives[-1]
        if fall < schedule.tolerance * num_iterations * objectives[-1]:
            break
    return Factorization(w.numpy() * dtype.type(scale), h.numpy().T, tuple(objectives), done)


@functools.lru_cache(maxsize=12)
def _compile(
    divergence: Divergence, is_h_fixed: bool
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The updates of a kind of problem, and its objective, compiled by XLA for each shape.

    Both take V ``(bins, frames)``, W ``(bins, rank)`` and the transpose of H ``(frames, rank)``,
    so that the two factors are treated alike, and the weight of the penalty
    Σ_k ‖w_k‖₁ ‖h_k‖₁: that of ‖H‖₁ if the columns of W sum to 1, wherever scale is put.
    """
    repeats = _EUCLIDEAN_REPEATS if divergence == "euclidean" else 1

    @tf.function(jit_compile=True)
    def update(v: Any, w: Any, h: Any, penalty: Any, num_iterations: Any) -> tuple[Any, Any]:
        if is_h_fixed:
            return _improve(v, w, h, penalty, divergence, num_iterations), h

        def iterate(w: Any, h: Any) -> tuple[Any, Any]:
            h = _improve(v, h, w, penalty, divergence, repeats, transposed=True)
            return _improve(v, w, h, penalty, divergence, repeats), h

        return tf.while_loop(lambda *_: True, iterate, (w, h), maximum_iterations=num_iterations)

    @tf.function(jit_compile=True)
    def measure(v: Any, w: Any, h: Any, penalty: Any) -> Any:
        estimate = tf.maximum(tf.matmul(w, h, transpose_b=True), _TINY)
        # Millions of terms are summed in float64, where rounding cannot pass for a rise.
        total = tf.reduce_sum(tf.cast(compute_divergence(v, estimate, divergence), tf.float64))
        norms = tf.reduce_sum(tf.reduce_sum(w, axis=0) * tf.reduce_sum(h, axis=0))
        return total + tf.cast(penalty * norms, tf.float64)

    return update, measure


def _improve(
    v: Any,
    factor: Any,
    other: Any,
    penalty: Any,
    divergence: Divergence,
    repeats: Any,
    *,
    transposed: bool = False,
) -> Any:
    """Updates of a factor of V ≈ factor · otherᵀ, or of its transpose; the objective cannot rise.

    Multiplicative ones minimise a function that lies above the objective and touches it at the
    present factor; the linear penalty goes into the denominator.
    """
    if divergence == "euclidean":
        return _improve_columns(v, factor, other, penalty, repeats, transposed)
    sums = tf.reduce_sum(other, axis=0)

    def project(matrix: Any) -> Any:
        return tf.matmul(matrix, other, transpose_a=transposed)

    def step(factor: Any) -> tuple[Any]:
        pair = (other, factor) if transposed else (factor, other)
        estimate = tf.maximum(tf.matmul(*pair, transpose_b=True), _TINY)
        if divergence == "kullback_leibler":
            denominator = (1.0 + penalty) * sums
            return (factor * project(v / estimate) / tf.maximum(denominator, _TINY),)
        inverse = 1.0 / estimate
        denominator = project(inverse) + penalty * sums
        gain = project(v * tf.square(inverse)) / tf.maximum(denominator, _TINY)
        return (factor * tf.sqrt(gain),)

    return tf.while_loop(lambda _: True, step, (factor,), maximum_iterations=repeats)[0]


def _improve_columns(
    v: Any, factor: Any, other: Any, penalty: Any, repeats: Any, transposed: bool
) -> Any:
    """Give each column of a factor its best values, one after the other, ``repeats`` times over.

    With the other columns held, the Euclidean objective is a parabola in each value of a column:
    its lowest non-negative point is known.
    """
    rank = factor.shape[1]
    # Columns as rows, which lie together in memory.
    aim = tf.matmul(other, v, transpose_a=True, transpose_b=not transposed)
    aim -= penalty * tf.reduce_sum(other, axis=0)[:, tf.newaxis]
    gram = tf.matmul(other, other, transpose_a=True)

    def step(count: Any, rows: Any) -> tuple[Any, Any]:
        k = count % rank
        weights = tf.gather(gram, k)
        missing = tf.gather(aim, k) - tf.linalg.matvec(rows, weights, transpose_a=True)
        row = tf.gather(rows, k) + missing / tf.maximum(weights[k], _TINY)
        return count + 1, tf.tensor_scatter_nd_update(rows, [[k]], [tf.maximum(row, 0.0)])

    last = repeats * rank
    start = (tf.constant(0), tf.transpose(factor))
    return tf.transpose(tf.while_loop(lambda count, _: count < last, step, start)[1])
