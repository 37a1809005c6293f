"""Features that tell classes apart: planted ones come back, with sign; against SciPy and sums."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from esc_tf.interpretation.discriminative import ClassDifferences, compare_classes, compare_groups

NAMES = ("cat", "dog", "rain")
CLIPS_OF_EACH, NUM_FEATURES = 16, 5


def plant() -> tuple[np.ndarray, list[str], list[int], list[str]]:
    """Feature 0 is louder in dogs, 1 softer in rain, 2 louder in cats of fold 1 and softer else."""
    rng = np.random.default_rng(3)
    labels = [name for name in NAMES for _ in range(CLIPS_OF_EACH)]
    folds = [1 + index % 4 for index in range(len(labels))]
    pooled = rng.gamma(4.0, 1.0, (len(labels), NUM_FEATURES))
    is_a = {name: np.array([label == name for label in labels]) for name in NAMES}
    pooled[is_a["dog"], 0] += 30.0
    pooled[is_a["rain"], 1] /= 100.0
    in_first = np.array(folds) == 1
    pooled[is_a["cat"] & in_first, 2] += 30.0
    pooled[is_a["cat"] & ~in_first, 2] /= 100.0
    return pooled, labels, folds, [f"recording {index}" for index in range(len(labels))]


@pytest.fixture(scope="module")
def found() -> ClassDifferences:
    pooled, labels, folds, sources = plant()
    return compare_classes(pooled, labels, ("dog", "rain", "cat", "unheard"), folds, sources)


def test_planted_features_come_back_with_their_sign(found: ClassDifferences) -> None:
    assert (found.classes, found.folds) == (("dog", "rain", "cat"), (1, 2, 3, 4))
    dog, rain, cat = range(3)
    assert found.effect[dog, 0] == 1.0 and found.effect[rain, 1] == -1.0
    assert found.adjusted_p[dog, 0] < 1e-6 and found.adjusted_p[rain, 1] < 1e-6
    assert found.consistent[dog, 0] == 1 and found.consistent[rain, 1] == 1
    # Of another sign in one fold: significant over all, but not to be relied on.
    assert found.fold_effect[cat, :, 2].tolist() == [1.0, -1.0, -1.0, -1.0]
    assert found.consistent[cat, 2] == 0
    # Features 3 and 4 tell nothing.
    assert found.adjusted_p[:, 3:].min() > 0.05


def test_numbers_are_scipys_and_those_of_counting_pairs(found: ClassDifferences) -> None:
    pooled, labels, folds, _ = plant()
    is_rain = np.array(labels) == "rain"
    for feature in range(NUM_FEATURES):
        inside, outside = pooled[is_rain, feature], pooled[~is_rain, feature]
        pairs = np.sign(inside[:, np.newaxis] - outside).mean()
        assert found.effect[1, feature] == pytest.approx(pairs, abs=1e-12)
        p_value = stats.mannwhitneyu(inside, outside, method="asymptotic").pvalue
        assert found.p_value[1, feature] == pytest.approx(p_value, rel=1e-9)
    # Benjamini and Hochberg: the smallest of p · n / rank of this or any larger p.
    ordered = np.sort(found.p_value, axis=None)
    scaled = ordered * ordered.size / np.arange(1, ordered.size + 1)
    wanted = np.minimum.accumulate(scaled[::-1])[::-1]
    np.testing.assert_allclose(np.sort(found.adjusted_p, axis=None), wanted, rtol=1e-12)


def test_units_do_not_matter(found: ClassDifferences) -> None:
    pooled, labels, folds, sources = plant()
    other = compare_classes(pooled * 1e-6, labels, found.classes, folds, sources)
    np.testing.assert_array_equal(other.effect, found.effect)


def test_clips_of_one_recording_count_once() -> None:
    pooled, labels, folds, sources = plant()
    tenfold = [np.repeat(values, 10, axis=0) for values in (pooled, labels, folds, sources)]
    once = compare_classes(pooled, labels, NAMES, folds, sources)
    many = compare_classes(tenfold[0], *(values.tolist() for values in tenfold[1:2]), NAMES,
                           tenfold[2].tolist(), tenfold[3].tolist())  # fmt: skip
    np.testing.assert_allclose(many.p_value, once.p_value, rtol=1e-12)


def test_a_feature_that_never_fires_tells_nothing() -> None:
    effect, p_value = compare_groups(np.zeros((4, 2)), np.array([[0.0, 1.0]] * 5))
    assert effect.tolist() == [0.0, -1.0]
    assert p_value[0] == 1.0 and p_value[1] < 0.05


def test_one_class_or_one_fold() -> None:
    pooled, labels, _, sources = plant()
    alone = compare_classes(pooled, ["dog"] * len(labels), NAMES, [1] * len(labels), sources)
    assert alone.classes == () and alone.describe()["effect"] == []
    one_fold = compare_classes(pooled, labels, NAMES, [4] * len(labels), sources)
    assert np.isnan(one_fold.consistent).all()
    assert one_fold.describe()["consistent"][0][0] is None


def test_described_for_json(found: ClassDifferences) -> None:
    facts = json.loads(json.dumps(found.describe(), allow_nan=False))
    assert np.shape(facts["fold_effect"]) == (3, 4, NUM_FEATURES)
    np.testing.assert_allclose(facts["adjusted_p"], found.adjusted_p, rtol=1e-5)
    assert facts["consistent"][0][0] is True and facts["consistent"][2][2] is False
