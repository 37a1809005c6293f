"""Writing a data set as shards: fold by fold, each shard whole or not there, resumable.

Nothing passes through the cache of decoded audio, so that the disk needs room for the shards alone.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from esc_tf.config import AnyDataConfig, AudioConfig, ShardsDataConfig
from esc_tf.config.data import SHARD_INDEX, DecodedConfig
from esc_tf.data.decoded_cache import read_waveform
from esc_tf.data.factory import load_data_set
from esc_tf.data.records import BadClip, Record
from esc_tf.data.shard_records import serialize_clip
from esc_tf.data.shards import FORMAT, FORMAT_VERSION, name_clip_list, name_shard
from esc_tf.data.synthetic import generate_clip
from esc_tf.errors import AudioError, DataError, RequestError
from esc_tf.files import PARTIAL_FILES, write_atomically

PLAN_FILE = "plan.json"
# About 110 MB of clips of 5 s at 44.1 kHz.
DEFAULT_CLIPS_PER_SHARD = 256
_CLIPS_AT_ONCE = 64
_STALE_AFTER_S = 3600.0
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class _Plan:
    """One shard to be written."""

    path: Path
    fold: int
    records: tuple[Record, ...]
    identity: str


def write_shards(
    config: AnyDataConfig,
    audio: AudioConfig,
    seed: int,
    folder: Path,
    *,
    num_shards: int | None = None,
    encoding: str = "int16",
    progress: bool = True,
    report: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Write the data set of an experiment as shards, or go on where an earlier call stopped.

    A shard that is there, belongs to the same files and has its digest is kept.

    Args:
        config: the section ``data``.
        audio: the section ``audio``; the shards get its rate, clips keep their lengths.
        seed: the experiment's seed; it decides generated clips.
        folder: where the shards go.
        num_shards: shards of each fold; None: one for every 256 clips of it.
        encoding: ``int16`` or ``float32``, see ``esc_tf.data.shard_records``.
        progress: whether to show a bar on a terminal.
        report: takes lines for the user.

    Returns:
        The index, as it stands in ``index.json``.

    Raises:
        RequestError: the folder holds something else; ``config`` describes shards.
        DataError: the data set cannot be used; files are bad and ``on_bad_file`` is ``fail`` (all
            are listed; whole shards stay).
        OSError: nothing more can be written; whole shards stay.
    """
    if isinstance(config, ShardsDataConfig):
        raise RequestError("data.name: 'shards' is sharded already; name the set it was made from")
    data_set = load_data_set(config, audio, seed)
    layout = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "label_names": list(data_set.label_names),
        "sample_rate_hz": audio.sample_rate_hz,
        "encoding": encoding,
    }
    plans = list(_plan_shards(data_set.records, folder, num_shards, layout))
    _prepare_folder(folder, {**layout, "files": [plan.path.name for plan in plans]})
    entries: list[dict[str, Any]] = []
    bad: list[BadClip] = []
    num_kept = 0
    bar = tqdm(
        total=len(data_set.records),
        desc="sharding",
        unit="clip",
        disable=not (progress and sys.stderr.isatty()),
    )
    with bar, ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for plan in plans:
            entry = _find_finished(plan)
            num_kept += entry is not None
            if entry is None:
                # Where files are bad the others are read all the same, to name every bad one.
                entry, found = _write_shard(plan, config, audio, encoding, pool)
                bad += found
            else:
                records = {record.clip_id: record for record in plan.records}
                bad += [BadClip(records[name], reason) for name, reason in entry["skipped"]]
            if entry is not None:
                entries.append(entry)
            bar.update(len(plan.records))
    if bad and config.on_bad_file == "fail":
        raise DataError(
            [
                *(clip.reason for clip in bad),
                f"{len(bad)} of {len(data_set.records)} files are bad; repair or remove them, or "
                "set data.on_bad_file to skip, and run this again: shards without them stay",
            ]
        )
    index = _build_index(layout, entries, bad)
    _write_text(folder / SHARD_INDEX, json.dumps(index, indent=1))
    report(
        f"{index['num_clips']} clips in {len(entries)} shards ({num_kept} were there already), "
        f"{sum(entry['num_bytes'] for entry in entries) / 1e6:.1f} MB, {len(bad)} bad files skipped"
    )
    return index


