"""The front ends of a run, phase by phase, and what each makes of the same clips."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from esc_tf.config import Experiment
from esc_tf.data import CachedClip
from esc_tf.errors import RequestError
from esc_tf.evaluation.report.findings import Sound, find_clips
from esc_tf.evaluation.report.sections.network import choose_evenly
from esc_tf.frontends import MelInit, list_sublayers
from esc_tf.interpretation.front_end_kernels import build_start
from esc_tf.tasks.classifier import load_classifier
from esc_tf.training.run_directory import RunDirectory

_PHASE = re.compile(r"phase_(\d+)_(.+)")


@dataclass(frozen=True)
class PhaseFrontEnd:
    """A front end as one phase left it.

    Attributes:
        name: the phase; of a run without phases the run's folder.
        front_end: the layer.
    """

    name: str
    front_end: keras.layers.Layer


def load_front_ends(folder: Path) -> list[PhaseFrontEnd]:
    """The front ends of a run's phases in their order, or of its one model.

    Args:
        folder: a run directory.

    Raises:
        RequestError: no phase has a stored model, or no front end among them has weights.
        CheckpointError: a model is damaged.
    """
    numbered = [
        (int(found[1]), found[2], path)
        for path in folder.glob("phase_*")
        if (found := _PHASE.fullmatch(path.name)) and RunDirectory(path).model_path.is_file()
    ]
    places = [(name, path) for _, name, path in sorted(numbered)] or [(folder.name, folder)]
    phases = [PhaseFrontEnd(name, load_classifier(path).front_end) for name, path in places]
    if not any(list_sublayers(phase.front_end) for phase in phases):
        raise RequestError(
            f"{folder}: its front end ({type(phases[-1].front_end).__name__}) has no weights, so "
            "nothing was learned; name a run with mel_init, heurinet or mstnet"
        )
    return phases


def find_start(phases: Sequence[PhaseFrontEnd]) -> PhaseFrontEnd | None:
    """What the last phase's front end is compared with.

    That of ``mel_init`` is the mel spectrogram it began as. Of others the random start is not
    stored: then it is the first phase that has the same layers, and None where that is the last.
    """
    last = phases[-1].front_end
    if isinstance(last, MelInit):
        return PhaseFrontEnd("start", build_start(last))
    same = [phase for phase in phases if type(phase.front_end) is type(last)]
    return same[0] if same[0] is not phases[-1] else None


def choose_clips(experiment: Experiment, num_clips: int) -> list[CachedClip]:
    """One clip each of so many classes, of those that the run tested on (else validated on).

    Raises:
        DataError: the data is gone or has changed.
    """
    part = "validation" if experiment.data.test_fold is None else "test"
    first: dict[int, CachedClip] = {}
    for clip in find_clips(experiment, part):
        first.setdefault(clip.record.label_id, clip)
    return choose_evenly([first[label_id] for label_id in sorted(first)], num_clips)


def extract_features(front_end: Any, sounds: Sequence[Sound]) -> list[np.ndarray]:
    """Each sound's features ``(time, frequency)``, as the backbone would get them."""
    return [
        keras.ops.convert_to_numpy(
            front_end(sound.waveform[np.newaxis], np.array([sound.num_samples], np.int32))
        )[0, :, :, 0]
        for sound in sounds
    ]


def correlate(features: np.ndarray, others: np.ndarray) -> float | None:
    """Pearson's correlation of two spectrograms of one size; None: of others, or constant ones."""
    if features.shape != others.shape or not features.std() or not others.std():
        return None
    return float(np.corrcoef(features.ravel(), others.ravel())[0, 1])
