"""Planted layers: what explains the spectrogram is found and judged so, what does not is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from esc_tf.errors import RequestError
from esc_tf.interpretation.fit_layers import METHODS, ChosenFrames, FitSettings, LayerFit
from esc_tf.interpretation.reading import ReadingWriter
from esc_tf.interpretation.scores import ClipGroups, ScoreRow
from esc_tf.interpretation.verdict import judge_layer

CLIPS, BINS, RANK, FRAMES = 8, 16, 3, 40
SILENT = 5
HEARD = np.array([row for row in range(CLIPS) if row != SILENT])
LABELS = [("dog", "rain")[row % 2] for row in HEARD]
FREQUENCIES_HZ = np.linspace(100.0, 3900.0, BINS)


def plant() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """V of eight clips with noise of 2 %, one of them silent; H; W."""
    rng = np.random.default_rng(7)
    filters = rng.gamma(0.5, 1.0, (BINS, RANK))
    activations = rng.gamma(0.5, 1.0, (CLIPS, RANK, FRAMES)).astype(np.float32)
    noise = rng.gamma(2500.0, 1.0 / 2500.0, (CLIPS, BINS, FRAMES))
    spectrograms = (filters @ activations * noise).astype(np.float32)
    spectrograms[SILENT] = 0.0
    return spectrograms, activations, filters


def fit(
    folder: Path, activations: np.ndarray, max_frames: int = 10_000, **settings: object
) -> list[ScoreRow]:
    (folder / "layers" / "block1").mkdir(parents=True)
    fitted = LayerFit(
        "block1",
        plant()[0],
        activations,
        ChosenFrames.choose(HEARD, FRAMES, max_frames),
        ClipGroups.build(LABELS, [1 + row % 4 for row in HEARD], [str(row) for row in HEARD]),
        FitSettings(**{"methods": ("nmf",), "epochs": 30, **settings}),  # type: ignore[arg-type]
    )
    return fitted.run(FREQUENCIES_HZ, ReadingWriter(folder))


def test_the_layer_that_made_the_spectrogram_is_at_the_floor(tmp_path: Path) -> None:
    _, activations, filters = plant()
    units = np.array([[0.1], [1.0], [50.0]], np.float32)  # a network's features have any
    rows = fit(tmp_path, activations * units, methods=METHODS, epochs=150)
    keys = [(row.method, row.control) for row in rows]
    assert keys == [
        *((method, "none") for method in METHODS),
        ("nmf", "shuffled_time"),
        ("nmf", "shuffled_clips"),
        ("plain_nmf", "none"),
    ]
    by_key = dict(zip(keys, rows, strict=True))
    with np.load(tmp_path / "layers" / "block1" / "nmf.npz") as file:
        np.testing.assert_allclose(file["filters"], filters / units.T, rtol=0.1, atol=0.02)
    assert by_key["nmf", "none"].fit.error < 0.03
    assert by_key["linear_no_bias_softplus", "none"].fit.error < 0.1
    assert by_key["nmf", "shuffled_time"].fit.error > 0.4
    verdict = judge_layer(rows)
    assert verdict.is_better and verdict.share_of_way is not None
    assert verdict.share_of_way > 0.95


def test_a_layer_that_has_nothing_to_do_with_it_is_at_chance(tmp_path: Path) -> None:
    stranger = np.random.default_rng(8).gamma(0.5, 1.0, (CLIPS, RANK, FRAMES)).astype(np.float32)
    verdict = judge_layer(fit(tmp_path, stranger, shuffles=8))
    assert not verdict.is_better
    assert verdict.share_of_way is not None and abs(verdict.share_of_way) < 0.05
    assert "does not explain" in verdict.sentence


def test_a_layer_that_knows_the_clip_but_not_the_time_is_told_apart(tmp_path: Path) -> None:
    _, activations, _ = plant()
    level = np.random.default_rng(9).gamma(0.3, 1.0, (CLIPS, RANK, 1)).astype(np.float32)
    flat = np.repeat(level, FRAMES, axis=2)
    rows = {row.control: row for row in fit(tmp_path, flat) if row.method == "nmf"}
    # In time there is nothing to shuffle.
    assert rows["shuffled_time"].fit.error == pytest.approx(rows["none"].fit.error, abs=1e-6)
    assert not activations[SILENT].any() or rows["none"].rank == RANK


def test_floor_of_all_frames_from_some(tmp_path: Path) -> None:
    spectrograms, activations, _ = plant()
    rows = fit(tmp_path, activations, max_frames=7 * 20)
    assert rows[-1].method == "plain_nmf"
    with np.load(tmp_path / "layers" / "block1" / "plain_nmf.npz") as file:
        patterns, found = file["filters"], file["activations"].reshape(RANK, CLIPS, FRAMES)
    assert not found[:, SILENT].any()
    whole = np.concatenate([spectrograms[row] for row in HEARD], axis=1)
    rebuilt = np.concatenate([patterns @ found[:, row] for row in HEARD], axis=1)
    error = np.linalg.norm(whole - rebuilt) / np.linalg.norm(whole)
    assert error < rows[-1].fit.error + 0.02
    np.testing.assert_allclose(patterns.sum(axis=0), 1.0, rtol=1e-5)


def test_frames_are_drawn_evenly_and_shuffled_as_said() -> None:
    maps = np.arange(CLIPS * 2 * FRAMES, dtype=np.float32).reshape(CLIPS, 2, FRAMES)
    frames = ChosenFrames.choose(HEARD, FRAMES, 7 * 10, seed=3)
    assert frames.places.shape == (7, 10) and not frames.is_all
    taken = frames.gather(maps)
    for clip, (row, places) in enumerate(zip(HEARD, frames.places, strict=True)):
        assert len(set(places)) == 10
        np.testing.assert_array_equal(taken[:, 10 * clip : 10 * clip + 10], maps[row][:, places])
    whole = ChosenFrames.choose(HEARD, FRAMES, 10_000)
    assert whole.is_all
    original = whole.gather(maps).reshape(2, 7, FRAMES)
    rng = np.random.default_rng(0)
    in_time = whole.shuffle_time(maps, rng).reshape(2, 7, FRAMES)
    np.testing.assert_array_equal(np.sort(in_time, axis=2), original)
    assert (in_time != original).any(axis=(0, 2)).all()
    # Both features of a frame move together.
    np.testing.assert_array_equal(in_time[1] - in_time[0], original[1] - original[0])
    across = whole.shuffle_clips(maps, rng).reshape(2, 7, FRAMES)
    assert (across[0] != original[0]).all()
    assert {tuple(part) for part in across[0]} == {tuple(part) for part in original[0]}
    np.testing.assert_allclose(whole.average(whole.gather(maps)), maps[HEARD].mean(axis=2))


def test_more_features_than_frames_name_the_layer(tmp_path: Path) -> None:
    many = np.ones((CLIPS, 7 * FRAMES + 1, FRAMES), np.float32)
    with pytest.raises(RequestError, match="block1: 281 features are more than 280 frames"):
        fit(tmp_path, many)
    with pytest.raises(RequestError, match="block1: .* zero everywhere"):
        fit(tmp_path / "again", np.zeros((CLIPS, RANK, FRAMES), np.float32))