def _plan_shards(
    records: Sequence[Record], folder: Path, num_shards: int | None, layout: dict[str, Any]
) -> Iterator[_Plan]:
    """Deal the clips of each fold out to its shards, in an order that mixes the classes."""
    by_fold: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        by_fold[record.fold].append(record)
    for fold, inside in sorted(by_fold.items()):
        inside.sort(key=lambda record: hashlib.blake2b(_encode(record.clip_id)).digest())
        wanted = num_shards or -(-len(inside) // DEFAULT_CLIPS_PER_SHARD)
        count = min(wanted, len(inside))
        for number in range(count):
            chosen = tuple(inside[number::count])
            yield _Plan(
                path=folder / name_shard(fold, number, count),
                fold=fold,
                records=chosen,
                identity=_identify(chosen, layout),
            )


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _identify(records: Sequence[Record], layout: dict[str, Any]) -> str:
    """Return a digest of everything that decides the bytes of a shard."""
    files = []
    for record in records:
        try:
            status = os.stat(record.path) if record.path is not None else None
        except OSError:
            status = None
        seen = [status.st_size, status.st_mtime_ns] if status else []
        known = [record.clip_id, record.label_id, record.fold, record.source_id]
        files.append([*known, str(record.path or record.synthesis), *seen])
    return hashlib.sha256(_encode(json.dumps([layout, files]))).hexdigest()


def _prepare_folder(folder: Path, plan: dict[str, Any]) -> None:
    """Make the folder, or check that it holds the beginning of this very set."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PLAN_FILE
    there = [item.name for item in folder.iterdir()]
    if path.is_file():
        try:
            same = json.loads(path.read_text(encoding="utf-8")) == plan
        except ValueError:
            same = False
        if not same:
            raise RequestError(
                f"--out: {folder} holds shards of other classes, rate, encoding or number; name "
                "another folder, or remove it"
            )
    elif there:
        raise RequestError(f"--out: {folder} is not empty and holds no shards; name another folder")
    _write_text(path, json.dumps(plan))
    # An index says that all is there, which is yet to be seen.
    (folder / SHARD_INDEX).unlink(missing_ok=True)
    oldest = time.time() - _STALE_AFTER_S
    for left in folder.glob(PARTIAL_FILES):
        if left.stat().st_mtime < oldest:
            left.unlink(missing_ok=True)


def _find_finished(plan: _Plan) -> dict[str, Any] | None:
    """Return the list of a shard that is whole and still the one planned, else None."""
    try:
        listed = json.loads(name_clip_list(plan.path).read_text(encoding="utf-8"))
        if listed["identity"] != plan.identity:
            return None
        if (plan.path.stat().st_size, _digest(plan.path)) != (
            listed["num_bytes"],
            listed["sha256"],
        ):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {**listed, "file": plan.path.name, "fold": plan.fold}


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


class _Abandoned(Exception):
    """A shard must not be written, since files that belong into it are bad."""


def _write_shard(
    plan: _Plan,
    config: DecodedConfig,
    audio: AudioConfig,
    encoding: str,
    pool: ThreadPoolExecutor,
) -> tuple[dict[str, Any] | None, list[BadClip]]:
    """Decode and write one shard and its list; return its entry, if it was written, and bad files.

    Raises:
        OSError: the disk takes no more.
    """
    clips: list[list[Any]] = []
    bad: list[BadClip] = []

    def read(record: Record) -> np.ndarray | AudioError:
        if record.synthesis is not None:
            return generate_clip(record.synthesis)
        try:
            return read_waveform(str(record.path), audio.sample_rate_hz, config.max_duration_s)
        except AudioError as error:
            return error

    def write(path: Path) -> None:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for start in range(0, len(plan.records), _CLIPS_AT_ONCE):
                chunk = plan.records[start : start + _CLIPS_AT_ONCE]
                for record, waveform in zip(chunk, pool.map(read, chunk), strict=True):
                    if isinstance(waveform, AudioError):
                        bad.append(BadClip(record, str(waveform)))
                        continue
                    if bad and config.on_bad_file == "fail":
                        continue  # only looking for more bad files
                    writer.write(serialize_clip(record, waveform, audio.sample_rate_hz, encoding))
                    digest = hashlib.blake2b(waveform.astype("<f4").tobytes(), digest_size=32)
                    names = [record.clip_id, record.label_id, record.source_id]
                    clips.append([*names, len(waveform), digest.hexdigest()])
        if bad and config.on_bad_file == "fail":
            raise _Abandoned

    try:
        write_atomically(plan.path, write)
    except _Abandoned:
        return None, bad
    except tf.errors.OpError as error:
        reason = str(error.message).splitlines()[0]
        raise OSError(errno.EIO, f"cannot be written ({reason})", str(plan.path)) from error
    listed = {
        "identity": plan.identity,
        "sha256": _digest(plan.path),
        "num_bytes": plan.path.stat().st_size,
        "clips": clips,
        "skipped": [[clip.record.clip_id, clip.reason] for clip in bad],
    }
    _write_text(name_clip_list(plan.path), json.dumps(listed))
    return {**listed, "file": plan.path.name, "fold": plan.fold}, bad


def _write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_atomically(path, lambda new: new.write_text(text + "\n", encoding="utf-8"))


def _build_index(
    layout: dict[str, Any], entries: Sequence[dict[str, Any]], bad: Sequence[BadClip]
) -> dict[str, Any]:
    label_names = layout["label_names"]
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for entry in entries:
        counts[entry["fold"]].update(label_names[clip[1]] for clip in entry["clips"])
    empty = [name for name in label_names if not any(count[name] for count in counts.values())]
    if empty:
        reasons = [clip.reason for clip in bad if clip.record.label_name in empty]
        raise DataError(
            [*reasons[:10], f"every file of {', '.join(empty)} is bad; repair them or leave it out"]
        )
    return {
        **layout,
        "num_clips": sum(len(entry["clips"]) for entry in entries),
        "folds": {
            str(fold): {"num_clips": sum(count.values()), "clips_per_class": dict(count)}
            for fold, count in sorted(counts.items())
        },
        "skipped_files": [{"clip": clip.record.clip_id, "reason": clip.reason} for clip in bad],
        "shards": [
            {
                "file": entry["file"],
                "fold": entry["fold"],
                "num_clips": len(entry["clips"]),
                "num_bytes": entry["num_bytes"],
                "sha256": entry["sha256"],
            }
            for entry in entries
        ],
    }
