"""Scores of a reading: known answers, independent computations, and the judgement of a layer."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import r2_score

from esc_tf.interpretation.scores import (
    ClipGroups,
    Discriminability,
    FitScores,
    PatternScores,
    ScoreRow,
    average_rows,
    compute_shares,
    score_classes,
    score_fit,
    score_patterns,
)
from esc_tf.interpretation.verdict import judge_layer


def test_fit_is_that_of_scikit_learn_and_of_known_answers() -> None:
    rng = np.random.default_rng(0)
    filters, activations = rng.random((12, 3)), rng.random((3, 50))
    whole = filters @ activations
    assert score_fit(whole, filters, activations).error == 0.0
    assert score_fit(whole, 0 * filters, activations).error == 1.0
    noisy = whole + rng.normal(0.0, 0.2, whole.shape)
    found = score_fit(noisy, filters, activations)
    explained = r2_score(noisy.T, whole.T, multioutput="variance_weighted")
    assert found.variance_explained == pytest.approx(explained, abs=1e-12)
    wanted = np.linalg.norm(noisy - whole, "fro") / np.linalg.norm(noisy, "fro")
    assert found.error == pytest.approx(wanted, rel=1e-12)
    mean = score_fit(noisy, noisy.mean(axis=1, keepdims=True), np.ones((1, 50)))
    assert mean.variance_explained == pytest.approx(0.0, abs=1e-12)


def test_patterns_at_the_ends_of_their_scales() -> None:
    flat, single = np.ones((16, 2)), np.eye(16)[:, :2]
    assert score_patterns(flat) == PatternScores(0.0, 0.0, 2)
    found = score_patterns(single)
    assert found.sparsity == pytest.approx(1.0)
    # Bin 0: one step of 16 among 15; bin 1: two.
    assert found.roughness == pytest.approx((16**2 + 2 * 16**2) / 30)
    with_silent = np.concatenate([single * [3.0, 0.01], np.zeros((16, 3))], axis=1)
    other = score_patterns(with_silent)
    assert other.num_features == 2
    assert other.roughness == pytest.approx(found.roughness)
    assert score_patterns(np.zeros((16, 3))) == PatternScores(0.0, 0.0, 0)


def test_shares_are_those_of_the_rebuilt_spectrograms() -> None:
    rng = np.random.default_rng(1)
    filters, h = rng.random((6, 3)), rng.random((4, 3, 20))
    energies = np.stack(
        [(filters[:, [k]] * h[:, np.newaxis, k]).sum(axis=(1, 2)) for k in range(3)]
    )
    wanted = (energies / energies.sum(axis=0)).T
    np.testing.assert_allclose(compute_shares(filters, h.mean(axis=2)), wanted, rtol=1e-12)
    assert not compute_shares(np.zeros((6, 3)), h.mean(axis=2)).any()


def draw_shares(separation: float) -> tuple[np.ndarray, list[str], list[int], list[str]]:
    rng = np.random.default_rng(2)
    labels = [name for name in ("a", "b", "c") for _ in range(24)]
    folds = [1 + index % 4 for index in range(72)]
    pooled = rng.gamma(2.0, 1.0, (72, 6))
    for place, name in enumerate("abc"):
        pooled[[label == name for label in labels], place] += separation
    shares = pooled / pooled.sum(axis=1, keepdims=True)
    return shares, labels, folds, [str(index // 2) for index in range(72)]


def test_classes_that_differ_are_told_apart_and_others_by_chance() -> None:
    apart, labels, folds, sources = draw_shares(100.0)
    groups = ClipGroups.build(labels, folds, sources)
    found = score_classes(apart, groups)
    assert found.accuracy == 1.0 and found.eta_squared is not None and found.eta_squared > 0.9
    alike = score_classes(draw_shares(0.0)[0], groups)
    assert alike.accuracy is not None and alike.accuracy < 0.6
    assert alike.eta_squared is not None and alike.eta_squared < 0.15
    assert groups.guess_accuracy == pytest.approx(1 / 3)
    assert groups.chance_eta_squared == pytest.approx(2 / 71)
    assert groups.describe() == "leave one of 4 folds out"


def test_eta_squared_is_that_of_sums_of_squares() -> None:
    shares, labels, folds, sources = draw_shares(3.0)
    roots = np.sqrt(shares)
    total = ((roots - roots.mean(axis=0)) ** 2).sum()
    within = sum(
        ((part - part.mean(axis=0)) ** 2).sum() for part in (roots[:24], roots[24:48], roots[48:])
    )
    found = score_classes(shares, ClipGroups.build(labels, folds, sources))
    assert found.eta_squared == pytest.approx(1.0 - within / total, rel=1e-9)


def test_nobody_is_tested_on_what_was_trained_on() -> None:
    shares, labels, folds, sources = draw_shares(3.0)
    for fold_of in (folds, [1] * 72):
        groups = ClipGroups.build(labels, fold_of, sources)
        tested = []
        for train, test in groups.split(shares):
            assert not set(groups.groups[train]) & set(groups.groups[test])
            if len(set(fold_of)) == 1:
                assert not {sources[row] for row in train} & {sources[row] for row in test}
            tested += test.tolist()
        assert sorted(tested) == list(range(72))


def test_what_cannot_be_tested_is_said() -> None:
    one_class = ClipGroups.build(["a"] * 4, [1, 2, 1, 2], list("wxyz"))
    assert score_classes(np.eye(4), one_class) == Discriminability(None, None)
    assert one_class.describe() == ""
    one_recording = ClipGroups.build(["a", "a", "b"], [1, 1, 1], ["x", "x", "y"])
    found = score_classes(np.eye(3), one_recording)
    assert found.accuracy is None and found.eta_squared is not None


def make_row(method: str, control: str, *errors: float, rank: int = 8) -> ScoreRow:
    rows = [
        ScoreRow(
            "block2", method, control, rank, FitScores(error, 1.0 - error**2),
            PatternScores(1.0, 0.5, 7), Discriminability(0.5, None),
        )
        for error in errors
    ]  # fmt: skip
    return rows[0] if control == "none" else average_rows(rows)


def test_average_of_shuffles() -> None:
    row = make_row("nmf", "shuffled_time", 0.4, 0.5, 0.9)
    assert row.fit.error == pytest.approx(0.6)
    assert row.error_std == pytest.approx(np.std([0.4, 0.5, 0.9], ddof=1))
    assert row.classes == Discriminability(0.5, None)
    facts = json.loads(json.dumps(row.describe(), allow_nan=False))
    assert facts["errors"] == [0.4, 0.5, 0.9] and facts["num_features"] == 7


def test_a_layer_is_judged_by_the_spread_of_the_shuffles() -> None:
    floor = make_row("plain_nmf", "none", 0.2, rank=6)
    clips = make_row("nmf", "shuffled_clips", 0.9, 0.92, 0.91)
    narrow = make_row("nmf", "shuffled_time", 0.600, 0.601, 0.602)
    better = judge_layer([make_row("nmf", "none", 0.5), narrow, clips, floor])
    assert better.is_better and "block2 explains the spectrogram better" in better.sentence
    assert better.share_of_way == pytest.approx((0.601 - 0.5) / (0.601 - 0.2))
    assert "25 % of the way" in better.sentence and "at rank 6" in better.sentence
    assert better.controls == {
        "shuffled_time": pytest.approx(0.601), "shuffled_clips": pytest.approx(0.91)
    }  # fmt: skip
    strict = [make_row("mel_basis", "none", 0.7), make_row("linear", "none", 0.6)]
    told = judge_layer([make_row("nmf", "none", 0.5), *strict, narrow, clips, floor]).sentence
    assert (
        told
        == better.sentence[:-1]
        + "; no better than NMF with shuffled activations: mel_basis (0.700)."
    )
    # The same error among shuffles that spread more tells nothing, nor does one above a shuffle.
    wide = make_row("nmf", "shuffled_time", 0.51, 0.60, 0.69)
    assert not judge_layer([make_row("nmf", "none", 0.5), wide, clips, floor]).is_better
    worse = judge_layer([make_row("nmf", "none", 0.6005), narrow, clips, floor])
    assert not worse.is_better and "does not explain" in worse.sentence


def test_without_room_between_floor_and_chance_no_share_is_told() -> None:
    time = make_row("nmf", "shuffled_time", 0.3, 0.3)
    verdict = judge_layer([make_row("nmf", "none", 0.3), time, make_row("plain_nmf", "none", 0.3)])
    assert verdict.share_of_way is None and "of the way" not in verdict.sentence
    assert not verdict.is_better
    assert replace(verdict, is_better=True).controls == {"shuffled_time": pytest.approx(0.3)}
