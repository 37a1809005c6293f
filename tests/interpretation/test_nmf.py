"""NMF against scikit-learn's, planted factors, and its own promises."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from sklearn.decomposition import NMF

from benchmarks import nmf as benchmark
from esc_tf.errors import RequestError
from esc_tf.interpretation.divergences import DIVERGENCES, compute_divergence
from esc_tf.interpretation.nmf import Factorization, factorize, learn_patterns

LOSSES = {
    "euclidean": "frobenius",
    "kullback_leibler": "kullback-leibler",
    "itakura_saito": "itakura-saito",
}
BINS, FRAMES, RANK = 24, 90, 4


def plant(seed: int = 0, noise: float = 0.05) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """V with multiplicative noise, and the W and H that it is made of; float64."""
    rng = np.random.default_rng(seed)
    patterns = rng.gamma(0.3, 1.0, (BINS, RANK)) + 1e-3
    activations = rng.gamma(0.3, 1.0, (RANK, FRAMES)) + 1e-3
    gains = rng.gamma(1.0 / noise**2, noise**2, (BINS, FRAMES))
    return patterns @ activations * gains, patterns, activations


def correlate(found: np.ndarray, planted: np.ndarray) -> np.ndarray:
    """Correlation of each planted column with the found column most like it."""
    size = planted.shape[1]
    return np.corrcoef(found.T, planted.T)[:size, size:].max(axis=0)


def measure(spectrogram: np.ndarray, found: Factorization, divergence: str) -> float:
    """The objective written out in float64."""
    v, x = spectrogram, found.patterns @ found.activations
    if divergence == "euclidean":
        return float(((v - x) ** 2).sum() / 2)
    if divergence == "kullback_leibler":
        return float((v * np.log(v / x) - v + x).sum())
    return float((v / x - np.log(v / x) - 1).sum())


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("sparsity", [0.0, 0.2])
def test_the_objective_never_rises(divergence, sparsity) -> None:
    spectrogram, _, _ = plant()
    found = factorize(
        spectrogram,
        RANK,
        divergence=divergence,
        sparsity=sparsity,
        max_iterations=150,
        tolerance=0.0,
        check_every=1,
    )
    steps = np.diff(found.objectives)
    assert len(steps) == found.num_iterations == 150
    assert (steps <= 1e-12 * found.objectives[0]).all()  # rounding of float64
    assert steps[0] < 0
    penalty = sparsity * found.activations.sum()
    expected = measure(spectrogram, found, divergence) + penalty
    assert found.objectives[-1] == pytest.approx(expected, rel=1e-9)
    assert found.patterns.min() >= 0 and found.activations.min() >= 0
    np.testing.assert_allclose(found.patterns.sum(axis=0), 1.0, rtol=1e-9)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_as_good_as_scikit_learn(divergence) -> None:
    # The best of three random starts each: either may get stuck in a bad one.
    spectrogram, _, _ = plant()
    ours, theirs = [], []
    for seed in range(3):
        found = factorize(
            spectrogram,
            RANK,
            divergence=divergence,
            max_iterations=2000,
            tolerance=0.0,
            check_every=500,
            seed=seed,
        )
        ours.append(measure(spectrogram, found, divergence))
        peer = NMF(
            RANK,
            init="random",
            solver="mu",
            beta_loss=LOSSES[divergence],
            max_iter=2000,
            tol=0.0,
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged
            patterns = peer.fit_transform(spectrogram)
        factors = Factorization(patterns, peer.components_, (), 0)
        theirs.append(measure(spectrogram, factors, divergence))
    assert min(ours) <= 1.01 * min(theirs)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_planted_patterns_come_back(divergence) -> None:
    spectrogram, patterns, activations = plant()
    learnt = learn_patterns(spectrogram, activations, divergence=divergence, max_iterations=1000)
    # Column by column: with H given, order and scale are given too.
    own = np.diag(np.corrcoef(learnt.patterns.T, patterns.T)[:RANK, RANK:])
    assert own.min() >= 0.95
    np.testing.assert_allclose(learnt.patterns.sum(axis=0), patterns.sum(axis=0), rtol=0.1)
    np.testing.assert_array_equal(learnt.activations, activations)
    plain = factorize(spectrogram, RANK, divergence=divergence, max_iterations=2000, tolerance=1e-7)
    assert correlate(plain.patterns, patterns).min() >= 0.95


def test_given_activations_of_any_unit() -> None:
    spectrogram, _, activations = plant()
    units = np.array([1e-6, 1.0, 30.0, 1e5])[:, np.newaxis]
    once = learn_patterns(spectrogram, activations)
    again = learn_patterns(1e4 * spectrogram, units * activations)
    np.testing.assert_allclose(again.patterns * units.T, 1e4 * once.patterns, rtol=1e-6, atol=1e-9)
    assert again.objectives[-1] == pytest.approx(1e8 * once.objectives[-1], rel=1e-9)


def test_euclidean_patterns_are_the_non_negative_least_squares() -> None:
    from scipy.optimize import nnls

    spectrogram, _, activations = plant()
    found = learn_patterns(spectrogram, activations, max_iterations=5000, tolerance=0.0)
    expected = np.stack([nnls(activations.T, row)[0] for row in spectrogram])
    scale = expected.max()
    np.testing.assert_allclose(found.patterns / scale, expected / scale, rtol=0.0, atol=1e-4)


def test_a_dead_feature_and_silent_frames() -> None:
    spectrogram, _, activations = plant()
    spectrogram[:, 10:20] = 0.0
    activations[2] = 0.0
    for divergence in ("euclidean", "kullback_leibler"):
        learnt = learn_patterns(spectrogram, activations, divergence=divergence)
        assert np.isfinite(learnt.patterns).all() and np.isfinite(learnt.objectives).all()
        assert not learnt.patterns[:, 2].any() and learnt.patterns[:, [0, 1, 3]].any()
        plain = factorize(spectrogram, RANK, divergence=divergence)
        assert np.isfinite(plain.patterns).all() and np.isfinite(plain.objectives).all()
        silent = (plain.patterns @ plain.activations)[:, 10:20]
        assert silent.max() < 1e-3 * spectrogram.max()


def test_sparsity_takes_activations_away() -> None:
    spectrogram, _, _ = plant()
    norms = [
        factorize(spectrogram, RANK, sparsity=sparsity).activations.sum()
        for sparsity in (0.0, 0.05, 0.2)
    ]
    assert norms[0] > 1.001 * norms[1] > norms[2]


def test_float32_and_repeatable() -> None:
    spectrogram = plant()[0].astype(np.float32)
    settings = {"max_iterations": 300, "tolerance": 0.0}
    found, again = (factorize(spectrogram, RANK, **settings) for _ in range(2))
    assert found.patterns.dtype == found.activations.dtype == np.float32
    np.testing.assert_array_equal(found.patterns, again.patterns)
    exact = factorize(spectrogram.astype(np.float64), RANK, **settings)
    assert found.objectives[-1] == pytest.approx(exact.objectives[-1], rel=1e-2)
    assert (factorize(spectrogram, RANK, seed=1).patterns != found.patterns).any()


def test_stops_when_it_hardly_falls() -> None:
    spectrogram, _, _ = plant()
    found = factorize(spectrogram, RANK, max_iterations=5000, tolerance=1e-4)
    assert found.num_iterations < 1000
    last, before = found.objectives[-1], found.objectives[-2]
    assert before - last < 1e-4 * 10 * last


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_no_divergence_of_equals(divergence) -> None:
    values = np.array([0.5, 1.0, 7.0], np.float32)
    np.testing.assert_allclose(compute_divergence(values, values, divergence), 0.0, atol=1e-6)
    assert (np.asarray(compute_divergence(values, values + 0.5, divergence)) > 1e-3).all()


def damage(value: float) -> np.ndarray:
    spectrogram, _, _ = plant()
    spectrogram[3, 7] = value
    return spectrogram


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: factorize(damage(np.nan), 2), r"spectrogram has 1 .*not finite.*row 3, column 7"),
        (lambda: factorize(damage(-1.0), 2), r"spectrogram has 1 .*negative.*-1 in row 3"),
        (lambda: factorize(np.zeros((5, 6)), 2), "zero everywhere"),
        (lambda: factorize(np.zeros((5, 0)), 2), r"of shape \(5, 0\)"),
        (lambda: factorize(plant()[0], BINS + 1), f"rank {BINS + 1} must be from 1 to {BINS}"),
        (lambda: factorize(plant()[0], 0), "rank 0 must be"),
        (lambda: factorize(plant()[0], 2, sparsity=-1.0), "sparsity -1.0"),
        (lambda: factorize(plant()[0], 2, max_iterations=0), "max_iterations"),
        (lambda: factorize(plant()[0], 2, tolerance=float("nan")), "tolerance nan"),
        (lambda: factorize(plant()[0], 2, divergence="euklidean"), "did you mean 'euclidean'"),
        (lambda: factorize(damage(0.0), 2, divergence="itakura_saito"), "has 1 zeros"),
        (lambda: learn_patterns(plant()[0], -plant()[2]), "activations has 360 .*negative"),
        (lambda: learn_patterns(plant()[0], np.full((4, FRAMES), np.nan)), "not finite"),
        (lambda: learn_patterns(plant()[0], np.zeros((4, FRAMES))), "zero everywhere"),
        (lambda: learn_patterns(plant()[0], plant()[2][:, 1:]), "89 frames and the spectrogram 90"),
        (lambda: learn_patterns(plant()[0], np.ones((91, FRAMES))), "91 features are more than 90"),
    ],
)
def test_bad_input_is_told(call, message) -> None:
    with pytest.raises(RequestError, match=message):
        call()


def test_the_benchmark_measures_both_on_one_matrix(capsys) -> None:
    small = ["--bins", "20", "--frames", "60", "--rank", "3", "--max-iterations", "50"]
    assert benchmark.main([*small, "--divergence", "kullback_leibler", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["shape"] == [20, 60]
    assert result["esc_tf"]["iterations"] == 50 and result["scikit_learn"]["seconds"] > 0
    spectrogram = benchmark.plant_matrix(20, 60, 3, 0)
    found = factorize(spectrogram, 3, divergence="kullback_leibler", max_iterations=50)
    expected = measure(spectrogram.astype(np.float64), found, "kullback_leibler")
    assert result["esc_tf"]["objective"] == pytest.approx(expected, rel=1e-3)
