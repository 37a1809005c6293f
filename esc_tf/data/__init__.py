"""From labelled sounds to batches: records, folds, the cache of decoded audio and tf.data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esc_tf.data.api import (
        DATA_SETS,
        BadClip,
        CachedClip,
        ClipPipeline,
        DataSet,
        DecodedCache,
        EpochPart,
        Record,
        Segment,
        Split,
        SynthesisKey,
        build_dataset,
        build_pipeline,
        cut_clips,
        cut_split,
        default_cache_dir,
        fit_length,
        load_clips,
        load_data_set,
        load_known_classes,
        load_known_data_set,
        load_waveform,
        read_waveform,
        split_clips,
        take_one_each,
    )

__all__ = [
    "DATA_SETS",
    "BadClip",
    "CachedClip",
    "ClipPipeline",
    "DataSet",
    "EpochPart",
    "DecodedCache",
    "Record",
    "Segment",
    "Split",
    "SynthesisKey",
    "build_dataset",
    "build_pipeline",
    "cut_clips",
    "cut_split",
    "default_cache_dir",
    "fit_length",
    "load_clips",
    "load_data_set",
    "load_known_classes",
    "load_known_data_set",
    "load_waveform",
    "read_waveform",
    "split_clips",
    "take_one_each",
]


def __getattr__(name: str) -> Any:
    """Load what is asked for, so that ``python -m esc_tf.data`` answers before TensorFlow loads."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import esc_tf.data.api as api

    return getattr(api, name)
