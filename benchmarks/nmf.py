"""NMF against scikit-learn's, on the same matrix in the same run: seconds and objective.

    python -m benchmarks.nmf [--bins F] [--frames T] [--rank K] [--divergence NAME]
        [--max-iterations N] [--peer-iterations N] [--seed S] [--json]

The matrix is planted: products of gamma-distributed factors, with gamma-distributed noise. Both get
it in float32 and start at random; scikit-learn runs with its own defaults but for the start and
the number of iterations: coordinate descent for ``euclidean``, multiplicative updates for the
others. Ours is timed with compilation, as it is on a first call. The objective is computed in
float64 from the factors that both return.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from sklearn.decomposition import NMF

from esc_tf.interpretation.divergences import DIVERGENCES, Divergence
from esc_tf.interpretation.nmf import factorize

PEER_LOSSES = {
    "euclidean": "frobenius",
    "kullback_leibler": "kullback-leibler",
    "itakura_saito": "itakura-saito",
}
_FRAMES_AT_ONCE = 2000


def plant_matrix(bins: int, num_frames: int, rank: int, seed: int) -> np.ndarray:
    """Noisy product of sparse factors, ``(bins, frames)``, float32, positive."""
    rng = np.random.default_rng(seed)
    patterns = rng.gamma(0.3, 1.0, (bins, rank)).astype(np.float32)
    activations = rng.gamma(0.3, 1.0, (rank, num_frames)).astype(np.float32)
    noise = rng.gamma(10.0, 0.1, (bins, num_frames)).astype(np.float32)
    return patterns @ activations * noise + np.float32(1e-4)


def compute_objective(
    spectrogram: np.ndarray, patterns: np.ndarray, activations: np.ndarray, divergence: str
) -> float:
    """Sum of the divergence in float64, some frames at a time."""
    total = 0.0
    for first in range(0, spectrogram.shape[1], _FRAMES_AT_ONCE):
        some = slice(first, first + _FRAMES_AT_ONCE)
        v = spectrogram[:, some].astype(np.float64)
        x = patterns.astype(np.float64) @ activations[:, some].astype(np.float64)
        if divergence == "euclidean":
            total += 0.5 * float(np.square(v - x).sum())
            continue
        x = np.maximum(x, np.finfo(np.float32).tiny)
        if divergence == "kullback_leibler":
            total += float((v * np.log(v / x) - v + x).sum())
        else:
            total += float((v / x - np.log(v / x) - 1.0).sum())
    return total


def measure(
    spectrogram: np.ndarray,
    rank: int,
    divergence: Divergence,
    *,
    max_iterations: int,
    peer_iterations: int,
    seed: int,
) -> dict[str, Any]:
    """Run both, ours first, and compare."""

    def run_ours() -> tuple[np.ndarray, np.ndarray, int]:
        found = factorize(
            spectrogram, rank, divergence=divergence, max_iterations=max_iterations, seed=seed
        )
        return found.patterns, found.activations, found.num_iterations

    def run_peer() -> tuple[np.ndarray, np.ndarray, int]:
        solver = "cd" if divergence == "euclidean" else "mu"
        peer = NMF(
            rank,
            init="random",
            solver=solver,
            beta_loss=PEER_LOSSES[divergence],
            max_iter=peer_iterations,
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it stopped at its number of iterations
            patterns = peer.fit_transform(spectrogram)
        return patterns, peer.components_, peer.n_iter_

    def run(contestant: Callable[[], tuple[np.ndarray, np.ndarray, int]]) -> dict[str, Any]:
        start = time.perf_counter()
        patterns, activations, num_iterations = contestant()
        seconds = time.perf_counter() - start
        objective = compute_objective(spectrogram, patterns, activations, divergence)
        return {"seconds": seconds, "iterations": num_iterations, "objective": objective}

    ours, peer = run(run_ours), run(run_peer)
    return {
        "shape": list(spectrogram.shape),
        "rank": rank,
        "divergence": divergence,
        "load_average": round(os.getloadavg()[0], 2),
        "esc_tf": ours,
        "scikit_learn": peer,
        "time_ratio": ours["seconds"] / peer["seconds"],
        "objective_ratio": ours["objective"] / peer["objective"],
    }


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.nmf", description=__doc__)
    parser.add_argument("--bins", type=int, default=513)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--rank", type=int, default=100)
    parser.add_argument("--divergence", choices=DIVERGENCES, default="euclidean")
    parser.add_argument("--max-iterations", type=int, default=1000, help="of ours")
    parser.add_argument("--peer-iterations", type=int, default=200, help="of scikit-learn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    spectrogram = plant_matrix(arguments.bins, arguments.frames, arguments.rank, arguments.seed)
    result = measure(
        spectrogram,
        arguments.rank,
        arguments.divergence,
        max_iterations=arguments.max_iterations,
        peer_iterations=arguments.peer_iterations,
        seed=arguments.seed,
    )
    if arguments.json:
        print(json.dumps(result))
        return 0
    print(f"{arguments.bins} × {arguments.frames}, rank {arguments.rank}, {arguments.divergence}")
    for name in ("esc_tf", "scikit_learn"):
        row = result[name]
        print(
            f"{name:13} {row['seconds']:9.2f} s {row['iterations']:5} iterations, "
            f"objective {row['objective']:.6g}"
        )
    print(
        f"ours / theirs: time {result['time_ratio']:.3f}, objective {result['objective_ratio']:.4f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
