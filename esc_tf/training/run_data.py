"""The clips of a run: loaded and split once, then heard part by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from esc_tf.config import Experiment
from esc_tf.data import (
    BadClip,
    CachedClip,
    ClipPipeline,
    EpochPart,
    Split,
    build_pipeline,
    cut_split,
    load_clips,
)
from esc_tf.training.split_file import split_experiment


@dataclass(frozen=True, eq=False)
class RunData:
    """What a run hears.

    Attributes:
        label_names: name of each class.
        clips: all good clips.
        bad: clips that were skipped.
        split: the clips by their use.
        heard: the same in segments where ``audio.segments`` asks for them, else ``split``.
    """

    label_names: tuple[str, ...]
    clips: Sequence[CachedClip]
    bad: Sequence[BadClip]
    split: Split
    heard: Split


def load_run_data(experiment: Experiment) -> RunData:
    """Load, split and cut the clips of an experiment.

    Raises:
        EscTfError: see ``load_clips`` and ``split_experiment``.
    """
    data_set, clips, bad = load_clips(experiment.data, experiment.audio, experiment.seed)
    split = split_experiment(experiment, clips)
    heard = cut_split(split, experiment.audio)
    return RunData(data_set.label_names, clips, bad, split, heard)


class HeardParts:
    """Batches of a run's parts as they are, without augmentation; each part is traced once.

    Args:
        data: the run's clips.
        experiment: waveform format and batch size.
    """

    def __init__(self, data: RunData, experiment: Experiment) -> None:
        self._data, self._experiment = data, experiment
        self._pipelines: dict[str, ClipPipeline] = {}

    def list_clips(self, part: str) -> Sequence[CachedClip]:
        """The clips or segments of ``train``, ``validation`` or ``test``."""
        clips: Sequence[CachedClip] = getattr(self._data.heard, part)
        return clips

    def batch(self, part: str, share: EpochPart) -> tf.data.Dataset:
        """One worker's share of the batches of a part, in order; see ``ClipPipeline``."""
        if part not in self._pipelines:
            self._pipelines[part] = build_pipeline(
                self.list_clips(part),
                audio=self._experiment.audio,
                num_classes=len(self._data.label_names),
                batch_size=self._experiment.recipe.batch_size,
                training=False,
            )
        return self._pipelines[part].epoch(part=share)
