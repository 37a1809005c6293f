"""The benchmark of learned front ends: what it compares, and how it shows what it measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import front_end_training as benchmark

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def test_without_a_configuration_all_front_ends_race_before_one_network() -> None:
    contestants = benchmark.list_contestants(None, ["model.dense_units=30"])
    assert list(contestants)[0] == benchmark.FIXED
    names = {name: item.front_end.name for name, item in contestants.items()}
    assert list(names.values()) == ["log_mel", *["mel_init"] * 3, "heurinet", "mstnet"]
    assert {item.model.dense_units for item in contestants.values()} == {30}
    assert {item.num_samples for item in contestants.values()} == {20_992}


def test_with_one_its_own_mel_races_against_the_same_that_learns() -> None:
    path = CONFIGS / "experiment" / "mn04_esc10.yaml"
    contestants = benchmark.list_contestants(path, [])
    fixed, trained = contestants[benchmark.FIXED], contestants["mel_init"]
    own = {"name", "computation", "trained", "reach"}
    assert trained.front_end.model_dump(exclude=own) == fixed.front_end.model_dump(exclude=own)
    assert trained.front_end.n_mels == 128
    assert trained.model == fixed.model
    assert trained.recipe.fine_tuning is None


def test_rows_are_measured_against_the_fixed_front_end() -> None:
    contestants = benchmark.list_contestants(None, ["model.dense_units=10"])
    chosen = {name: contestants[name] for name in (benchmark.FIXED, "mel_init, bank alone trained")}
    rows = benchmark.measure(chosen, batch_size=2, num_rounds=2)
    assert [row["name"] for row in rows] == list(chosen)
    for task in benchmark.TASKS:
        assert rows[0][task]["ratio"] == 1.0
        ratio = rows[1][task]["ms_per_clip"] / rows[0][task]["ms_per_clip"]
        assert rows[1][task]["ratio"] == pytest.approx(ratio)
        assert 0.0 < rows[1][task]["best_ms_per_clip"] <= rows[1][task]["ms_per_clip"]
    lines = benchmark.format_rows(rows).splitlines()
    assert lines[1].startswith(benchmark.FIXED)
    assert lines[1].count("( 1.00x)") == len(benchmark.TASKS)


def test_a_front_end_that_is_no_mel_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    path = CONFIGS / "experiment" / "random_init_heurinet_esc10.yaml"
    assert benchmark.main(["--config", str(path)]) == 2
    assert "front_end.name: heurinet is no mel spectrogram" in capsys.readouterr().err
