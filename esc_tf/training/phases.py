"""Training in phases: one whole run each, which begins with what the one before has learnt.

``DIR/resolved.yaml`` is the whole configuration, ``DIR/phase_0_NAME`` the run of the first phase,
``DIR/phases.json`` what all of them measured. The last phase's model and measures are DIR's own,
so that DIR is a run for whatever reads one.

IceBreaker [Jüttner et al.] is such a training: a network on spectrograms first, then a learnable
front end before the frozen network, then more and more of both.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esc_tf.config import Experiment
from esc_tf.config.recipe import FineTuningConfig, PhaseConfig
from esc_tf.errors import RequestError
from esc_tf.evaluation.run_files import HISTORY_FILE, METRICS_FILE, PHASES_FILE
from esc_tf.tasks.classifier import build_classifier
from esc_tf.training.devices import build_devices
from esc_tf.training.experiment import RunResult, describe_start, train_experiment
from esc_tf.training.fine_tuning import check_patterns, find_source
from esc_tf.training.run_data import RunData, load_run_data
from esc_tf.training.run_directory import (
    RunDirectory,
    collect_run_facts,
)
from esc_tf.training.spectrogram_forcing import check_target
from esc_tf.training.split_file import SPLIT_FILE
from esc_tf.training.termination import StopSignal


@dataclass(frozen=True)
class PhasePlan:
    """What the run of one phase is.

    Attributes:
        name: the phase.
        experiment: the run's configuration.
        run: its directory.
    """

    name: str
    experiment: Experiment
    run: RunDirectory


def plan_phases(experiment: Experiment, folder: Path) -> list[PhasePlan]:
    """Plan one run for each phase; nothing is read.

    Args:
        experiment: the whole configuration, with ``recipe.phases``.
        folder: where everything goes.
    """
    plans: list[PhasePlan] = []
    for number, (name, phase) in enumerate(experiment.recipe.active_phases.items()):
        front_end = phase.front_end or experiment.front_end
        fine_tuning = experiment.recipe.fine_tuning
        if plans:
            before = plans[-1]
            same = before.experiment.front_end == front_end
            fine_tuning = FineTuningConfig(
                source=str(before.run.path),
                # Another front end begins afresh; all that lies behind it goes on.
                inherited=None if same else ["*"],
                trained=phase.trained,
                learning_rates=phase.learning_rates,
            )
        elif phase.trained is not None or phase.learning_rates:
            first: dict[str, Any] = {"learning_rates": phase.learning_rates}
            if phase.trained is not None:
                first.update(frozen=[], trained=phase.trained)
            fine_tuning = (fine_tuning or FineTuningConfig()).model_copy(update=first)
        plans.append(
            PhasePlan(
                name,
                experiment.model_copy(
                    update={
                        "name": f"{experiment.name}-{name}",
                        "front_end": front_end,
                        "recipe": experiment.recipe.model_copy(
                            update={"fine_tuning": fine_tuning, **_list_changes(phase)}
                        ),
                    }
                ),
                RunDirectory(folder / f"phase_{number}_{name}"),
            )
        )
    return plans


def _list_changes(phase: PhaseConfig) -> dict[str, Any]:
    changes: dict[str, Any] = {"phases": None, "report": False}
    for option in ("epochs", "batch_size", "optimizer", "schedule"):
        value = getattr(phase, option)
        if value is not None:
            changes[option] = value
    if phase.spectrogram_forcing is not None:
        changes["spectrogram_forcing"] = phase.spectrogram_forcing
        changes.update(monitor="validation_loss", early_stopping=None)
    return changes


def train_phases(
    experiment: Experiment,
    run: RunDirectory,
    *,
    resume: bool = False,
    stop: StopSignal | None = None,
    report: Callable[[str], object] = print,
) -> RunResult:
    """Run every phase that is not finished, one after the other, and sum them up in ``run``.

    Args:
        experiment: the whole configuration, with ``recipe.phases``.
        run: where everything goes; claimed here, released at the end.
        resume: go on with what is there.
        stop: SIGTERM, as the command catches it; None: it is left as it is.
        report: takes lines for the user.

    Returns:
        The result of the last phase.

    Raises:
        EscTfError: as ``train_experiment``; whatever a later phase would meet at its start is met
            before the first one.
    """
    run.check(resume)
    plans = plan_phases(experiment, run.path)
    facts, data = check_phases(experiment, plans)
    if resume and run.read_resolved()[0].recipe.epochs != experiment.recipe.epochs:
        raise RequestError(
            "--resume: recipe.epochs cannot be changed in a training in phases, whose later phases "
            "begin where earlier ones ended; start a new run"
        )
    run.claim(resume)
    try:
        if not resume:
            run.write_resolved(experiment, facts)
        results: list[RunResult] = []
        for number, plan in enumerate(plans, start=1):
            title = f"phase {plan.name} ({number} of {len(plans)})"
            found = read_finished(plan)
            if found is not None:
                report(f"{title}: finished before")
            else:
                report(f"{title}: {plan.run.path}")
                found = train_experiment(
                    plan.experiment,
                    plan.run,
                    data=data,
                    resume=plan.run.resolved_path.is_file(),
                    stop=stop,
                    report=report,
                )
            results.append(found)
        _take_last(experiment, run, plans, results)
        return results[-1]
    finally:
        run.release()


def check_phases(experiment: Experiment, plans: list[PhasePlan]) -> tuple[dict[str, Any], RunData]:
    """Check the data, and each phase's model, patterns and target; return the run's facts and data.

    The devices are set up before the first model, whose weights start TensorFlow's runtime.

    Raises:
        EscTfError: something does not fit; the phase is named.
    """
    if os.environ.get("TF_CONFIG"):
        raise RequestError(
            "TF_CONFIG is set, but the phases of a training run on one machine; unset it, or train "
            "each phase by itself with recipe.fine_tuning"
        )
    devices = build_devices(experiment.distribution, connect=False)
    fine_tuning = experiment.recipe.fine_tuning
    if fine_tuning is not None and fine_tuning.source is not None:
        find_source(fine_tuning.source)
    data = load_run_data(experiment)
    for plan in plans:
        model = build_classifier(plan.experiment, data.label_names)
        try:
            check_patterns(model, plan.experiment.recipe.fine_tuning)
            if plan.experiment.recipe.spectrogram_forcing is not None:
                check_target(model, plan.experiment)
        except RequestError as error:
            raise RequestError([f"phase {plan.name}: {line}" for line in error.problems]) from None
    return collect_run_facts(devices.description, data.label_names), data


def describe_phases(experiment: Experiment, run: RunDirectory, *, resume: bool = False) -> str:
    """Check what a training would meet first, and say in lines what it would do.

    Raises:
        EscTfError: as ``train_phases`` would at its start.
    """
    run.check(resume)
    plans = plan_phases(experiment, run.path)
    _, data = check_phases(experiment, plans)
    lines = [describe_start(plans[0].experiment, plans[0].run, data=data)]
    for plan in plans:
        recipe, tuning = plan.experiment.recipe, plan.experiment.recipe.fine_tuning
        trained = "everything"
        if tuning is not None and tuning.trained is not None:
            trained = ", ".join(tuning.trained)
        if recipe.spectrogram_forcing is not None:
            trained = "the front end, forced to a spectrogram"
        lines.append(
            f"phase {plan.name}: {recipe.epochs} epochs, front end "
            f"{plan.experiment.front_end.name}, trains {trained}"
        )
    return "\n".join(lines)


def read_finished(plan: PhasePlan) -> RunResult | None:
    """What a phase's finished run has to say; None if it is not finished."""
    if not plan.run.model_path.is_file():
        return None
    try:
        metrics = json.loads((plan.run.path / METRICS_FILE).read_text(encoding="utf-8"))
        lines = (plan.run.path / HISTORY_FILE).read_text(encoding="utf-8").splitlines()
        history = [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return None
    # Measured last of all, so that its model is whole.
    if metrics.get("recipe_epochs") != plan.experiment.recipe.epochs:
        return None
    return RunResult(metrics, history)


def _take_last(
    experiment: Experiment, run: RunDirectory, plans: list[PhasePlan], results: list[RunResult]
) -> None:
    """Make the last phase's model and measures those of the whole, and sum all phases up."""
    last = plans[-1].run.path
    run.write_model(lambda path: shutil.copyfile(plans[-1].run.model_path, path))
    run.write_text(SPLIT_FILE, (last / SPLIT_FILE).read_text(encoding="utf-8"))
    run.write_history(results[-1].history)
    summary = [_summarize(plan, found) for plan, found in zip(plans, results, strict=True)]
    run.write_json(PHASES_FILE, {"name": experiment.name, "phases": summary})
    run.write_json(METRICS_FILE, {**results[-1].metrics, "recipe_epochs": experiment.recipe.epochs})


def _summarize(plan: PhasePlan, found: RunResult) -> dict[str, Any]:
    """The numbers of one phase: JSON without the tables of single classes."""
    metrics = found.metrics
    kept: dict[str, Any] = {
        "name": plan.name,
        "folder": plan.run.path.name,
        "front_end": plan.experiment.front_end.name,
        "trained_epochs": metrics["trained_epochs"],
        "selected_epoch": metrics["selected_epoch"],
    }
    if "spectrogram_forcing" in metrics:
        kept["spectrogram_forcing"] = metrics["spectrogram_forcing"]
    for part in ("validation", "test"):
        if part in metrics:
            dropped = ("per_class", "confusion_matrix", "absent_classes")
            kept[part] = {key: value for key, value in metrics[part].items() if key not in dropped}
    return kept
