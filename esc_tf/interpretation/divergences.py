"""How far an estimate is from a spectrogram: the three divergences of audio factorisations."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from keras import ops

from esc_tf.errors import RequestError
from esc_tf.registry import suggest_name

Divergence = Literal["euclidean", "kullback_leibler", "itakura_saito"]
DIVERGENCES: tuple[Divergence, ...] = get_args(Divergence)

# The β of the β-divergence, with which the divergence grows by scale^β when the matrices do.
BETA: dict[str, int] = {"euclidean": 2, "kullback_leibler": 1, "itakura_saito": 0}


def compute_divergence(spectrogram: Any, estimate: Any, divergence: Divergence) -> Any:
    """Element by element divergence of an estimate, with 0 where both are equal.

    With v the spectrogram and x the estimate::

        euclidean         (v - x)² / 2
        kullback_leibler  v ln(v / x) - v + x
        itakura_saito     v / x - ln(v / x) - 1

    Args:
        spectrogram: non-negative tensor; positive for ``itakura_saito``.
        estimate: positive tensor of the same shape; zeros only for ``euclidean``.
        divergence: its name.

    Returns:
        Tensor of the same shape.

    Source: scikit-learn's ``NMF``, whose objective without penalties is the sum of these.

    >>> float(compute_divergence(np.float32(3.0), np.float32(1.0), "euclidean"))
    2.0
    """
    if divergence == "euclidean":
        return 0.5 * ops.square(spectrogram - estimate)
    if divergence == "kullback_leibler":
        # 0 ln 0 is 0: the smallest normal number keeps the logarithm finite, and its factor is 0.
        ratio = ops.maximum(spectrogram / estimate, float(np.finfo(np.float32).tiny))
        return spectrogram * ops.log(ratio) - spectrogram + estimate
    ratio = spectrogram / estimate
    return ratio - ops.log(ratio) - 1.0


def check_divergence(divergence: str) -> None:
    """Raise ``RequestError`` for a name that is none of the divergences."""
    if divergence not in DIVERGENCES:
        raise RequestError(
            f"unknown divergence '{divergence}'{suggest_name(divergence, DIVERGENCES)} "
            f"(known: {', '.join(DIVERGENCES)})"
        )


def check_nonnegative(matrix: np.ndarray, name: str) -> np.ndarray:
    """Return a float array of two axes whose values are finite, non-negative, not all zero.

    Args:
        matrix: the candidate; float64 stays, anything else becomes float32.
        name: what to call it in a message, e.g. ``"the spectrogram"``.

    Raises:
        RequestError: another number of axes, an empty axis, a NaN or infinity, a negative value,
            or nothing but zeros.
    """
    matrix = np.asarray(matrix)
    matrix = matrix.astype(np.float64 if matrix.dtype == np.float64 else np.float32, copy=False)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise RequestError(f"{name} must be a matrix with values, not of shape {matrix.shape}")
    for is_bad, problem in (
        (~np.isfinite(matrix), "not finite; leave out the clip or layer that they come from"),
        (matrix < 0, "negative; use powers or magnitudes, or rectify activations first"),
    ):
        if is_bad.any():
            row, column = np.argwhere(is_bad)[0]
            raise RequestError(
                f"{name} has {int(is_bad.sum())} values of {matrix.size} that are {problem} "
                f"(the first: {matrix[row, column]:g} in row {row}, column {column})"
            )
    if not matrix.any():
        raise RequestError(f"{name} is zero everywhere, as that of silence: nothing to factorise")
    return matrix


def check_spectrogram(spectrogram: np.ndarray, divergence: Divergence) -> np.ndarray:
    """``check_nonnegative``, and that Itakura-Saito gets no zeros, where it is infinite.

    Raises:
        RequestError: see ``check_nonnegative``; or zeros for ``itakura_saito``.
    """
    check_divergence(divergence)
    spectrogram = check_nonnegative(spectrogram, "the spectrogram")
    num_zeros = int((spectrogram == 0).sum())
    if divergence == "itakura_saito" and num_zeros:
        raise RequestError(
            f"the spectrogram has {num_zeros} zeros, where itakura_saito is infinite; add a floor "
            "such as 1e-10 of its maximum, or use kullback_leibler"
        )
    return spectrogram
