"""One experiment from configuration to a finished run directory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from esc_tf.augment.features import build_feature_draw
from esc_tf.augment.outliers import build_batch_augment
from esc_tf.augment.waveform import build_waveform_augment
from esc_tf.config import Experiment
from esc_tf.config.recipe import RecipeConfig
from esc_tf.data import ClipPipeline, Split, build_pipeline
from esc_tf.evaluation.run_files import METRICS_FILE
from esc_tf.tasks.classifier import build_classifier
from esc_tf.training.callbacks import build_callbacks
from esc_tf.training.checkpoints import BEST_FILE, find_checkpoints, read_checkpoint
from esc_tf.training.classification import Classification
from esc_tf.training.devices import (
    build_devices,
    check_agreement,
    check_shared,
    explain_lost_workers,
    synchronize_batch_norm,
)
from esc_tf.training.distillation import (
    Distillation,
    find_known_digest,
    prepare_distillation,
)
from esc_tf.training.embedding_match import build_embedding_match
from esc_tf.training.fine_tuning import (
    Source,
    find_source,
    keep_statistics,
    prepare_fine_tuning,
    unfreeze,
)
from esc_tf.training.loop import TrainingLoop
from esc_tf.training.optimizers import build_optimizer
from esc_tf.training.run_data import HeardParts, RunData, load_run_data
from esc_tf.training.run_directory import (
    RunDirectory,
    collect_run_facts,
    digest_experiment,
)
from esc_tf.training.spectrogram_forcing import (
    SpectrogramForcing,
    check_target,
    find_known_range,
)
from esc_tf.training.split_file import PARTS, record_split
from esc_tf.training.termination import StopSignal


@dataclass(frozen=True)
class RunResult:
    """What a finished run has to say.

    Attributes:
        metrics: what ``metrics.json`` holds.
        history: the lines of ``metrics.jsonl``.
    """

    metrics: dict[str, Any]
    history: list[dict[str, float]]


@explain_lost_workers
def train_experiment(
    experiment: Experiment,
    run: RunDirectory,
    *,
    data: RunData | None = None,
    resume: bool = False,
    stop: StopSignal | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    report: Callable[[str], object] = print,
) -> RunResult:
    """Train, select, evaluate and write everything into ``run``.

    Args:
        experiment: the whole configuration.
        run: the run directory; claimed here, released at the end.
        data: the clips, as ``load_run_data`` gives them; None: they are loaded here.
        resume: go on from the newest checkpoint in ``run``.
        stop: SIGTERM, as the command catches it; None: it is left as it is.
        callbacks: Keras callbacks beside those of the recipe.
        report: takes lines for the user.

    Raises:
        EscTfError: data, devices, run directory or training fail; see the message.
    """
    run.check(resume)
    keras.utils.set_random_seed(experiment.seed)
    devices = build_devices(experiment.distribution, stop=stop, report=report)
    strategy, workers = devices.strategy, devices.workers
    source = _find_source(experiment, run, resume)
    # Data before the run directory: a request that cannot be met leaves nothing behind.
    data = load_run_data(experiment) if data is None else data
    split, heard = data.split, data.heard
    recipe, label_names = experiment.recipe, data.label_names
    with strategy.scope():
        distillation = _find_teacher(experiment, split, label_names, run, resume)
    training = _training_pipeline(experiment, heard, len(label_names), distillation)

    check_agreement(
        workers,
        {
            "configuration": digest_experiment(experiment),
            "clips": [clip.content_digest for clip in data.clips],
            "recipe.fine_tuning.source": source and source.digest,
            "recipe.distillation": distillation.digest,
            "--resume": resume,
        },
    )
    with strategy.scope():
        model = build_classifier(experiment, label_names)
        tuning = prepare_fine_tuning(model, recipe.fine_tuning, source)
        match = build_embedding_match(model, distillation.embedding_units)
        left_behind = [] if match is None else match.variables
        rate_factors = tuning.rate_factors
        if rate_factors is not None:
            rate_factors = [*rate_factors, *(1.0 for _ in left_behind)]
        parts = HeardParts(data, experiment)
        objective: Classification | SpectrogramForcing
        if recipe.spectrogram_forcing is None:
            ask_teacher = distillation.ask_teacher
            objective = Classification(
                model, experiment, label_names, workers, parts, ask_teacher, match
            )
        else:
            known = find_known_range(run.read_resolved()[1]) if resume else None
            objective = SpectrogramForcing(model, experiment, workers, parts, known)
        optimizer = build_optimizer(
            recipe, training.num_batches, experiment.distribution.precision, rate_factors
        )
        optimizer.build(objective.trained_variables)
    for line in (*tuning.lines, *distillation.lines):
        report(line)
    run.claim(resume, writes=workers.is_chief)
    try:
        facts = collect_run_facts(devices.description, label_names)
        if source is not None:
            facts["fine_tuning"] = {"source": str(source.file), "sha256": source.digest}
        if distillation.facts:
            facts["distillation"] = dict(distillation.facts)
        facts.update(objective.facts)
        if resume:
            first = run.read_resolved()[1]
            now = {key: facts[key] for key in ("started", "commit", "versions")}
            facts = {**first, "resumed": [*first.get("resumed", []), now]}
        record_split(run, split, resume)
        run.write_resolved(experiment, facts)
        check_shared(workers, run.resolved_path)
        loop = TrainingLoop(
            model=model,
            optimizer=optimizer,
            workers=workers,
            recipe=recipe,
            run=run,
            train_step=objective.build_train_step(optimizer),
            validate=objective.validate,
            clip_ids=[clip.record.clip_id for clip in heard.train],
            read_patience_s=experiment.data.read_patience_s,
            stop=stop,
            callbacks=[*build_callbacks(recipe, run.path, workers.is_chief), *callbacks],
            left_behind=left_behind,
        )
        if resume:
            loop.resume()
            where = f", step {loop.progress.steps}" if loop.progress.steps else ""
            report(f"resumed after epoch {loop.progress.epoch}{where} of {recipe.epochs}")
        started = time.monotonic()
        synchronized = experiment.distribution.synchronized_batch_norm
        with synchronize_batch_norm(model, synchronized), keep_statistics(tuning.kept_statistics):
            progress = loop.train(training.epoch, training.num_batches)
        unfreeze(tuning)
        seconds = round(time.monotonic() - started, 1)

        # The test part is met here for the first time. Epoch → measures, none taken twice.
        tests: dict[int, dict[str, Any]] = {}
        if split.test:
            tests[progress.epoch] = objective.measure("test")
        selected = loop.load_selected()
        metrics: dict[str, Any] = {
            "selected_epoch": selected,
            "trained_epochs": progress.epoch,
            "recipe_epochs": recipe.epochs,
            "seconds_this_process": seconds,
            "clips": {part: len(getattr(split, part)) for part in PARTS},
            "dropped_for_leaks": [clip.record.clip_id for clip in split.dropped],
            "skipped_files": [
                {"clip": item.record.clip_id, "reason": item.reason} for item in data.bad
            ],
        }
        if experiment.audio.segments is not None:
            metrics["segments"] = {part: len(getattr(heard, part)) for part in PARTS}
        measured: dict[str, Any] = {}
        if split.validation:
            measured["validation"] = objective.measure("validation")
        run.write_model(model.save)
        if workers.is_chief:
            objective.write_examples(run.path, "validation" if split.validation else "train")
        if split.test:
            if selected not in tests:
                tests[selected] = objective.measure("test")
            best = _load_best(recipe, run, model)
            if best is not None and best not in tests:
                tests[best] = objective.measure("test")
            measured["test"] = tests[selected]
            measured["test_last"] = {"epoch": progress.epoch, **tests[progress.epoch]}
            if best is not None:
                measured["test_best"] = {"epoch": best, **tests[best]}
        metrics.update(objective.place(measured))
        run.write_json(METRICS_FILE, metrics)
        workers.part()
        return RunResult(metrics, progress.history)
    finally:
        run.release()


def _find_source(experiment: Experiment, run: RunDirectory, resume: bool) -> Source | None:
    """What the weights come from; None: from nothing, or from a checkpoint of this run."""
    config = experiment.recipe.fine_tuning
    if config is None or config.source is None:
        return None
    if not resume:
        return find_source(config.source)
    if run.checkpoint_path.is_dir() and find_checkpoints(run.checkpoint_path):
        return None
    facts = run.read_resolved()[1]
    return find_source(config.source, facts.get("fine_tuning", {}).get("sha256"))


def _find_teacher(
    experiment: Experiment,
    split: Split,
    label_names: Sequence[str],
    run: RunDirectory,
    resume: bool,
) -> Distillation:
    """The teacher; of a run that goes on, the one with which it began."""
    facts = run.read_resolved()[1] if resume else {}
    return prepare_distillation(experiment, split, label_names, find_known_digest(facts))


def _load_best(recipe: RecipeConfig, run: RunDirectory, model: keras.Model) -> int | None:
    """Load the weights of the best validation and return their epoch; None: none were kept."""
    path = run.checkpoint_path / BEST_FILE
    if not recipe.monitor.startswith("validation") or not path.is_file():
        return None
    return int(read_checkpoint(path, {"model": model.variables})["epoch"])


def _describe_segments(experiment: Experiment, heard: Split) -> list[str]:
    config = experiment.audio.segments
    if config is None:
        return []
    counts = ", ".join(f"{len(getattr(heard, part))} {part}" for part in PARTS)
    return [f"segments of {config.num_samples} samples: {counts}"]


def _training_pipeline(
    experiment: Experiment, heard: Split, num_classes: int, distillation: Distillation
) -> ClipPipeline:
    augment = experiment.augment
    return build_pipeline(
        heard.train,
        audio=experiment.audio,
        num_classes=num_classes,
        batch_size=experiment.recipe.batch_size,
        training=True,
        seed=experiment.seed,
        augment_seed=augment.seed,
        augment_waveform=build_waveform_augment(augment, experiment.audio),
        draw=build_feature_draw(augment),
        mix_batch=build_batch_augment(augment, experiment.audio, experiment.recipe),
        teaching=distillation.teaching,
    )


def describe_start(
    experiment: Experiment,
    run: RunDirectory,
    *,
    data: RunData | None = None,
    resume: bool = False,
) -> str:
    """Check everything that a training would meet first, and say in lines what it would do.

    Decoded audio is cached; nothing else is written.

    Args:
        experiment: the whole configuration.
        run: where it would go.
        data: the clips; None: they are loaded here.
        resume: whether it would go on with what is there.

    Raises:
        EscTfError: as ``train_experiment`` would at its start.
    """
    devices = build_devices(experiment.distribution, connect=False)
    source = _find_source(experiment, run, resume)
    data = load_run_data(experiment) if data is None else data
    split, heard, label_names = data.split, data.heard, data.label_names
    distillation = _find_teacher(experiment, split, label_names, run, resume)
    training = _training_pipeline(experiment, heard, len(label_names), distillation)
    model = build_classifier(experiment, label_names)
    tuning = prepare_fine_tuning(model, experiment.recipe.fine_tuning, source)
    if experiment.recipe.spectrogram_forcing is not None:
        check_target(model, experiment)
    parameters = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    recipe = experiment.recipe
    return "\n".join(
        [
            f"experiment: {experiment.name}, seed {experiment.seed}",
            f"classes: {len(label_names)} ({', '.join(label_names)})",
            f"clips: {len(split.train)} train, {len(split.validation)} validation, "
            f"{len(split.test)} test; {len(data.bad)} bad files skipped, "
            f"{len(split.dropped)} leaks dropped",
            *_describe_segments(experiment, heard),
            f"model: {experiment.model.name}, {parameters:,} trainable parameters",
            *tuning.lines,
            *distillation.lines,
            f"training: up to {recipe.epochs} epochs of {training.num_batches} steps, "
            f"batch {recipe.batch_size}",
            f"devices: {devices.description['strategy']} on {devices.description['devices']}",
        ]
    )
