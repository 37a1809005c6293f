"""Shards to batches: several read at once, the same for the same seed and epoch, bit by bit.

What is random is the order of the shards, drawn anew for each epoch, and the order of neighbouring
clips: as they come out of the shards that are read at once, clips are taken a window at a time and
the window is shuffled. Both are functions of (seed, epoch) alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from esc_tf.data.graph_errors import pass_if
from esc_tf.data.pipeline import ORDER, Batch, ClipPipeline, EpochPart
from esc_tf.data.records import CachedClip, Shard, ShardedClip
from esc_tf.data.shard_records import parse_waveform
from esc_tf.data.shards import WRITE_AGAIN, find_damage
from esc_tf.errors import DataError

# Large reads, since shards may lie on storage far away.
_READ_BYTES = 4 << 20
_NUM_CLIPS_AHEAD = 64


class ShardPipeline(ClipPipeline):
    """Batches of sharded clips; what `ClipPipeline` says holds, with these differences.

    With several workers each trains on shards of its own: the n-th of the folder belongs to worker
    n modulo the number of workers, the same in every epoch. Each makes as many batches as the whole
    has; one with fewer clips than that begins again, one with more leaves some out. Clips that do
    not train are divided row by row as everywhere, so every worker reads their shards.

    Args:
        clips: clips of one folder of shards.
        options: as for `ClipPipeline`.

    Raises:
        DataError: as for `ClipPipeline`.
    """

    def __init__(self, clips: Sequence[CachedClip], **options: Any) -> None:
        super().__init__(clips, **options)
        sharded = [clip for clip in clips if isinstance(clip, ShardedClip)]
        if len(sharded) != len(clips):
            raise DataError("clips of shards and of files cannot be mixed in one pipeline")
        # Positions of the wanted clips in each shard, -1 for the others.
        self._wanted: dict[Shard, np.ndarray] = {}
        for position, clip in enumerate(sharded):
            places = self._wanted.setdefault(
                clip.shard, np.full(clip.shard.num_clips, -1, np.int32)
            )
            places[clip.place] = position

    def _build_items(self, epoch: int, part: EpochPart) -> tf.data.Dataset:
        if self.training:
            return self._build_training_items(epoch, part)
        return self._build_ordered_items(part)

    def _build_training_items(self, epoch: int, part: EpochPart) -> tf.data.Dataset:
        mine = self._choose_shards(part)
        num_rows = self._count_rows(part)
        rng = np.random.default_rng([self._seed, epoch, ORDER])
        shards = [mine[number] for number in rng.permutation(len(mine))]
        window, parallel = shards[0].shuffle_window, shards[0].parallel_reads
        items = self._read_shards(shards, min(parallel, len(shards)))
        seed = tf.constant(rng.integers(0, 2**31, 2), tf.int32)

        def shuffle(number: tf.Tensor, items: Batch) -> Batch:
            own = tf.random.experimental.stateless_fold_in(seed, number)
            order = tf.random.experimental.stateless_shuffle(tf.range(tf.size(items["index"])), own)
            return {key: tf.gather(value, order) for key, value in items.items()}

        # Not Dataset.shuffle, whose order depends on the seed of the whole process as well.
        items = items.batch(window).enumerate()
        items = items.map(shuffle, num_parallel_calls=1, deterministic=True).unbatch()
        return items.repeat().take(self.num_batches * num_rows).skip(part.first_batch * num_rows)

    def _build_ordered_items(self, part: EpochPart) -> tf.data.Dataset:
        """The clips in their order, as `ClipPipeline` gives them to each worker."""
        shards = list(self._wanted)
        _check(shards)
        # One after the other, since the order counts; the next clips are fetched meanwhile.
        items = self._read_shards(shards, 1).prefetch(_NUM_CLIPS_AHEAD)
        num_fillers = self.num_batches * self.batch_size - self.num_clips
        fillers = items.take(1).repeat(num_fillers)
        items = items.concatenate(
            fillers.map(lambda item: {**item, "index": tf.constant(-1, tf.int32)})
        )
        num_rows, start = self._count_rows(part), part.first_batch * self.batch_size
        if part.num_workers > 1:
            first, last = part.worker * num_rows, (part.worker + 1) * num_rows

            def is_mine(number: tf.Tensor, item: Batch) -> tf.Tensor:
                row = number % self.batch_size
                return (row >= first) & (row < last)

            items = items.enumerate().skip(start).filter(is_mine)
            return items.map(lambda number, item: item)
        return items.skip(start)

    def _choose_shards(self, part: EpochPart) -> list[Shard]:
        """The shards that a worker trains on, there and whole as far as their length tells."""
        shares: list[list[Shard]] = [[] for _ in range(part.num_workers)]
        for shard in sorted(self._wanted, key=lambda shard: shard.number):
            shares[shard.number % part.num_workers].append(shard)
        if not all(shares):
            raise DataError(
                f"data.root: {len(self._wanted)} shards leave some of {part.num_workers} workers "
                "without any; write more of each fold with python -m esc_tf.data shard --shards N"
            )
        mine = shares[part.worker]
        _check(mine)
        return mine

    def _read_shards(self, shards: Sequence[Shard], at_once: int) -> tf.data.Dataset:
        """Items of the wanted clips of ``shards``: position, index and the record itself."""
        paths = tf.constant([str(shard.path) for shard in shards])
        counts = tf.constant([shard.num_clips for shard in shards], tf.int64)
        starts = tf.cumsum(counts, exclusive=True)
        wanted = tf.constant(np.concatenate([self._wanted[shard] for shard in shards]))

        def read(number: tf.Tensor) -> tf.data.Dataset:
            # A damaged record ends its shard in silence here, and is named below: the reader's
            # own error does not say which file it means. The count beside the records ends a file
            # that cannot be opened, which would otherwise be tried again for ever.
            records = tf.data.TFRecordDataset(paths[number], buffer_size=_READ_BYTES)
            counted = tf.data.Dataset.zip(tf.data.Dataset.range(counts[number] + 1), records)
            records = counted.ignore_errors().map(lambda place, record: record)
            records = records.concatenate(tf.data.Dataset.from_tensors(""))

            def mark(place: tf.Tensor, record: tf.Tensor) -> Batch:
                is_end = tf.equal(tf.strings.length(record), 0)
                whole = tf.equal(is_end, tf.equal(place, counts[number]))
                position = tf.cond(is_end, lambda: -1, lambda: wanted[starts[number] + place])
                where = (tf.as_string(place), " of ", tf.as_string(counts[number]), " records")
                position = pass_if(
                    position,
                    whole,
                    paths[number],
                    ": unreadable after ",
                    *where,
                    f"; {WRITE_AGAIN}",
                )
                return {"position": position, "index": position, "record": record}

            items = records.enumerate().map(mark)
            return items.filter(lambda item: item["position"] >= 0)

        numbers = tf.data.Dataset.range(len(shards))
        return numbers.interleave(
            read, cycle_length=at_once, num_parallel_calls=at_once, deterministic=True
        )

    def _read(self, item: Batch) -> tf.Tensor:
        return parse_waveform(item["record"], next(iter(self._wanted)).encoding)


def _check(shards: Sequence[Shard]) -> None:
    # A shard that cannot be read now may be back when it is its turn, so only lengths count here.
    problems = [problem for shard in shards for problem in find_damage(shard, must_exist=False)]
    if problems:
        raise DataError(problems)
