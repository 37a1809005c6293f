"""Trainings in phases: what each takes of the one before, what it leaves alone, how it goes on."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from esc_tf import evaluate, report, train
from esc_tf.config import Experiment
from esc_tf.config.loading import dump_experiment
from esc_tf.errors import RequestError
from esc_tf.tasks.classifier import load_classifier
from esc_tf.training import phases
from esc_tf.training.phases import describe_phases, plan_phases, train_phases
from esc_tf.training.run_directory import RunDirectory
from esc_tf.training.source_weights import name_layers
from tests.config.base import problems_with
from tests.tiny import TINY, tiny_experiment

# The front end of the whole experiment learns; the first phase has the fixed one of the same size.
_MEL = {**TINY["front_end"], "name": "mel_init"}
_FIXED = dict(TINY["front_end"])
_PLAIN = {"mixup": None, "frequency_mask": None}


def make(folder: Path, **recipe: Any) -> Experiment:
    whole = {
        "epochs": 2,
        "optimizer": {"name": "adam", "learning_rate": 1e-3},
        "schedule": {"name": "constant"},
        "early_stopping": None,
        "select": "last",
        "phases": {
            "backbone": {"front_end": _FIXED},
            "left_out": None,
            "front_end": {"trained": ["front_end/*"], "epochs": 1},
            "first": {"trained": ["front_end/*", "block1*"], "epochs": 1},
            "everything": {},
        },
        **recipe,
    }
    return tiny_experiment(str(folder / "cache"), front_end=_MEL, augment=_PLAIN, recipe=whole)


def weights(path: Path) -> dict[str, list[np.ndarray]]:
    layers = name_layers(load_classifier(path))
    return {name: layer.get_weights() for name, layer in layers.items()}


def changed(before: dict[str, list[np.ndarray]], after: dict[str, list[np.ndarray]]) -> set[str]:
    """Layers of which a single bit differs, or that are in one alone."""
    return {
        name
        for name in before.keys() | after.keys()
        if name not in before
        or name not in after
        or any(
            one.tobytes() != other.tobytes()
            for one, other in zip(before[name], after[name], strict=True)
        )
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phases")
    lines: list[str] = []
    train_phases(make(folder), RunDirectory(folder / "run"), report=lines.append)
    (folder / "lines").write_text("\n".join(lines))
    return folder


def test_each_phase_changes_what_it_trains_and_nothing_else(trained: Path) -> None:
    run = trained / "run"
    stages = ["0_backbone", "1_front_end", "2_first", "3_everything"]
    assert sorted(path.name for path in run.glob("phase_*")) == [f"phase_{name}" for name in stages]
    backbone, front_end, first, everything = (weights(run / f"phase_{name}") for name in stages)
    learnt = {"front_end/dft", "front_end/mel"}
    # All layers but those of the new front end are those of the phase before, bit by bit. That the
    # front end has moved shows that gradients came to it through the frozen layers.
    assert changed(backbone, front_end) == learnt
    assert changed(front_end, first) == learnt | {"block1_conv1", "block1_bn1"}
    assert changed(first, everything) == set(everything)
    model = load_classifier(run / "phase_1_front_end")
    assert all(layer.trainable for layer in name_layers(model).values())


def test_a_new_front_end_begins_as_its_settings_say(trained: Path) -> None:
    text = (trained / "lines").read_text()
    assert "phase front_end (2 of 4)" in text
    assert "fresh: front_end/dft, front_end/mel; the source hears through another" in text
    assert text.count("nothing is fresh") == 2


def test_the_last_phase_is_the_whole_run(trained: Path) -> None:
    run, last = trained / "run", trained / "run" / "phase_3_everything"
    assert changed(weights(run), weights(last)) == set()
    own, of_last = (json.loads((path / "metrics.json").read_text()) for path in (run, last))
    assert own == {**of_last, "recipe_epochs": 2}
    assert (run / "metrics.jsonl").read_text() == (last / "metrics.jsonl").read_text()
    stored, facts = RunDirectory(run).read_resolved()
    assert stored == make(trained)
    assert len(facts["label_names"]) == 10
    summary = json.loads((run / "phases.json").read_text())["phases"]
    assert [item["name"] for item in summary] == ["backbone", "front_end", "first", "everything"]
    assert [item["trained_epochs"] for item in summary] == [2, 1, 1, 2]
    assert [item["front_end"] for item in summary] == ["log_mel"] + ["mel_init"] * 3
    for item in summary:
        metrics = json.loads((run / item["folder"] / "metrics.json").read_text())
        assert item["test"]["balanced_accuracy"] == metrics["test"]["balanced_accuracy"]
    # What reads a run reads it.
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert evaluate.main(["--run-dir", str(run), "--json"]) == 0
    assert json.loads(out.getvalue())["confusion_matrix"] == own["test"]["confusion_matrix"]


def test_the_report_of_the_whole_shows_its_phases(trained: Path) -> None:
    run = trained / "run"
    with contextlib.redirect_stdout(io.StringIO()):
        assert report.main([str(run), "--out", str(trained / "report")]) == 0
    page = (trained / "report" / "index.html").read_text()
    assert "Validation, 6 epochs of all phases one after the other." in page
    summary = json.loads((run / "phases.json").read_text())["phases"]
    for phase in summary:
        assert f'<data value="{phase["test"]["balanced_accuracy"]!r}">' in page


def test_the_best_weights_of_a_phase_are_carried_over(tmp_path: Path) -> None:
    experiment = make(
        tmp_path,
        epochs=4,
        select="best",
        monitor="validation_balanced_accuracy",
        # Steps so large that the last epoch is not the best one.
        optimizer={"name": "adam", "learning_rate": 0.1},
        phases={"one": {"front_end": _FIXED}, "two": {"trained": ["front_end/*"], "epochs": 1}},
    )
    run = RunDirectory(tmp_path / "run")
    train_phases(experiment, run, report=lambda line: None)
    first = run.path / "phase_0_one"
    lines = [json.loads(line) for line in (first / "metrics.jsonl").read_text().splitlines()]
    measured = [line["validation_balanced_accuracy"] for line in lines]
    selected = json.loads((first / "metrics.json").read_text())["selected_epoch"]
    assert selected == 1 + int(np.argmax(measured))
    before, after = weights(first), weights(run.path / "phase_1_two")
    assert changed(before, after) == {"front_end/dft", "front_end/mel"}
    best = np.load(first / "checkpoints" / "best.npz")
    assert best is not None and json.loads((run.path / "phases.json").read_text())


class Interrupted(Exception):
    pass


def test_finished_phases_are_skipped_and_a_broken_one_goes_on(
    trained: Path, tmp_path: Path
) -> None:
    experiment = make(trained)
    broken = RunDirectory(tmp_path / "broken")
    real, calls = phases.train_experiment, []

    def fail_in_third(experiment: Experiment, run: RunDirectory, **options: Any) -> Any:
        calls.append(run.path.name)
        if len(calls) == 3:
            raise Interrupted
        return real(experiment, run, **options)

    with mock.patch.object(phases, "train_experiment", fail_in_third), pytest.raises(Interrupted):
        train_phases(experiment, broken, report=lambda line: None)
    assert not (broken.path / "metrics.json").exists()
    lines: list[str] = []
    train_phases(experiment, RunDirectory(tmp_path / "broken"), resume=True, report=lines.append)
    text = "\n".join(lines)
    assert text.count("finished before") == 2
    assert changed(weights(trained / "run"), weights(broken.path)) == set()


def test_a_folder_that_holds_a_run_is_refused(trained: Path) -> None:
    run = RunDirectory(trained / "run")
    with pytest.raises(RequestError, match="already holds a run; add --resume"):
        train_phases(make(trained), run, report=lambda line: None)
    with pytest.raises(RequestError, match="recipe.epochs cannot be changed"):
        train_phases(make(trained, epochs=3), run, resume=True, report=lambda line: None)


def test_what_a_later_phase_would_meet_is_met_at_once(tmp_path: Path) -> None:
    steps = {"one": {"front_end": _FIXED}, "two": {"trained": ["front_end/mell"]}}
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(RequestError) as caught:
        train_phases(make(tmp_path, phases=steps), run, report=lambda line: None)
    (problem,) = caught.value.problems
    assert problem.startswith("phase two: recipe.fine_tuning.trained: 'front_end/mell' matches no")
    assert "did you mean 'front_end/mel'?" in problem
    assert not run.path.exists()


def test_several_machines_are_refused(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    with (
        mock.patch.dict(os.environ, {"TF_CONFIG": "{}"}),
        pytest.raises(RequestError, match="the phases of a training run on one machine"),
    ):
        train_phases(make(tmp_path), run, report=lambda line: None)


def test_a_dry_run_names_the_phases_and_writes_nothing(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    lines = describe_phases(make(tmp_path), run).splitlines()
    assert lines[-4:] == [
        "phase backbone: 2 epochs, front end log_mel, trains everything",
        "phase front_end: 1 epochs, front end mel_init, trains front_end/*",
        "phase first: 1 epochs, front end mel_init, trains front_end/*, block1*",
        "phase everything: 2 epochs, front end mel_init, trains everything",
    ]
    assert not run.path.exists()


def test_the_command_trains_phases(tmp_path: Path) -> None:
    steps = {"one": {"front_end": _FIXED, "epochs": 1}, "two": {"epochs": 1}}
    config = tmp_path / "config.yaml"
    config.write_text(dump_experiment(make(tmp_path, phases=steps)))
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = train.main(["--config", str(config), "--run-dir", str(tmp_path / "run")])
    assert code == 0
    assert "phase two (2 of 2)" in out.getvalue() and "test accuracy: " in out.getvalue()
    assert (tmp_path / "run" / "model.keras").is_file()


def test_plans_are_runs_of_their_own(tmp_path: Path) -> None:
    plans = plan_phases(make(tmp_path), tmp_path)
    for plan in plans:
        assert plan.experiment.recipe.phases is None
        # Each could be started from its own file.
        assert load(dump_experiment(plan.experiment), tmp_path) == plan.experiment
    first, second, third, _ = (plan.experiment.recipe.fine_tuning for plan in plans)
    assert first is None
    assert second is not None and second.inherited == ["*"]
    assert third is not None and third.inherited is None


def test_layers_learn_at_rates_of_their_own_in_a_phase(tmp_path: Path) -> None:
    steps = {
        "one": {"front_end": _FIXED, "learning_rates": {"block1*": 0.5}},
        "two": {"trained": ["front_end/*"]},
        "three": {"learning_rates": {"front_end/*": 1e-3}},
    }
    plans = plan_phases(make(tmp_path, phases=steps), tmp_path)
    rates = [getattr(plan.experiment.recipe.fine_tuning, "learning_rates", None) for plan in plans]
    assert rates == [{"block1*": 0.5}, {}, {"front_end/*": 1e-3}]
    assert plans[0].experiment.recipe.fine_tuning.source is None


def load(text: str, folder: Path) -> Experiment:
    from esc_tf.config import load_experiment

    path = folder / "phase.yaml"
    path.write_text(text)
    return load_experiment(path)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("recipe.phases={a: null}", "recipe.phases: every phase is null"),
        ("recipe.phases={a: {trained: [x]}}", "a.trained: is the first phase"),
        ("recipe.phases={a: {epoch: 3}}", "recipe.phases.a.epoch: unknown key; did you mean"),
        ("recipe.phases={'a/b': {}}", "must match"),
        (
            "recipe.phases={a: {front_end: {name: log_mel, fmax_hz: 9e5}}}",
            "recipe.phases.a.front_end.fmax_hz: 900000 lies above",
        ),
        (
            "recipe.phases={a: {}, b: {front_end: {name: mstnet}, learning_rates: {x: 0.1}, "
            "spectrogram_forcing: {target: {name: log_mel}}}}",
            "b.learning_rates: spectrogram_forcing trains the front end and nothing else",
        ),
        (
            "recipe.phases={a: {spectrogram_forcing: {target: {name: log_mel}}}}",
            "a.spectrogram_forcing: front_end log_mel has nothing that could learn",
        ),
    ],
)
def test_phases_are_checked_before_anything_is_read(override: str, words: str) -> None:
    assert any(words in problem for problem in problems_with(override))
