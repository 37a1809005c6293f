"""What a pipeline needs so that a teacher and its student hear the same sounds.

A view of a clip is the clip under one draw of waveform augmentation. Its seed decides the whole
draw, in fractions, seconds and decibels, so that at another rate it is the same view: shifts agree
to a sample, and only the noise, drawn sample by sample, is another of the same colour and level.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from esc_tf.config import AudioConfig
from esc_tf.data.records import CachedClip, ShardedClip
from esc_tf.errors import DataError

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Views:
    """Views of clips; epoch ``e`` of a pipeline takes view ``e`` modulo their number.

    Attributes:
        seeds: int32 ``(clips, views, 2)``.
        is_clean: bool ``(views,)``: views without augmentation, whose seeds mean nothing.
    """

    seeds: np.ndarray
    is_clean: np.ndarray

    @property
    def count(self) -> int:
        """Number of views."""
        return len(self.is_clean)


@dataclass(frozen=True)
class SecondHearing:
    """The pipeline's clips once more, for a teacher that hears at another rate.

    Attributes:
        clips: the same clips in the same order, decoded at ``audio.sample_rate_hz``.
        audio: the pipeline's waveform format but for the rate.
        augment_waveform: the pipeline's waveform augmentation, built for that rate.
    """

    clips: Sequence[CachedClip]
    audio: AudioConfig
    augment_waveform: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor] | None


@dataclass(frozen=True)
class Teaching:
    """What a pipeline adds for a teacher.

    Attributes:
        views: which views to hear, in place of draws for each epoch; also where nothing is trained.
        targets: float32 ``(clips, views, classes)``, a batch's ``taught``; with one view, the same
            whatever is heard.
        second: what a batch's ``teacher_waveform`` and ``teacher_num_samples`` are made of.
    """

    views: Views | None = None
    targets: np.ndarray | None = None
    second: SecondHearing | None = None


def make_views(clip_ids: Sequence[str], num_views: int, seed: int) -> Views:
    """Draw the seeds of views: the first is clean, the others are augmented.

    A seed depends on the clip's name, the view's number and ``seed`` alone.

    Args:
        clip_ids: names of the clips.
        num_views: how many, the clean one included.
        seed: another one gives other views.
    """

    def draw(clip_id: str, view: int) -> np.ndarray:
        text = f"{seed}/{view}/{clip_id}".encode("utf-8", "surrogateescape")
        return np.frombuffer(hashlib.blake2b(text, digest_size=8).digest(), "<i4")

    seeds = [[draw(clip_id, view) for view in range(num_views)] for clip_id in clip_ids]
    shape = (len(clip_ids), num_views, 2)
    return Views(np.array(seeds, np.int32).reshape(shape), np.arange(num_views) == 0)


def digest_original(clip: CachedClip) -> str:
    """A digest of what a clip was decoded from, the same at every rate.

    Of a file it is the file's. Generated and sharded clips have no original: generated ones are
    other sounds at another rate, shards hold one rate alone, and it is that of their samples.

    Raises:
        DataError: the file cannot be read.
    """
    if clip.record.path is None or isinstance(clip, ShardedClip):
        return clip.content_digest
    digest = hashlib.blake2b(digest_size=32)
    try:
        with open(Path(clip.record.path), "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise DataError(f"{clip.record.path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()
