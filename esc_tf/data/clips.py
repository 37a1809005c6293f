"""From the configuration to clips that are ready to be batched."""

from __future__ import annotations

from collections.abc import Sequence

from esc_tf.config import AnyDataConfig, AudioConfig, FilesConfig, ShardsDataConfig
from esc_tf.data.decoded_cache import DecodedCache
from esc_tf.data.factory import load_data_set
from esc_tf.data.records import BadClip, CachedClip, DataSet
from esc_tf.data.shards import select_sharded_clips
from esc_tf.data.tfio_decoding import import_tfio, scan_files
from esc_tf.errors import DataError


def load_clips(
    config: AnyDataConfig,
    audio: AudioConfig,
    seed: int,
    data_set: DataSet | None = None,
    progress: bool = True,
) -> tuple[DataSet, Sequence[CachedClip], list[BadClip]]:
    """Load a data set, decode what the cache does not hold, and treat bad files as asked.

    Clips of shards are not decoded, nor those of ``decoder: tfio``; their files are checked.

    Args:
        config: the section ``data`` of an experiment.
        audio: the section ``audio``.
        seed: the experiment's seed; it decides generated clips.
        data_set: records that are loaded already; None loads those of ``config``.
        progress: whether to show a bar on a terminal while decoding.

    Returns:
        The data set, its good clips, and the bad ones, which were skipped.

    Raises:
        DataError: the data set cannot be used; a file is bad and ``on_bad_file`` is ``fail`` (all
            bad files are listed); a class or everything was skipped.
        RequestError: ``decoder`` is ``tfio`` and tensorflow-io does not load here.
    """
    if isinstance(config, ShardsDataConfig):
        return select_sharded_clips(config, audio, data_set)
    in_graph = isinstance(config, FilesConfig) and config.decoder == "tfio"
    if in_graph:
        import_tfio()
    if data_set is None:
        data_set = load_data_set(config, audio, seed)
    rate_hz, max_duration_s = audio.sample_rate_hz, config.max_duration_s
    clips: Sequence[CachedClip]
    if in_graph:
        clips, bad = scan_files(data_set.records, rate_hz, max_duration_s)
    else:
        cache = DecodedCache(config.cache_dir)
        clips, bad = cache.fill(data_set.records, rate_hz, max_duration_s, progress=progress)
    if bad and config.on_bad_file == "fail":
        remedy = f"{len(bad)} of {len(data_set.records)} files are bad; repair or remove them, or "
        raise DataError([*(clip.reason for clip in bad), f"{remedy}set data.on_bad_file to skip"])
    had = {record.label_name for record in data_set.records}
    empty = sorted(had - {clip.record.label_name for clip in clips})
    if empty:
        reasons = [clip.reason for clip in bad if clip.record.label_name in empty]
        raise DataError(
            [*reasons[:10], f"every file of {', '.join(empty)} is bad; repair them or leave it out"]
        )
    return data_set, clips, bad
