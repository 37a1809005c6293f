"""Folders of TFRecord shards: their layout and index, checked and read back as clips.

A folder holds ``foldF-NNNNN-of-NNNNN.tfrecord`` (clips of one fold, its classes mixed), beside each
a list of its clips (``….json``), and ``index.json`` with classes, rate, folds, counts and digests,
written last.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from esc_tf.config import AudioConfig, ShardsDataConfig
from esc_tf.config.data import SHARD_INDEX
from esc_tf.data.records import BadClip, DataSet, Record, Shard, ShardedClip
from esc_tf.data.shard_records import ENCODINGS, parse_waveform
from esc_tf.errors import DataError

FORMAT = "esc_tf.shards"
FORMAT_VERSION = 1
WRITE_AGAIN = "run python -m esc_tf.data shard again, which writes what is missing or damaged"


def name_shard(fold: int, number: int, num_shards: int) -> str:
    """Return the name of a shard's file.

    >>> name_shard(3, 0, 4)
    'fold3-00000-of-00004.tfrecord'
    """
    return f"fold{fold}-{number:05d}-of-{num_shards:05d}.tfrecord"


def name_clip_list(shard: Path) -> Path:
    """Return the file that lists the clips of a shard."""
    return shard.with_suffix(".json")


def load_shards(config: ShardsDataConfig, audio: AudioConfig, seed: int) -> DataSet:
    """Load the records of a folder of shards.

    Args:
        config: the folder.
        audio: the experiment's rate must be the shards'.
        seed: not needed; every loader takes the same arguments.

    Raises:
        DataError: as for `load_sharded_clips`.
    """
    del seed
    clips, label_names = load_sharded_clips(config, audio)
    root = Path(config.root).expanduser()
    return DataSet(tuple(clip.record for clip in clips), label_names, root)


def load_sharded_clips(
    config: ShardsDataConfig, audio: AudioConfig
) -> tuple[list[ShardedClip], tuple[str, ...]]:
    """Load all clips of a folder of shards, in the order in which the shards hold them.

    Lengths of the shards are compared with the index; their content is checked when it is read.

    Returns:
        The clips and the names of their classes.

    Raises:
        DataError: no folder or index, another rate than ``audio.sample_rate_hz``, a shard or its
            list missing, cut off or not that of the index; all such are named.
    """
    root = Path(config.root).expanduser()
    index = read_index(root)
    if index["sample_rate_hz"] != audio.sample_rate_hz:
        raise DataError(
            f"audio.sample_rate_hz: {audio.sample_rate_hz} Hz, and the shards in {root} were "
            f"written at {index['sample_rate_hz']} Hz; set it to that, or write others"
        )
    clips: list[ShardedClip] = []
    problems: list[str] = []
    for number, entry in enumerate(index["shards"]):
        shard = Shard(
            path=root / entry["file"],
            number=number,
            fold=entry["fold"],
            num_clips=entry["num_clips"],
            num_bytes=entry["num_bytes"],
            encoding=index["encoding"],
            parallel_reads=config.parallel_reads,
            shuffle_window=config.shuffle_window,
        )
        problems.extend(find_damage(shard, must_exist=not config.local_shards))
        try:
            clips.extend(_read_clips(shard, entry, index["label_names"]))
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            problems.append(
                f"{name_clip_list(shard.path)}: missing, damaged or not of this index; "
                f"{WRITE_AGAIN}"
            )
    if problems:
        raise DataError(problems)
    return clips, tuple(index["label_names"])


def find_damage(shard: Shard, *, must_exist: bool) -> list[str]:
    """Say in a sentence whether a shard is missing or has another length than it should."""
    try:
        there = shard.path.stat().st_size
    except OSError as error:
        sentence = f"{shard.path}: cannot be read ({error.strerror}); {WRITE_AGAIN}"
        return [sentence] if must_exist else []
    if there != shard.num_bytes:
        return [
            f"{shard.path}: damaged, it has {there} bytes where the index says "
            f"{shard.num_bytes}; {WRITE_AGAIN}"
        ]
    return []


def read_index(root: Path) -> dict[str, Any]:
    """Read and check ``index.json``.

    Raises:
        DataError: there is none, or it is not one of this format.
    """
    path = root / SHARD_INDEX
    remedy = "python -m esc_tf.data shard --config FILE --out DIR writes a folder of shards"
    if not root.is_dir():
        raise DataError(f"data.root: there is no folder {root}; {remedy}")
    if not path.is_file():
        raise DataError(f"data.root: {path} does not exist (unfinished, or no shards); {remedy}")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if index["format"] != FORMAT or index["version"] != FORMAT_VERSION:
            raise ValueError
        kinds = {"label_names": list, "sample_rate_hz": int, "shards": list, "encoding": str}
        if not all(isinstance(index[key], kind) for key, kind in kinds.items()):
            raise ValueError
        if index["encoding"] not in ENCODINGS or not index["shards"]:
            raise ValueError
        for entry in index["shards"]:
            numbers = (entry["fold"], entry["num_clips"], entry["num_bytes"])
            plain = Path(entry["file"]).name == entry["file"]
            if not plain or not all(isinstance(number, int) for number in numbers):
                raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(
            f"{path}: damaged, or not an index of shards of version {FORMAT_VERSION}; {WRITE_AGAIN}"
        ) from None
    return index


def _read_clips(shard: Shard, entry: dict[str, Any], label_names: list[str]) -> list[ShardedClip]:
    listed = json.loads(name_clip_list(shard.path).read_text(encoding="utf-8"))
    if listed["sha256"] != entry["sha256"] or len(listed["clips"]) != shard.num_clips:
        raise ValueError
    clips = []
    for place, (clip_id, label_id, source_id, num_samples, digest) in enumerate(listed["clips"]):
        record = Record(clip_id, label_id, label_names[label_id], shard.fold, source_id)
        clips.append(ShardedClip(record, shard.path, num_samples, digest, shard, place))
    return clips


def select_sharded_clips(
    config: ShardsDataConfig, audio: AudioConfig, data_set: DataSet | None
) -> tuple[DataSet, list[ShardedClip], list[BadClip]]:
    """Load the clips of ``data_set``, or all; there are no bad ones, those were left out before.

    Raises:
        DataError: as for `load_sharded_clips`.
    """
    clips, label_names = load_sharded_clips(config, audio)
    if data_set is None:
        root = Path(config.root).expanduser()
        return DataSet(tuple(clip.record for clip in clips), label_names, root), clips, []
    wanted = {record.clip_id for record in data_set.records}
    return data_set, [clip for clip in clips if clip.record.clip_id in wanted], []


def read_sharded_waveform(clip: ShardedClip) -> np.ndarray:
    """Read the waveform ``(samples,)`` float32 of one clip; the shard is read up to it.

    Raises:
        DataError: the shard is damaged.
    """
    records = tf.data.TFRecordDataset(str(clip.shard.path)).skip(clip.place).take(1)
    try:
        for record in records:
            return parse_waveform(record, clip.shard.encoding).numpy()
    except tf.errors.OpError as error:
        reason = str(error.message).splitlines()[0]
        raise DataError(f"{clip.shard.path}: damaged ({reason}); {WRITE_AGAIN}") from None
    raise DataError(f"{clip.shard.path}: damaged, it ends too early; {WRITE_AGAIN}")
