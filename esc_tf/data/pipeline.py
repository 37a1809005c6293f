"""Cached clips to batches: parallel, and the same for the same seed and epoch, bit by bit.

Every random number is a stateless function of (seed, epoch, position of the clip), so neither
threads nor the order of their work can change a batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from esc_tf import frames
from esc_tf.config import AudioConfig
from esc_tf.data.decoded_cache import read_cached_waveform
from esc_tf.data.length import fit_length
from esc_tf.data.records import CachedClip
from esc_tf.data.teaching import Teaching
from esc_tf.errors import DataError

Batch = dict[str, tf.Tensor]
AugmentWaveform = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
Draw = Callable[[tf.Tensor], Batch]
MixBatch = Callable[[Batch], Batch]

_NUM_BATCHES_AHEAD = 2
_NUM_PARALLEL_CALLS = os.cpu_count() or 1
# One stream of random numbers for each purpose.
ORDER, _CROP, _WAVEFORM, _FEATURES = range(4)


@dataclass(frozen=True)
class EpochPart:
    """Which part of an epoch to make; what is left out is not read.

    Attributes:
        first_batch: batches before this one, counted from 0, are left out.
        worker: this worker's number, from 0.
        num_workers: every worker takes as many rows of each batch, one after the other.
    """

    first_batch: int = 0
    worker: int = 0
    num_workers: int = 1


WHOLE_EPOCH = EpochPart()


class ClipPipeline:
    """Batches of cached clips, one tf.data.Dataset an epoch.

    A batch is a dict: ``waveform`` (B, N) float32; ``num_samples`` (B,) int32, valid samples;
    ``label`` (B, C) float32 one-hot; ``weight`` (B,) float32, 0 for rows that only fill up the
    last batch; ``index`` (B,) int32, position in ``clips``, -1 for such rows; and what ``draw``
    adds. With ``teaching`` there are also ``taught`` (B, C), ``teacher_waveform`` (B, M) and
    ``teacher_num_samples`` (B,), as far as it asks for them.

    Args:
        clips: the clips, all at ``audio.sample_rate_hz``.
        audio: the waveform format: length, padding and cropping.
        num_classes: C.
        batch_size: B, the global batch.
        training: shuffle, drop the incomplete last batch, and augment; otherwise keep the order
            and fill the last batch up.
        seed: decides order and random crops.
        augment_seed: decides augmentation; None: ``seed``.
        augment_waveform: ``(waveform (N,), num_samples, seed (2,)) -> waveform``, for each clip.
        draw: ``seed (2,) -> dict`` of draws for one clip, keys ``draw/...``.
        mix_batch: ``batch -> batch``.
        teaching: what a teacher has to do with it; None: there is none.

    Raises:
        DataError: no clips, or fewer than one training batch.
    """

    def __init__(
        self,
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
    ) -> None:
        if not clips:
            raise DataError("there are no clips to make batches of")
        if training and len(clips) < batch_size:
            raise DataError(
                f"recipe.batch_size: {batch_size} is more than the {len(clips)} training clips; "
                "lower it"
            )
        self.num_clips = len(clips)
        self.batch_size = batch_size
        self.training = training
        self._audio = audio
        self._num_classes = num_classes
        self._seed = seed
        augment_seed = seed if augment_seed is None else augment_seed
        self._augment_seed = augment_seed % 2**31
        teaching = teaching or Teaching()
        augments = training or teaching.views is not None
        self._augment_waveform = augment_waveform if augments else None
        # Constants of the process and not of the graph, which would be copied for each epoch.
        self._views = self._targets = None
        if teaching.views is not None:
            self._views = tf.constant(teaching.views.seeds), tf.constant(teaching.views.is_clean)
        if teaching.targets is not None:
            self._targets = tf.constant(teaching.targets)
        self._second = teaching.second
        second_clips = [] if teaching.second is None else teaching.second.clips
        self._second_paths = tf.constant([str(clip.cache_path) for clip in second_clips], tf.string)
        self._draw = draw if training else None
        self._mix_batch = mix_batch if training else None
        self._paths = tf.constant([str(clip.cache_path) for clip in clips])
        self._label_ids = tf.constant([clip.record.label_id for clip in clips], tf.int32)
        # Traced once here, so that an epoch does not trace them again.
        self._traced_load = tf.function(self._load, autograph=False)
        self._traced_mix = (
            tf.function(self._mix_batch, autograph=False) if self._mix_batch else None
        )

    @property
    def num_batches(self) -> int:
        """Batches in one epoch."""
        if self.training:
            return self.num_clips // self.batch_size
        return -(-self.num_clips // self.batch_size)

    def epoch(self, epoch: int = 0, part: EpochPart = WHOLE_EPOCH) -> tf.data.Dataset:
        """Return the batches of one epoch; equal (seed, epoch) give equal batches.

        The rows of a part are those of the whole, but for mixup, which stays within a part.

        Args:
            epoch: counted from 0.
            part: the batches, and the rows of each, that are wanted.

        Raises:
            DataError: the workers cannot share a batch evenly.
        """
        num_rows = self._count_rows(part)
        crop_seed = tf.constant([self._seed, epoch], tf.int32)
        number = tf.constant(epoch, tf.int32)
        augment_seed = tf.constant([self._augment_seed, epoch], tf.int32)
        data = self._build_items(epoch, part).map(
            lambda item: self._traced_load(item, crop_seed, augment_seed, number),
            num_parallel_calls=_NUM_PARALLEL_CALLS,
            deterministic=True,
        )
        data = data.batch(num_rows, drop_remainder=True)
        if self._traced_mix is not None:
            data = data.map(
                self._traced_mix, num_parallel_calls=_NUM_PARALLEL_CALLS, deterministic=True
            )
        options = tf.data.Options()
        options.deterministic = True
        # The end of an iterator waits for its tuning thread, which sleeps for up to a minute: with
        # it, an epoch of 52 s took 82 s.
        options.autotune.enabled = False
        # Batches are split among devices, never files among workers.
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        return data.prefetch(_NUM_BATCHES_AHEAD).with_options(options)

    def _count_rows(self, part: EpochPart) -> int:
        """Return the rows of one batch that one worker makes."""
        num_rows = self.batch_size // part.num_workers
        if num_rows * part.num_workers != self.batch_size:
            raise DataError(
                f"recipe.batch_size: {self.batch_size} rows cannot be shared evenly by "
                f"{part.num_workers} workers; make it a multiple of {part.num_workers}"
            )
        return num_rows

    def _build_items(self, epoch: int, part: EpochPart) -> tf.data.Dataset:
        """Return the clips of a part in their order, nothing read yet: dicts for ``_read``."""
        positions = np.arange(self.num_batches * self.batch_size, dtype=np.int32)
        if self.training:
            rng = np.random.default_rng([self._seed, epoch, ORDER])
            positions = rng.permutation(self.num_clips).astype(np.int32)[: positions.size]
            indices = positions
        else:
            indices = np.where(positions < self.num_clips, positions, -1).astype(np.int32)
            # Rows that fill up hold a real sound, so that no layer meets an odd input.
            positions = np.where(indices >= 0, positions, 0).astype(np.int32)
        num_rows = self._count_rows(part)
        rows = np.arange(part.worker * num_rows, (part.worker + 1) * num_rows)
        positions, indices = (
            values.reshape(-1, self.batch_size)[part.first_batch :, rows].reshape(-1)
            for values in (positions, indices)
        )
        return tf.data.Dataset.from_tensor_slices({"position": positions, "index": indices})

    def _read(self, item: Batch) -> tf.Tensor:
        """Return the waveform ``(samples,)`` of one item."""
        return read_cached_waveform(tf.gather(self._paths, item["position"]))

    def _load(
        self, item: Batch, crop_seed: tf.Tensor, augment_seed: tf.Tensor, epoch: tf.Tensor
    ) -> Batch:
        position, index = item["position"], item["index"]
        draw = self._draw_hearing(position, crop_seed, augment_seed, epoch)
        waveform, num_samples = _hear(self._read(item), self._audio, self._augment_waveform, draw)
        element = {
            "waveform": waveform,
            "num_samples": num_samples,
            "label": tf.one_hot(tf.gather(self._label_ids, position), self._num_classes),
            "weight": tf.cast(index >= 0, tf.float32),
            "index": index,
        }
        if self._targets is not None:
            element["taught"] = self._targets[position, epoch % self._targets.shape[1]]
        if self._second is not None:
            heard = read_cached_waveform(tf.gather(self._second_paths, position))
            heard, num_samples = _hear(
                heard, self._second.audio, self._second.augment_waveform, draw
            )
            element.update(teacher_waveform=heard, teacher_num_samples=num_samples)
        if self._draw is not None:
            element.update(self._draw(_clip_seed(augment_seed, position, _FEATURES)))
        return element

    def _draw_hearing(
        self, position: tf.Tensor, crop_seed: tf.Tensor, augment_seed: tf.Tensor, epoch: tf.Tensor
    ) -> _HearingDraw:
        draws_crop = self._audio.crop == "random"
        if self._views is None:
            offset = None
            if self.training and draws_crop:
                offset = tf.random.stateless_uniform([], _clip_seed(crop_seed, position, _CROP))
            return _HearingDraw(offset, _clip_seed(augment_seed, position, _WAVEFORM), None)
        seeds, are_clean = self._views
        view = epoch % are_clean.shape[0]
        seed, is_clean = seeds[position, view], are_clean[view]
        fold_in = tf.random.experimental.stateless_fold_in
        offset = None
        if draws_crop:
            drawn = tf.random.stateless_uniform([], fold_in(seed, _CROP))
            offset = tf.where(is_clean, 0.5, drawn)
        return _HearingDraw(offset, fold_in(seed, _WAVEFORM), is_clean)


class _HearingDraw(NamedTuple):
    """What is drawn for one clip before it is heard.

    Attributes:
        offset: where a random crop starts, as a fraction; None: in the centre.
        seed: of the augmentation, ``(2,)``.
        is_clean: whether there is no augmentation; None: there is.
    """

    offset: tf.Tensor | None
    seed: tf.Tensor
    is_clean: tf.Tensor | None


def _hear(
    waveform: tf.Tensor,
    audio: AudioConfig,
    augment_waveform: AugmentWaveform | None,
    draw: _HearingDraw,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Bring a waveform to the length of ``audio`` and augment it; also count its valid samples."""
    length = frames.count_samples(audio.duration_s, audio.sample_rate_hz)
    waveform, num_samples = fit_length(waveform, length, audio.pad, audio.crop, draw.offset)
    if augment_waveform is not None:
        clean, seed = waveform, draw.seed
        if draw.is_clean is None:
            waveform = augment_waveform(clean, num_samples, seed)
        else:
            waveform = tf.cond(
                draw.is_clean, lambda: clean, lambda: augment_waveform(clean, num_samples, seed)
            )
        waveform = tf.ensure_shape(waveform, (length,))
    return waveform, num_samples


def _clip_seed(seed: tf.Tensor, position: tf.Tensor, stream: int) -> tf.Tensor:
    """Return the seed ``(2,)`` of one clip for one purpose."""
    fold_in = tf.random.experimental.stateless_fold_in
    return fold_in(fold_in(seed, stream), position)
