"""A student's teacher: found, checked against the student's data, and brought to where it is asked.

Everything is checked before a run directory is made. A run needs its teacher again when it is
resumed, and it must be the same one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from esc_tf.augment.waveform import build_waveform_augment
from esc_tf.config import Experiment
from esc_tf.config.recipe import DistillationConfig
from esc_tf.data import CachedClip, Split
from esc_tf.data.teaching import SecondHearing, Teaching, digest_original
from esc_tf.errors import RequestError
from esc_tf.frames import count_samples
from esc_tf.tasks.losses import soften
from esc_tf.training.embedding_match import standardize_embeddings
from esc_tf.training.supervised import AskTeacher
from esc_tf.training.teacher_file import check_teacher_file, compare_labels, read_teacher_file
from esc_tf.training.teachers import Teacher, digest_model, find_model_file, load_teacher
from esc_tf.training.teaching import check_unheard, decode_again

_KEY = "recipe.distillation"


@dataclass(frozen=True)
class Distillation:
    """What a teacher does to a training.

    Attributes:
        teaching: what the training pipeline adds for it.
        ask_teacher: how the training step gets its probabilities and, behind them, its embedding
            of ``embedding_units``; None: there is no teacher.
        embedding_units: 0: there is no embedding.
        facts: for ``resolved.yaml``.
        lines: what to tell the user.
    """

    teaching: Teaching | None = None
    ask_teacher: AskTeacher | None = None
    embedding_units: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    lines: Sequence[str] = ()

    @property
    def digest(self) -> str | None:
        """SHA-256 of the file of answers, or of the teacher."""
        return self.facts.get("sha256")


def prepare_distillation(
    experiment: Experiment,
    split: Split,
    label_names: Sequence[str],
    known_digest: str | None = None,
) -> Distillation:
    """Find the teacher of ``recipe.distillation``; call it under the strategy's scope.

    Args:
        experiment: the student's.
        split: its clips.
        label_names: its classes.
        known_digest: what the teacher was when the run began; None: the run begins now.

    Raises:
        RequestError: there is no such file; it has changed since the run began; it is for other
            classes, clips, views or scores; or the teacher trained on clips that test the student.
        CheckpointError: it is damaged.
        DataError: the clips cannot be decoded at the teacher's rate.
    """
    config = experiment.recipe.distillation
    if config is None:
        return Distillation()
    option = "targets" if config.mode == "offline" else "teacher"
    path = experiment.fill_placeholders(getattr(config, option))
    file = find_model_file(path)
    if not file.exists():
        remedy = "make it with python -m esc_tf.distill teach, or name another"
        if option == "teacher":
            remedy = "name a .keras file or a finished run's directory"
        raise RequestError(f"{_KEY}.{option}: {path}: no such file; {remedy}")
    digest = digest_model(file)
    if known_digest not in (None, digest):
        raise RequestError(
            f"{_KEY}.{option}: {file} is not what it was when the run began (SHA-256 {digest}, "
            f"then {known_digest}); bring the first one back or start a new run"
        )
    facts = {"mode": config.mode, "path": path, "sha256": digest}
    prepare = _prepare_offline if config.mode == "offline" else _prepare_online
    return prepare(experiment, config, path, split, label_names, facts)


def _prepare_offline(
    experiment: Experiment,
    config: DistillationConfig,
    path: str,
    split: Split,
    label_names: Sequence[str],
    facts: dict[str, Any],
) -> Distillation:
    content = read_teacher_file(path)
    rows = check_teacher_file(content, path, experiment, label_names, split.train)
    teachers = content.facts.get("teachers", [])
    notes = check_unheard([(item["path"], item["seen"]) for item in teachers], split)
    views = content.views
    targets = soften(content.logits[rows], experiment.recipe.loss, config.temperature).numpy()
    num_units = 0
    if config.embedding_weight:
        if content.embeddings is None:
            raise RequestError(
                f"{_KEY}.targets: {path} holds no embeddings, which embedding_weight needs; teach "
                "again with --embeddings, or set it to 0"
            )
        num_units = content.embeddings.shape[2]
        units = standardize_embeddings(content.embeddings[rows])
        targets = np.concatenate([targets, units], axis=2)
    bound = None
    heard = "the clean clips, whatever the student hears"
    if views.count > 1:
        bound = type(views)(views.seeds[rows], views.is_clean)
        heard = f"{views.count} views, which the student hears as well"
    names = ", ".join(item["path"] for item in teachers)
    line = f"distillation: {path} ({names}) about {heard}; {_describe_loss(config)}"
    return Distillation(
        Teaching(views=bound, targets=targets),
        lambda batch: batch["taught"],
        num_units,
        {
            **facts,
            "teachers": [{key: item[key] for key in ("path", "sha256")} for item in teachers],
        },
        [line, *notes],
    )


def _prepare_online(
    experiment: Experiment,
    config: DistillationConfig,
    path: str,
    split: Split,
    label_names: Sequence[str],
    facts: dict[str, Any],
) -> Distillation:
    file = find_model_file(path)
    if file.is_dir() or file.suffix == ".tflite":
        raise RequestError(
            f"{_KEY}.teacher: {path}: only a .keras file or a run can be asked while a student "
            "trains; let others teach beforehand (python -m esc_tf.distill teach)"
        )
    teacher = load_teacher(path)
    problems = compare_labels(teacher.facts.label_names, label_names)
    if teacher.loss != experiment.recipe.loss:
        problems.append(
            f"has {teacher.facts.output} scores, and recipe.loss is {experiment.recipe.loss}; "
            f"{teacher.loss} fits"
        )
    if problems:
        raise RequestError([f"{_KEY}.teacher: {path} {problem}" for problem in problems])
    notes = check_unheard([(path, teacher.seen)], split)
    rate_hz = teacher.facts.audio.sample_rate_hz
    teacher.check_length(count_samples(experiment.audio.duration_s, rate_hz))
    second, keys = None, ("waveform", "num_samples")
    if rate_hz != experiment.audio.sample_rate_hz:
        second, keys = (
            _hear_again(experiment, teacher, split),
            (
                "teacher_waveform",
                "teacher_num_samples",
            ),
        )

    def ask_teacher(batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
        logits = teacher.hear(*(batch[key] for key in keys))
        return soften(logits, experiment.recipe.loss, config.temperature)

    line = (
        f"distillation: {path} hears every batch with the student, at {rate_hz} Hz; "
        f"{_describe_loss(config)}"
    )
    return Distillation(Teaching(second=second), ask_teacher, facts=facts, lines=[line, *notes])


def _hear_again(experiment: Experiment, teacher: Teacher, split: Split) -> SecondHearing:
    """The training clips at the teacher's rate."""
    rate_hz = teacher.facts.audio.sample_rate_hz
    if any(type(clip) is not CachedClip for clip in split.train):
        raise RequestError(
            f"{_KEY}.teacher: {teacher.path} hears at {rate_hz} Hz and the student at "
            f"{experiment.audio.sample_rate_hz} Hz, which needs clips that are decoded into the "
            "cache; use such a data set, or a teacher of the same rate"
        )
    audio = experiment.audio.model_copy(update={"sample_rate_hz": rate_hz})
    names = [clip.record.clip_id for clip in split.train]
    digests = [digest_original(clip) for clip in split.train]
    clips = decode_again(experiment, rate_hz, names, digests)
    return SecondHearing(clips, audio, build_waveform_augment(experiment.augment, audio))


def _describe_loss(config: DistillationConfig) -> str:
    line = (
        f"{config.label_weight:g} x the labels' loss + {1.0 - config.label_weight:g} x the "
        f"teacher's at temperature {config.temperature:g}"
    )
    if config.embedding_weight:
        line += f" + {config.embedding_weight:g} x the embedding's"
    return line


def find_known_digest(facts: Mapping[str, Any]) -> str | None:
    """The teacher's digest as ``resolved.yaml`` has it."""
    found = facts.get("distillation") or {}
    return found.get("sha256")
