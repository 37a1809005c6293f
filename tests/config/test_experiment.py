from __future__ import annotations

import pytest
from pydantic import ValidationError

from tests.config.base import build_with, problems_with


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["front_end.fmax_hz=30000"], "front_end.fmax_hz: 30000 lies above 22050 Hz"),
        (["front_end.fmin_hz=22050"], "front_end.fmin_hz: 22050 is not below fmax_hz 22050"),
        (["front_end.win_length=4096"], "front_end.win_length: 4096 is longer than"),
        (["front_end.center=false", "audio.duration_s=0.01"], "audio.duration_s: 0.01 s is short"),
        (["front_end.pad_mode=reflect", "audio.duration_s=0.01"], "front_end.pad_mode: reflect"),
        (
            ["front_end={pad_mode: reflect, center: false}", "audio.duration_s=0.01"],
            "audio.duration_s: 0.01 s is shorter than one frame",
        ),
        (["data.validation=5"], "data.validation: fold 5 is also data.test_fold"),
        (["model.squeeze_excitation_blocks=[2, 6]"], "block 6 does not exist; model.block_filters"),
        (
            ["data.validation=null", "recipe.early_stopping={}"],
            "recipe.early_stopping.monitor: validation_accuracy needs data.validation",
        ),
        (
            ["data.validation=null", "recipe.schedule={name: reduce_on_plateau}"],
            "recipe.schedule.monitor: validation_loss needs data.validation",
        ),
        (
            ["model={name: cnn10, embedding_units: null}"],
            "model.embedding_dropout: acts before the dense layer",
        ),
        (
            ["model={name: cnn10, head: {kind: attention}}"],
            "model.head.kind: attention reads the last feature map",
        ),
        (
            ["model.head={kind: fully_convolutional, hidden_units: [8]}"],
            "model.head.hidden_units: belongs to kind mlp, and fully_convolutional would ignore it",
        ),
        (["model.head={kind: attention, dropout: 0.5}"], "model.head.dropout: belongs to kind mlp"),
        (
            ["model.head={kind: attention, activation: hard_swish}"],
            "model.head.activation: belongs to kind mlp",
        ),
        (["model.head.num_heads=2"], "model.head.num_heads: belongs to kind attention, and mlp"),
        (
            ["model.head={activation: hard_swish, hidden_units: []}"],
            "model.head.activation: follows hidden layers",
        ),
        (["distribution.xla=true"], "distribution.xla: XLA has no repeatable gradient"),
        (
            ["recipe.distillation={targets: 'fold_{fold}.npz'}"],
            "recipe.distillation.targets: {fold} stands for nothing; {test_fold} is what there is",
        ),
        (
            ["recipe.distillation={mode: online, teacher: 'x_{test_fold}'}", "data.test_fold=null"],
            "recipe.distillation.teacher: {test_fold} stands for data.test_fold, which is null",
        ),
        (["recipe.distillation={}"], "recipe.distillation: offline distillation needs 'targets'"),
        (
            ["recipe.distillation={mode: online, targets: a.npz, teacher: b}"],
            "recipe.distillation: online distillation ignores 'targets'",
        ),
    ],
)
def test_contradictions_between_sections_are_named(overrides: list[str], words: str) -> None:
    (problem,) = problems_with(*overrides)
    assert words in problem


def test_all_contradictions_come_at_once() -> None:
    assert len(problems_with("front_end.fmax_hz=30000", "data.validation=5")) == 2


@pytest.mark.parametrize(
    "overrides",
    [
        ["front_end.fmax_hz=22050"],
        ["front_end.win_length=2048"],
        ["front_end.center=false", "front_end.pad_mode=reflect", "front_end.n_fft=441",
         "audio.duration_s=0.01"],
        ["data.validation=5", "data.test_fold=4"],
        ["data.validation=null", "recipe.early_stopping={monitor: loss}"],
        ["data.test_fold=null"],
        ["model={name: cnn10, embedding_units: null, embedding_dropout: 0.0}"],
        ["model={name: cnn10, embedding_units: null, embedding_dropout: 0.0,"
         " head: {kind: attention, num_heads: 2, dropout: 0.0}}"],
        # A resolved file names every option.
        ["model={name: tfnet, head: {kind: fully_convolutional, hidden_units: [], activation: relu,"
         " dropout: 0.0, num_heads: 4}}"],
        ["distribution={xla: true, deterministic: false}"],
    ],
)  # fmt: skip
def test_what_is_no_contradiction_passes(overrides: list[str]) -> None:
    build_with(*overrides)


def test_the_shortest_transform_that_fits_passes_and_pre_emphasis_costs_one_sample() -> None:
    exact = ("front_end.center=false", "front_end.n_fft=441", "audio.duration_s=0.01")
    build_with(*exact)
    (problem,) = problems_with(*exact, "front_end.pre_emphasis=0.97")
    assert "shorter than one frame" in problem


def test_the_length_of_a_clip_in_samples() -> None:
    assert build_with().num_samples == 220500
    assert build_with("audio.sample_rate_hz=16000", "audio.duration_s=1.5").num_samples == 24000


def test_an_experiment_cannot_be_changed() -> None:
    experiment = build_with()
    with pytest.raises(ValidationError, match="frozen"):
        experiment.seed = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        experiment.recipe.epochs = 1  # type: ignore[misc]


def test_two_experiments_do_not_share_their_lists() -> None:
    first, second = build_with(), build_with()
    first.model.block_filters.append(3)
    assert second.model.block_filters == [64, 128, 256, 512, 1024]
    assert build_with().model.head.hidden_units == [2048]


def test_the_test_fold_stands_in_paths() -> None:
    experiment = build_with("data.test_fold=3")
    assert experiment.fill_placeholders("runs/fold_{test_fold}/x{test_fold}") == "runs/fold_3/x3"
    assert experiment.fill_placeholders("runs/fold_3") == "runs/fold_3"
