"""Clips heard segment by segment: which parts of the cached audio, and the batches of them.

A segment is a place in its clip's cached audio; nothing is stored twice.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from esc_tf.audio.segments import find_segments
from esc_tf.config import AudioConfig
from esc_tf.data.decoded_cache import map_cached_waveform, read_cached_waveform
from esc_tf.data.folds import Split
from esc_tf.data.pipeline import Batch, ClipPipeline
from esc_tf.data.records import CachedClip, Segment
from esc_tf.errors import DataError


def cut_clips(
    clips: Sequence[CachedClip], audio: AudioConfig, *, keep_loudest: bool = True
) -> Sequence[CachedClip]:
    """What a model hears of clips: their segments one after the other, or the clips themselves.

    Args:
        clips: decoded clips in the cache.
        audio: has ``segments``, or the clips are returned.
        keep_loudest: whether a clip with nothing but silent segments keeps its loudest one; what
            is trained on does without.

    Raises:
        DataError: clips, but nothing in them is loud enough.
    """
    config = audio.segments
    if config is None:
        return clips

    def cut(clip: CachedClip) -> list[Segment]:
        waveform = map_cached_waveform(clip.cache_path)
        return [
            Segment(clip.record, clip.cache_path, place.num_samples, clip.content_digest, place)
            for place in find_segments(waveform, config, keep_loudest=keep_loudest)
        ]

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        segments = [segment for found in pool.map(cut, clips) for segment in found]
    if clips and not segments:
        raise DataError(
            f"audio.segments.silence_db: every segment of {len(clips)} clips is silent; lower it "
            "or look at the clips"
        )
    return segments


def take_one_each(clips: Sequence[CachedClip], audio: AudioConfig) -> list[CachedClip]:
    """Of each clip the first segment that is not silent; without segments the clip itself.

    Raises:
        DataError: as for `cut_clips`.
    """
    firsts: dict[str, CachedClip] = {}
    for heard in cut_clips(clips, audio):
        firsts.setdefault(heard.record.clip_id, heard)
    return list(firsts.values())


def cut_split(split: Split, audio: AudioConfig) -> Split:
    """What a model hears of the clips of a split: see `cut_clips`. Silence is not trained on.

    Raises:
        DataError: nothing in a part is loud enough.
    """
    return replace(
        split,
        train=tuple(cut_clips(split.train, audio, keep_loudest=False)),
        validation=tuple(cut_clips(split.validation, audio)),
        test=tuple(cut_clips(split.test, audio)),
    )


def read_segment(segment: Segment) -> np.ndarray:
    """The normalised waveform ``(samples,)`` float32 of a segment, before any padding."""
    return np.array(segment.place.cut(map_cached_waveform(segment.cache_path)))


class SegmentPipeline(ClipPipeline):
    """Batches of segments; ``index`` is the position among them. Otherwise as `ClipPipeline`.

    Args:
        clips: of `cut_clips`.
        options: as for `ClipPipeline`.

    Raises:
        DataError: as for `ClipPipeline`.
    """

    def __init__(self, clips: Sequence[CachedClip], **options: Any) -> None:
        super().__init__(clips, **options)
        segments = [clip for clip in clips if isinstance(clip, Segment)]
        if len(segments) != len(clips):
            raise DataError("clips and segments cannot be mixed in one pipeline")
        self._starts = tf.constant([segment.place.start for segment in segments], tf.int32)
        self._lengths = tf.constant([segment.num_samples for segment in segments], tf.int32)
        self._peaks = tf.constant([segment.place.peak for segment in segments], tf.float32)

    def _read(self, item: Batch) -> tf.Tensor:
        position = item["position"]
        start = tf.gather(self._starts, position)
        whole = read_cached_waveform(tf.gather(self._paths, position))
        part = whole[start : start + tf.gather(self._lengths, position)]
        return part / tf.gather(self._peaks, position)
