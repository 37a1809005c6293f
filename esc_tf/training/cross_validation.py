"""Cross-validation by the given folds: one whole run a fold, each in a process of its own.

``DIR/cross_validation.yaml`` is the configuration that all folds share, ``DIR/fold_K`` the run
that tests on fold K, ``DIR/fold_K.log`` what it said, ``DIR/cross_validation.json`` the result.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esc_tf.config import Experiment, dump_experiment, load_experiment, read_run_facts
from esc_tf.data import load_clips, load_data_set
from esc_tf.errors import DataError, EscTfError, RequestError, TrainingError
from esc_tf.evaluation.fold_summary import SELECTIONS, summarize_folds
from esc_tf.evaluation.run_files import METRICS_FILE
from esc_tf.files import write_atomically
from esc_tf.training.processes import Ending, Task, TaskRunner
from esc_tf.training.run_directory import RESOLVED_FILE, RunDirectory
from esc_tf.training.split_file import PARTS, read_split, split_experiment

CONFIG_FILE = "cross_validation.yaml"
RESULT_FILE = "cross_validation.json"


@dataclass(frozen=True)
class FoldPlan:
    """What the run of one fold is: the shared configuration with its own folds.

    Attributes:
        fold: the test fold.
        experiment: the run's configuration.
        overrides: what turns the shared configuration into that, as ``--set`` takes it.
    """

    fold: int
    experiment: Experiment
    overrides: tuple[str, ...]


def plan_folds(experiment: Experiment, folds: Sequence[int] | None = None) -> list[FoldPlan]:
    """Plan one run for each test fold; no audio is opened.

    A fraction (or null) as ``data.validation`` is the same for every run. A fold number turns
    with the test fold and keeps its distance from ``data.test_fold``: with test fold 5 and
    validation fold 4 of five, the run that tests on fold 1 validates on fold 5. So the run for
    ``data.test_fold`` is the one that the configuration describes. Where the data set has no such
    test fold, the fold after the one tested validates.

    Args:
        experiment: the shared configuration.
        folds: the test folds; None: all folds of the data set.

    Raises:
        DataError: the data set cannot be used, has no such fold, or too few of them.
    """
    data = experiment.data
    records = load_data_set(data, experiment.audio, experiment.seed).records
    known = sorted({record.fold for record in records})
    there = ", ".join(map(str, known))
    wanted = known if folds is None else sorted(set(folds))
    problems = [
        f"--folds: fold {fold} does not exist; the folds are {there}"
        for fold in wanted
        if fold not in known
    ]
    validation = data.validation if isinstance(data.validation, int) else None
    if validation is not None and validation not in known:
        problems.append(f"data.validation: fold {validation} does not exist; the folds are {there}")
    if len(known) < (2 if validation is None else 3):
        problems.append(f"cross-validation: the data set has too few folds ({there})")
    if problems:
        raise DataError(problems)
    distance = 1
    if validation is not None and data.test_fold in known:
        distance = known.index(validation) - known.index(data.test_fold)
    plans = []
    for fold in wanted:
        changes = {"test_fold": fold}
        if validation is not None:
            changes["validation"] = known[(known.index(fold) + distance) % len(known)]
        plans.append(
            FoldPlan(
                fold,
                experiment.model_copy(update={"data": data.model_copy(update=changes)}),
                tuple(f"data.{key}={value}" for key, value in changes.items()),
            )
        )
    return plans


def check_folder(folder: Path, resume: bool) -> None:
    """Refuse a folder that does not suit the request; touches nothing.

    Raises:
        RequestError: it holds a run, or a cross-validation and ``resume`` is false, or none and
            ``resume`` is true.
    """
    if (folder / RESOLVED_FILE).exists():
        raise RequestError(
            f"{folder} holds a single run, not a cross-validation; name another --run-dir"
        )
    if resume and not (folder / CONFIG_FILE).is_file():
        raise RequestError(
            f"--resume: {folder} holds no cross-validation (no {CONFIG_FILE}); "
            "leave --resume out to start one"
        )
    if not resume and (folder / CONFIG_FILE).exists():
        raise RequestError(
            f"{folder} already holds a cross-validation; add --resume to go on with it "
            "or name another --run-dir"
        )


def read_stored(folder: Path) -> tuple[Experiment, list[int]]:
    """The shared configuration and the test folds of a cross-validation.

    Raises:
        RequestError: there is none.
    """
    check_folder(folder, resume=True)
    path = folder / CONFIG_FILE
    return load_experiment(path), [int(fold) for fold in read_run_facts(path).get("folds", [])]


def check_data(plans: Sequence[FoldPlan]) -> list[dict[str, int]]:
    """Decode what is not decoded yet, split it for every fold, and count the clips of each part.

    Done before any fold starts, so that a leak in the last fold does not show after days.

    Raises:
        DataError: as ``load_clips`` and ``split_experiment``.
    """
    shared = plans[0].experiment
    _, clips, _ = load_clips(shared.data, shared.audio, shared.seed)
    splits = [split_experiment(plan.experiment, clips) for plan in plans]
    return [{part: len(getattr(split, part)) for part in PARTS} for split in splits]


def describe_folds(plans: Sequence[FoldPlan]) -> str:
    """Check the data and say in lines which clips each fold would have."""
    return "\n".join(
        f"fold {plan.fold}: {counts['train']} train, {counts['validation']} validation "
        f"({_describe_validation(plan)}), {counts['test']} test"
        for plan, counts in zip(plans, check_data(plans), strict=True)
    )


def _describe_validation(plan: FoldPlan) -> str:
    validation = plan.experiment.data.validation
    if validation is None:
        return "none"
    return f"fold {validation}" if isinstance(validation, int) else f"fraction {validation:g}"


def cross_validate(
    experiment: Experiment,
    folder: Path,
    plans: Sequence[FoldPlan],
    *,
    command: Sequence[str],
    parallel: int = 1,
    resume: bool = False,
    report: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Run every fold that is not finished, then put the tests of all together.

    Args:
        experiment: the configuration that all folds share.
        folder: where everything goes.
        plans: of ``plan_folds``.
        command: the training command; ``--config``, ``--set``, ``--run-dir`` are added to it.
        parallel: how many folds run at a time. The processor's cores, and the GPUs named in
            ``CUDA_VISIBLE_DEVICES`` where there are enough, are divided among them.
        resume: go on with the cross-validation in ``folder``.
        report: takes lines for the user.

    Returns:
        What ``cross_validation.json`` holds: ``folds``, ``failed_folds``, ``clips``, and for the
        last epoch and the best validation the tables of ``summarize_folds``.

    Raises:
        RequestError: ``folder`` does not suit, or another process works in it.
        DataError: the data cannot be used for some fold.
        EscTfError: no fold could be finished. Where only some failed, they are in the result.
    """
    check_folder(folder, resume)
    check_data(plans)
    with _claim(folder):
        facts = {"folds": [plan.fold for plan in plans]}
        text = dump_experiment(experiment, facts)
        write_atomically(folder / CONFIG_FILE, lambda path: path.write_text(text, "utf-8"))
        failures = _run_folds(folder, plans, command, parallel, report)
        metrics = {plan.fold: read_finished(folder, plan) for plan in plans}
        done = {fold: found for fold, found in metrics.items() if found is not None}
        if not done:
            raise TrainingError([failures[fold] for fold in sorted(failures)])
        _check_rotation(folder, list(done))
        result = {
            "name": experiment.name,
            "seed": experiment.seed,
            "failed_folds": {str(fold): reason for fold, reason in failures.items()},
            "clips": {str(fold): found["clips"] for fold, found in done.items()},
            **summarize_folds(done),
        }
        text = json.dumps(result, indent=2, allow_nan=False) + "\n"
        write_atomically(folder / RESULT_FILE, lambda path: path.write_text(text, "utf-8"))
    return result


