"""Asking teachers about the views of the clips that a student will train on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from esc_tf.augment.waveform import build_waveform_augment
from esc_tf.config import Experiment
from esc_tf.data import CachedClip, Split, build_pipeline, load_clips
from esc_tf.data.teaching import Teaching, Views, digest_original, make_views
from esc_tf.errors import DataError, RequestError
from esc_tf.frames import count_samples
from esc_tf.training.run_data import load_run_data
from esc_tf.training.teacher_file import (
    VIEW_AUGMENT,
    TeacherFile,
    compare_labels,
    describe_views,
)
from esc_tf.training.teachers import Teacher

_BATCH_SIZE = 32
_MOST_NAMES = 3


def teach(
    experiment: Experiment,
    teachers: Sequence[Teacher],
    *,
    num_views: int = 1,
    seed: int | None = None,
    keep_embeddings: bool = False,
    report: Callable[[str], object] = print,
) -> TeacherFile:
    """Ask teachers about all clips outside the test fold, and take the mean of their logits.

    View 0 is the clean clip; the others are augmented as the experiment says, each time by the seed
    that the file keeps. Every teacher hears them at its own rate.

    Args:
        experiment: the student's, or any other with its data, clip length, augmentation and fold.
        teachers: one, or an ensemble.
        num_views: how many views of each clip.
        seed: of the views; None: that of the experiment's augmentation.
        keep_embeddings: whether the file also holds the teachers' embeddings.
        report: takes lines for the user.

    Raises:
        RequestError: teachers of other classes or scores, or trained on clips of the test fold; or
            views that would all be the same.
        DataError: the data cannot be used, or are other sounds at a teacher's rate.
    """
    if experiment.audio.segments is not None:
        raise RequestError("audio.segments: a teacher answers for whole clips; set it to null")
    augment = experiment.augment
    moves = experiment.audio.crop == "random" or any(
        getattr(augment, key) is not None for key in VIEW_AUGMENT
    )
    if num_views > 1 and not moves:
        raise RequestError(
            f"--views {num_views}: all views would be the same, for augment has none of "
            f"{', '.join(VIEW_AUGMENT)}; configure one of them, or leave --views out"
        )
    run_data = load_run_data(experiment)
    split, label_names = run_data.split, run_data.label_names
    for line in check_unheard([(item.path, item.seen) for item in teachers], split):
        report(line)
    test = {clip.record.clip_id for clip in split.test}
    clips = [clip for clip in run_data.clips if clip.record.clip_id not in test]
    problems = [
        f"{teacher.path}: {problem}"
        for teacher in teachers
        for problem in compare_labels(teacher.facts.label_names, label_names)
    ] + [
        f"{teacher.path}: has {teacher.facts.output} scores and {teachers[0].path} "
        f"{teachers[0].facts.output} scores, which have no mean"
        for teacher in teachers[1:]
        if teacher.facts.output != teachers[0].facts.output
    ]
    if keep_embeddings:
        problems += [
            f"{teacher.path}: gives no embedding; leave --embeddings out, or take the run itself"
            for teacher in teachers
            if not teacher.in_graph
        ]
    if problems:
        raise RequestError(problems)

    if seed is None:
        seed = experiment.seed if augment.seed is None else augment.seed
    clip_ids = tuple(clip.record.clip_id for clip in clips)
    digests = tuple(digest_original(clip) for clip in clips)
    views = make_views(clip_ids, num_views, seed)
    total = np.zeros((len(clips), num_views, len(label_names)), np.float64)
    embeddings: list[np.ndarray] = []
    for teacher in teachers:
        report(
            f"{teacher.path}: {len(clips)} clips, {num_views} views at "
            f"{teacher.facts.audio.sample_rate_hz} Hz"
        )
        wanted = ("logits", "embedding") if keep_embeddings else ("logits",)
        answers = _ask(experiment, teacher, clip_ids, digests, views, wanted)
        total += answers["logits"]
        if keep_embeddings:
            embeddings.append(answers["embedding"].astype(np.float16))
    logits = (total / len(teachers)).astype(np.float32)
    if not all(bool(np.isfinite(values).all()) for values in [logits, *embeddings]):
        raise DataError("a teacher's answers are not finite; look at the model")
    _report_accuracy(logits, clips, report)
    facts: dict[str, Any] = {
        "output": teachers[0].facts.output,
        "seed": seed,
        "test_fold": experiment.data.test_fold,
        **describe_views(experiment.audio, augment),
        "teachers": [
            {
                "path": teacher.path,
                "file": str(teacher.file.absolute()),
                "sha256": teacher.digest,
                "seen": None if teacher.seen is None else list(teacher.seen),
            }
            for teacher in teachers
        ],
    }
    kept = np.concatenate(embeddings, axis=2) if keep_embeddings else None
    return TeacherFile(logits, views, clip_ids, digests, tuple(label_names), facts, kept)


def _ask(
    experiment: Experiment,
    teacher: Teacher,
    clip_ids: Sequence[str],
    digests: Sequence[str],
    views: Views,
    wanted: Sequence[str],
) -> dict[str, np.ndarray]:
    """Answers ``(clips, views, …)`` of one teacher."""
    rate_hz = teacher.facts.audio.sample_rate_hz
    audio = experiment.audio.model_copy(update={"sample_rate_hz": rate_hz})
    teacher.check_length(count_samples(audio.duration_s, rate_hz))
    clips = decode_again(experiment, rate_hz, clip_ids, digests)
    pipeline = build_pipeline(
        clips,
        audio=audio,
        num_classes=len(teacher.facts.label_names),
        batch_size=min(_BATCH_SIZE, len(clips)),
        training=False,
        augment_waveform=build_waveform_augment(experiment.augment, audio),
        teaching=Teaching(views=views),
    )
    answer = teacher.answer
    if teacher.in_graph:
        answer = tf.function(answer, reduce_retracing=True)
    views_of: dict[str, list[np.ndarray]] = {key: [] for key in wanted}
    for view in range(views.count):
        batches = [
            answer(batch["waveform"], batch["num_samples"]) for batch in pipeline.epoch(view)
        ]
        for key, rows in views_of.items():
            heard = np.concatenate([np.asarray(batch[key]) for batch in batches])
            rows.append(heard[: len(clips)])
    return {key: np.stack(rows, axis=1) for key, rows in views_of.items()}


def decode_again(
    experiment: Experiment, rate_hz: int, clip_ids: Sequence[str], digests: Sequence[str]
) -> list[CachedClip]:
    """The named clips at another rate, in their order.

    Args:
        experiment: whose data they are.
        rate_hz: the other rate.
        clip_ids: names of the clips.
        digests: what ``digest_original`` says of each at the experiment's own rate.

    Raises:
        DataError: a clip cannot be decoded, or is another sound at that rate.
    """
    audio = experiment.audio.model_copy(update={"sample_rate_hz": rate_hz})
    _, found, _ = load_clips(experiment.data, audio, experiment.seed)
    by_id = {clip.record.clip_id: clip for clip in found}
    missing = [name for name in clip_ids if name not in by_id]
    if missing:
        raise DataError(f"{missing[0]}: cannot be decoded at {rate_hz} Hz; leave the clip out")
    clips = [by_id[name] for name in clip_ids]
    for clip, digest in zip(clips, digests, strict=True):
        if digest_original(clip) != digest:
            raise DataError(
                f"{clip.record.clip_id}: is another sound at {rate_hz} Hz, as generated ones are; "
                "use files, or a teacher and a student of one rate"
            )
    return clips


def check_unheard(teachers: Sequence[tuple[str, Sequence[str] | None]], split: Split) -> list[str]:
    """Make sure that no teacher knows the clips that will test its student.

    Args:
        teachers: path and names of the clips that it trained or was selected on; None: not known.
        split: the student's clips.

    Returns:
        Lines for the user: what is not known, and whose validation is flattered.

    Raises:
        RequestError: a teacher trained on clips of the test part.
    """
    problems, lines = [], []
    for path, seen in teachers:
        if seen is None:
            lines.append(
                f"note: what {path} was trained on is not known; if clips of the test part were "
                "among it, the test means nothing"
            )
            continue
        known = set(seen)
        test, validation = (
            sorted(clip.record.clip_id for clip in part if clip.record.clip_id in known)
            for part in (split.test, split.validation)
        )
        if test:
            shown = ", ".join(test[:_MOST_NAMES]) + (", …" if len(test) > _MOST_NAMES else "")
            problems.append(
                f"the teacher {path} was trained on {len(test)} of the "
                f"{len(split.test)} clips that test the student ({shown}); take one trained with "
                "the same data.test_fold, as {test_fold} in a path says it"
            )
        if validation:
            lines.append(
                f"note: {path} was trained on {len(validation)} of the {len(split.validation)} "
                "clips that validate the student; validation flatters it, the test does not"
            )
    if problems:
        raise RequestError(problems)
    return lines


def _report_accuracy(
    logits: np.ndarray, clips: Sequence[CachedClip], report: Callable[[str], object]
) -> None:
    labels = np.array([clip.record.label_id for clip in clips])
    hits = logits.argmax(axis=2) == labels[:, np.newaxis]
    line = f"right about {hits[:, 0].mean():.2%} of the clean clips"
    if hits.shape[1] > 1:
        line += f" and about {hits[:, 1:].mean():.2%} of their augmented views"
    report(line)
