"""Everything that `esc_tf.data` offers; importing it loads TensorFlow."""

from esc_tf.data.batches import build_dataset, build_pipeline, load_waveform
from esc_tf.data.clips import load_clips
from esc_tf.data.decoded_cache import DecodedCache, default_cache_dir, read_waveform
from esc_tf.data.esc50 import load_known_classes
from esc_tf.data.factory import DATA_SETS, load_data_set, load_known_data_set
from esc_tf.data.folds import Split, split_clips
from esc_tf.data.length import fit_length
from esc_tf.data.pipeline import ClipPipeline, EpochPart
from esc_tf.data.records import (
    BadClip,
    CachedClip,
    DataSet,
    Record,
    Segment,
    SynthesisKey,
)
from esc_tf.data.segments import cut_clips, cut_split, take_one_each

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
