"""What a data set is made of: labelled records, and clips whose decoded audio lies in the cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from esc_tf.audio.segments import SegmentPlace


@dataclass(frozen=True)
class SynthesisKey:
    """Everything that decides one generated clip, so that no clip depends on how many there are."""

    seed: int
    label_name: str
    fold: int
    index: int
    sample_rate_hz: int
    num_samples: int


@dataclass(frozen=True)
class Record:
    """One labelled sound: a file, or the key of a generated clip.

    Args:
        clip_id: unique name of the clip inside its data set.
        label_id: position of ``label_name`` in ``DataSet.label_names``.
        label_name: the class.
        fold: the given fold, from 1.
        source_id: the recording that the clip was cut from; clips of one recording must not be
            split between training and test.
        path: the audio file, or None for a generated clip.
        synthesis: the key of a generated clip, or None for a file.
    """

    clip_id: str
    label_id: int
    label_name: str
    fold: int
    source_id: str
    path: Path | None = None
    synthesis: SynthesisKey | None = None


@dataclass(frozen=True)
class DataSet:
    """Records with the names of their classes; ``root`` is None for generated sounds."""

    records: tuple[Record, ...]
    label_names: tuple[str, ...]
    root: Path | None = None


@dataclass(frozen=True)
class CachedClip:
    """A record whose waveform is ready to be read.

    Args:
        record: the labelled sound.
        cache_path: the file of ``esc_tf.data.decoded_cache`` that holds the waveform; the kinds of
            clip below keep it elsewhere, so that ``esc_tf.data.load_waveform`` reads them all.
        num_samples: length at the experiment's rate.
        content_digest: digest of the samples; two clips with equal digests are the same sound.
    """

    record: Record
    cache_path: Path
    num_samples: int
    content_digest: str


@dataclass(frozen=True)
class EncodedClip(CachedClip):
    """A record that is decoded anew whenever it is read; ``cache_path`` is the file itself.

    Args:
        sample_rate_hz: the file's own rate.
        codec: what is in the file, a name of ``esc_tf.data.tfio_decoding``.
    """

    sample_rate_hz: int
    codec: str


@dataclass(frozen=True)
class Shard:
    """One TFRecord file of a set that ``python -m esc_tf.data shard`` wrote.

    Args:
        path: the file.
        number: its place in the set, from 0.
        fold: the fold whose clips it holds.
        num_clips: records in it.
        num_bytes: its length.
        encoding: how its waveforms are kept, ``int16`` or ``float32``.
        parallel_reads: shards of the set that are read at once.
        shuffle_window: neighbours among which training clips are shuffled.
    """

    path: Path
    number: int
    fold: int
    num_clips: int
    num_bytes: int
    encoding: str
    parallel_reads: int
    shuffle_window: int


@dataclass(frozen=True)
class ShardedClip(CachedClip):
    """A record whose waveform lies in a shard; ``cache_path`` is the shard's file.

    Args:
        shard: the shard.
        place: position in it, from 0.
    """

    shard: Shard
    place: int


@dataclass(frozen=True)
class Segment(CachedClip):
    """A part of a cached clip; ``cache_path`` and ``content_digest`` are the whole clip's.

    ``num_samples`` is the segment's own length.

    Args:
        place: where it lies in the clip, and its normalisation.
    """

    place: SegmentPlace


@dataclass(frozen=True)
class BadClip:
    """A record whose audio cannot be used; ``reason`` is one sentence that names the file."""

    record: Record
    reason: str
