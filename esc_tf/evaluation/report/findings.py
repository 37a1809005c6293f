"""What a run's model says of its clips, computed again from the stored model and the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from esc_tf.config import Experiment
from esc_tf.data import (
    CachedClip,
    build_dataset,
    cut_clips,
    load_clips,
    load_data_set,
    split_clips,
    take_one_each,
)
from esc_tf.errors import DataError, EscTfError
from esc_tf.evaluation.predictions import build_predict_step, predict_data_set
from esc_tf.evaluation.voting import count_votes
from esc_tf.evaluation.workers import Workers
from esc_tf.tasks.classifier import Classifier


@dataclass(frozen=True)
class Findings:
    """Clips and what the model says of each, in the same order.

    Attributes:
        part: ``test`` or ``validation``.
        clips: the clips.
        label_ids: ``(clips,)`` their true classes.
        probabilities: ``(clips, classes)``.
    """

    part: str
    clips: tuple[CachedClip, ...]
    label_ids: np.ndarray
    probabilities: np.ndarray

    @property
    def predicted_ids(self) -> np.ndarray:
        """``(clips,)`` the class of the largest probability."""
        return self.probabilities.argmax(axis=1)

    @property
    def errors(self) -> list[int]:
        """Positions of the misclassified clips, the most confident error first."""
        wrong = np.flatnonzero(self.predicted_ids != self.label_ids)
        confidence = self.probabilities.max(axis=1)[wrong]
        return wrong[np.argsort(-confidence, kind="stable")].tolist()


@dataclass(frozen=True)
class Sound:
    """A clip's waveform as the model hears it.

    Attributes:
        waveform: float32 ``(samples,)``, padded or cropped to the experiment's length.
        num_samples: samples before the padding.
    """

    waveform: np.ndarray
    num_samples: int


def find_clips(experiment: Experiment, part: str) -> tuple[CachedClip, ...]:
    """Load the clips that a run tested or validated on; decoded audio comes from the cache.

    Args:
        experiment: the run's configuration.
        part: ``test`` or ``validation``.

    Raises:
        DataError: the data is gone or has changed.
    """
    data = experiment.data
    data_set = load_data_set(data, experiment.audio, experiment.seed)
    if part == "test":
        # Only these are decoded, where the cache does not hold them any more.
        chosen = tuple(record for record in data_set.records if record.fold == data.test_fold)
        if not chosen:
            raise DataError(f"fold {data.test_fold}, which the run tested on, does not exist")
        data_set = replace(data_set, records=chosen)
    clips = load_clips(data, experiment.audio, experiment.seed, data_set)[1]
    if part == "test":
        return tuple(clips)
    return split_clips(
        clips,
        test_fold=data.test_fold,
        validation=data.validation,
        seed=experiment.seed,
        on_leak=data.on_leak,
    ).validation


def classify_clips(
    model: Classifier, experiment: Experiment, part: str, clips: Sequence[CachedClip]
) -> Findings:
    """Run the model over clips.

    Raises:
        DataError: there are no clips, or their classes are not the model's.
        EscTfError: the model's probabilities are not finite.
    """
    num_classes = len(model.label_names)
    for clip in clips:
        record = clip.record
        if (
            record.label_id >= num_classes
            or model.label_names[record.label_id] != record.label_name
        ):
            raise DataError(
                f"class {record.label_name} of clip {record.clip_id} is not class "
                f"{record.label_id} of the model; the data has changed since the run"
            )
    heard = cut_clips(clips, experiment.audio)
    # One device is enough for one pass, whatever the run was trained on.
    workers = Workers(tf.distribute.get_strategy())
    found = predict_data_set(
        build_predict_step(model, workers.strategy),
        _read_batches(heard, experiment, num_classes, experiment.recipe.batch_size),
        workers,
    )
    if not np.isfinite(found.probabilities).all():
        raise EscTfError("the model's probabilities are not finite; its weights are unusable")
    if experiment.audio.segments is not None:
        votes = count_votes(found, heard)
        return Findings(part, tuple(clips), votes.label_ids, votes.probabilities)
    return Findings(
        part=part,
        clips=tuple(clips),
        label_ids=found.labels.argmax(axis=1),
        probabilities=found.probabilities.astype(np.float64),
    )


def read_sounds(clips: Sequence[CachedClip], experiment: Experiment) -> list[Sound]:
    """Read clips as the model hears them; of a clip in segments the first that is not silent."""
    clips = take_one_each(clips, experiment.audio)
    num_classes = 1 + max((clip.record.label_id for clip in clips), default=0)
    return [
        Sound(batch["waveform"][0].numpy(), int(batch["num_samples"][0]))
        for batch in (_read_batches(clips, experiment, num_classes, 1) if clips else ())
    ]


def _read_batches(
    clips: Sequence[CachedClip], experiment: Experiment, num_classes: int, batch_size: int
) -> tf.data.Dataset:
    return build_dataset(
        clips,
        audio=experiment.audio,
        num_classes=num_classes,
        batch_size=batch_size,
        training=False,
    )
