"""The table of data sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from esc_tf.config import AudioConfig, Esc50DataConfig, SyntheticDataConfig
from esc_tf.data.esc50 import load_esc50
from esc_tf.data.records import DataSet
from esc_tf.data.synthetic import load_synthetic
from esc_tf.registry import look_up

DATA_SETS: dict[str, Callable[[Any, AudioConfig, int], DataSet]] = {
    "esc50": load_esc50,
    "synthetic": load_synthetic,
}


def load_data_set(
    config: Esc50DataConfig | SyntheticDataConfig, audio: AudioConfig, seed: int
) -> DataSet:
    """Load the records of the data set that ``config.name`` names; no audio is opened.

    Args:
        config: the section ``data`` of an experiment.
        audio: the section ``audio``; generated clips have its rate and duration.
        seed: the experiment's seed; it decides generated clips.

    Raises:
        DataError: the data set cannot be used as asked.
    """
    return look_up(DATA_SETS, config.name, "data set")(config, audio, seed)