def _run_folds(
    folder: Path,
    plans: Sequence[FoldPlan],
    command: Sequence[str],
    parallel: int,
    report: Callable[[str], object],
) -> dict[int, str]:
    """Run what is not finished; return fold → one sentence for each that failed."""
    waiting: dict[str, FoldPlan] = {}
    for plan in plans:
        if read_finished(folder, plan) is None:
            waiting[f"fold {plan.fold}"] = plan
        else:
            report(f"fold {plan.fold}: finished before")
    failures: dict[int, str] = {}

    def take_note(task: Task, ending: Ending) -> None:
        plan = waiting[task.name]
        metrics = read_finished(folder, plan)
        if ending.exit_code == 0 and metrics is not None:
            accuracies = ", ".join(
                f"{metrics[block]['accuracy']:.4f} ({words}, epoch {metrics[block]['epoch']})"
                for block, words in SELECTIONS.values()
                if block in metrics
            )
            report(f"{task.name}: finished, test accuracy {accuracies}")
        else:
            failures[plan.fold] = (
                f"{task.name}: failed with exit code {ending.exit_code} ({ending.reason}); "
                f"see {task.log}"
            )

    tasks = [
        Task(name, _build_command(command, folder, plan), folder / f"fold_{plan.fold}.log")
        for name, plan in waiting.items()
    ]
    TaskRunner(min(parallel, max(len(tasks), 1)), report, take_note).run(tasks)
    return dict(sorted(failures.items()))


def _build_command(command: Sequence[str], folder: Path, plan: FoldPlan) -> list[str]:
    path = fold_path(folder, plan.fold)
    full = [*command, "--config", str(folder / CONFIG_FILE), "--run-dir", str(path)]
    for override in plan.overrides:
        full += ["--set", override]
    # A fold under way when the last process ended goes on from its checkpoint.
    return [*full, "--resume"] if (path / RESOLVED_FILE).is_file() else full


def fold_path(folder: Path, fold: int) -> Path:
    """The run directory of one fold."""
    return folder / f"fold_{fold}"


def read_finished(folder: Path, plan: FoldPlan) -> dict[str, Any] | None:
    """What a fold's finished run measured; None if it has not trained as long as it should."""
    try:
        text = (fold_path(folder, plan.fold) / METRICS_FILE).read_text(encoding="utf-8")
        metrics: dict[str, Any] = json.loads(text)
    except (OSError, ValueError):
        return None
    # An older result lies there while a run is lengthened.
    is_whole = metrics.get("recipe_epochs") == plan.experiment.recipe.epochs
    return metrics if is_whole and "test_last" in metrics else None


def _check_rotation(folder: Path, folds: Sequence[int]) -> None:
    """Read back what each run wrote down: no test clip was trained or validated on in its run.

    Raises:
        EscTfError: one was, or one clip was tested in two folds.
    """
    tested: dict[str, int] = {}
    for fold in folds:
        split = read_split(RunDirectory(fold_path(folder, fold)))
        test = set(split["test"])
        seen = test & {*split["train"], *split["validation"]}
        again = test & tested.keys()
        if seen or again:
            raise EscTfError(
                f"fold {fold}: test clips are also in another part or fold "
                f"({', '.join(sorted(seen | again)[:5])}); its numbers mean nothing"
            )
        tested.update(dict.fromkeys(test, fold))


@contextmanager
def _claim(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the kernel gives it back however the process ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "w")  # noqa: SIM115
    except OSError as error:
        raise RequestError(f"{folder} cannot be written ({error.strerror})") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RequestError(f"{folder} is in use by another running process") from None
        yield
