"""The pipeline that fits the clips: whole or in segments, from shards, or decoded in the graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from esc_tf.config import AudioConfig
from esc_tf.data.decoded_cache import read_cached_waveform, read_waveform
from esc_tf.data.pipeline import (
    WHOLE_EPOCH,
    AugmentWaveform,
    ClipPipeline,
    Draw,
    EpochPart,
    MixBatch,
)
from esc_tf.data.records import CachedClip, EncodedClip, Segment, ShardedClip
from esc_tf.data.segments import SegmentPipeline, read_segment
from esc_tf.data.shard_pipeline import ShardPipeline
from esc_tf.data.shards import read_sharded_waveform
from esc_tf.data.teaching import Teaching
from esc_tf.data.tfio_decoding import DecodingPipeline


def build_pipeline(
    clips: Sequence[CachedClip],
    *,
    audio: AudioConfig,
    num_classes: int,
    batch_size: int,
    training: bool,
    seed: int = 0,
    augment_seed: int | None = None,
    augment_waveform: AugmentWaveform | None = None,
    draw: Draw | None = None,
    mix_batch: MixBatch | None = None,
    teaching: Teaching | None = None,
) -> ClipPipeline:
    """Build the pipeline that reads these clips; arguments and errors are `ClipPipeline`'s."""
    kind = ClipPipeline
    if clips and isinstance(clips[0], ShardedClip):
        kind = ShardPipeline
    elif clips and isinstance(clips[0], EncodedClip):
        kind = DecodingPipeline
    elif clips and isinstance(clips[0], Segment):
        kind = SegmentPipeline
    return kind(
        clips,
        audio=audio,
        num_classes=num_classes,
        batch_size=batch_size,
        training=training,
        seed=seed,
        augment_seed=augment_seed,
        augment_waveform=augment_waveform,
        draw=draw,
        mix_batch=mix_batch,
        teaching=teaching,
    )


def build_dataset(
    clips: Sequence[CachedClip],
    *,
    audio: AudioConfig,
    num_classes: int,
    batch_size: int,
    training: bool,
    seed: int = 0,
    epoch: int = 0,
    augment_seed: int | None = None,
    augment_waveform: AugmentWaveform | None = None,
    draw: Draw | None = None,
    mix_batch: MixBatch | None = None,
    part: EpochPart = WHOLE_EPOCH,
) -> tf.data.Dataset:
    """Build the batches of one epoch; `build_pipeline` spares tracing for each epoch."""
    pipeline = build_pipeline(
        clips,
        audio=audio,
        num_classes=num_classes,
        batch_size=batch_size,
        training=training,
        seed=seed,
        augment_seed=augment_seed,
        augment_waveform=augment_waveform,
        draw=draw,
        mix_batch=mix_batch,
    )
    return pipeline.epoch(epoch, part)


def load_waveform(clip: CachedClip, sample_rate_hz: int) -> np.ndarray:
    """Read the waveform ``(samples,)`` float32 of one clip of any kind.

    Args:
        clip: from ``load_clips``.
        sample_rate_hz: the experiment's rate, which the clip has unless it is decoded anew.

    Raises:
        AudioError: its file cannot be used.
        DataError: its shard is damaged.
    """
    if isinstance(clip, ShardedClip):
        return read_sharded_waveform(clip)
    if isinstance(clip, EncodedClip):
        return read_waveform(clip.cache_path, sample_rate_hz)
    if isinstance(clip, Segment):
        return read_segment(clip)
    return read_cached_waveform(tf.constant(str(clip.cache_path))).numpy()
