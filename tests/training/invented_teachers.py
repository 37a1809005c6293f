"""Teachers and files of their answers without any training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from esc_tf.config import Experiment, dump_experiment
from esc_tf.data import CachedClip
from esc_tf.data.teaching import digest_original, make_views
from esc_tf.tasks import Classifier, build_classifier
from esc_tf.training.split_file import describe_split, split_experiment
from esc_tf.training.teacher_file import TeacherFile, describe_views


def invent_answers(
    experiment: Experiment,
    clips: Sequence[CachedClip],
    label_names: Sequence[str],
    num_views: int = 2,
    **facts: Any,
) -> TeacherFile:
    """A file's content with random logits."""
    shape = (len(clips), num_views, len(label_names))
    clip_ids = tuple(clip.record.clip_id for clip in clips)
    binary = experiment.recipe.loss == "binary_crossentropy"
    return TeacherFile(
        logits=np.random.default_rng(0).normal(size=shape).astype(np.float32),
        views=make_views(clip_ids, num_views, seed=0),
        clip_ids=clip_ids,
        clip_digests=tuple(digest_original(clip) for clip in clips),
        label_names=tuple(label_names),
        facts={
            "output": "sigmoid" if binary else "softmax",
            **describe_views(experiment.audio, experiment.augment),
            "teachers": [{"path": "nobody", "file": "/nowhere", "sha256": "0", "seen": []}],
            **facts,
        },
    )


def build_teacher(experiment: Experiment, label_names: Sequence[str], seed: int = 1) -> Classifier:
    """A classifier that was never trained, but tells clips apart."""
    keras.utils.set_random_seed(seed)
    model = build_classifier(experiment, label_names)
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(8, experiment.num_samples)).astype(np.float32)
    noise *= 0.1 ** rng.uniform(0.0, 2.0, (8, 1)).astype(np.float32)
    last = model.head.get_layer("logits")
    kernel, bias = last.get_weights()
    spread = np.std(model(noise)["logits"], axis=0)
    last.set_weights([2.0 * kernel / np.maximum(spread, 1e-3), bias])
    mean = np.mean(model(noise)["logits"], axis=0)
    last.set_weights([last.get_weights()[0], bias - mean])
    return model


def write_run(
    folder: Path,
    experiment: Experiment,
    clips: Sequence[CachedClip],
    label_names: Sequence[str],
    seed: int = 1,
) -> Path:
    """What of a finished run a teacher is made of: model, configuration and split."""
    folder.mkdir(parents=True)
    build_teacher(experiment, label_names, seed).save(folder / "model.keras")
    (folder / "resolved.yaml").write_text(dump_experiment(experiment, {}), encoding="utf-8")
    split = describe_split(split_experiment(experiment, clips))
    (folder / "split.json").write_text(json.dumps(split), encoding="utf-8")
    return folder
