"""Activations of a set of clips: collected from any source to disk, and read as H."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from esc_tf.audio import Clip, resample
from esc_tf.errors import AudioError, EscTfError, RequestError
from esc_tf.files import describe_os_error
from esc_tf.frames import TimeGrid, divide_evenly
from esc_tf.interpretation.activation_sources import ActivationSource
from esc_tf.interpretation.activation_store import ActivationStore, ActivationWriter, StoredClip
from esc_tf.interpretation.alignment import NegativeRule, Pooling, compute_h
from esc_tf.registry import look_up

# Axes of an activation with time, of all clips: (clips, time, …).
_SHORTEST_RANK_WITH_TIME = 3


def collect_activations(
    source: ActivationSource,
    clips: Iterable[tuple[str, Clip]],
    names: Sequence[str],
    folder: str | Path,
    batch_size: int = 8,
) -> ActivationStore:
    """Compute some activations of some clips and write them to a folder.

    The memory is that of ``batch_size`` clips and their activations, however many clips there are.
    The folder is there whole at the end or not at all. Silent clips are computed as all others and
    marked as silent.

    Args:
        source: from ``open_source``.
        clips: id and sound of each; at any rate, of any length.
        names: of the source's ``activation_names``.
        folder: to be made.
        batch_size: clips computed at once.

    Returns:
        The store, as ``ActivationStore(folder)`` opens it again.

    Raises:
        UnknownNameError: no such activation; near matches and all names are listed.
        RequestError: no names, no clips, two of one id, or a folder that is there already.
        AudioError: a clip is empty, or holds NaN or infinite samples.
        EscTfError: an activation is NaN or infinite, which names clip and activation; the source
            fails; or the disk does.
    """
    names = tuple(dict.fromkeys(names))
    if not names:
        raise RequestError("no activation is asked for; name one or more")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    known = dict.fromkeys(source.activation_names)
    for name in names:
        look_up(known, name, "activation")
    facts = source.facts
    described = {
        "source": source.name,
        "sample_rate_hz": facts.sample_rate_hz,
        "num_samples": facts.num_samples,
        "label_names": list(facts.label_names),
    }
    grids: dict[str, tuple[TimeGrid | None, bool]] = {}
    try:
        with ActivationWriter(folder, described) as writer:
            waiting = iter(clips)
            while batch := list(islice(waiting, batch_size)):
                stored = [_describe_clip(clip_id, clip) for clip_id, clip in batch]
                waveforms = [resample(clip, facts.sample_rate_hz).waveform for _, clip in batch]
                values = source.compute(waveforms, names)
                for name in names:
                    _check_finite(name, values[name], stored, source.name)
                    grids[name] = _choose_grid(source, name, values[name])
                writer.append(stored, {name: values[name] for name in names})
            writer.finish(grids)
    except OSError as error:
        raise EscTfError(
            f"{folder}: cannot be written ({describe_os_error(error)}); nothing was kept"
        ) from error
    return ActivationStore(folder)


def read_h(
    store: ActivationStore,
    name: str,
    frame_times_s: Sequence[float],
    clip_ids: Sequence[str] | None = None,
    pooling: Pooling = "mean",
    negative: NegativeRule = "refuse",
) -> np.ndarray:
    """H of one clip, of a class or of everything, clip behind clip.

    Args:
        store: the activations.
        name: of one with time.
        frame_times_s: centres of the frames of one clip's spectrogram, the same for all clips.
        clip_ids: the clips, in this order; None: all of the store.
        pooling: see ``compute_h``.
        negative: see ``compute_h``.

    Returns:
        float32 ``(components, clips x frames)``, no value below 0.

    Raises:
        UnknownNameError: no such activation or clip.
        RequestError: the activation has no time axis, or negative values that are refused; no
            clips.
    """
    parts = [h for _, h in iterate_h(store, name, frame_times_s, clip_ids, pooling, negative)]
    if not parts:
        raise RequestError("H of no clips is asked for; name one or more")
    return np.concatenate(parts, axis=1)


def iterate_h(
    store: ActivationStore,
    name: str,
    frame_times_s: Sequence[float],
    clip_ids: Sequence[str] | None = None,
    pooling: Pooling = "mean",
    negative: NegativeRule = "refuse",
) -> Iterator[tuple[StoredClip, np.ndarray]]:
    """Yield each clip and its H, in the memory of one clip; see ``read_h``."""
    grid = store.describe(name).grid
    if grid is None:
        raise RequestError(
            f"{name}: has no time axis; name a feature map, such as the output of a block"
        )
    maps = store.open(name)
    times_s = grid.times_s(maps.shape[1])
    rows = range(len(store.clips)) if clip_ids is None else map(store.find_row, clip_ids)
    for row in rows:
        clip = store.clips[row]
        label = f"{name} of {clip.clip_id}"
        yield clip, compute_h(maps[row], times_s, frame_times_s, pooling, negative, label)


def _describe_clip(clip_id: str, clip: Clip) -> StoredClip:
    if len(clip.waveform) == 0:
        raise AudioError(f"{clip_id}: holds no samples; leave it out")
    if not np.isfinite(clip.waveform).all():
        raise AudioError(f"{clip_id}: holds NaN or infinite samples; repair it or leave it out")
    return StoredClip(clip_id, clip.duration_s, not clip.waveform.any())


def _check_finite(name: str, values: np.ndarray, clips: Sequence[StoredClip], source: str) -> None:
    is_bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if is_bad.any():
        first = clips[int(is_bad.argmax())].clip_id
        raise EscTfError(
            f"{source}: activation '{name}' of clip {first} holds NaN or infinite values; mend "
            "the model (train or export it again), or name another activation"
        )


def _choose_grid(
    source: ActivationSource, name: str, values: np.ndarray
) -> tuple[TimeGrid | None, bool]:
    """Where the frames of an activation ``(clips, …)`` lie, and whether that is exact."""
    grids = source.facts.time_grids
    # Where grids are known, what has none has no time: a mean over time, for example.
    if grids or values.ndim < _SHORTEST_RANK_WITH_TIME:
        return grids.get(name), True
    return divide_evenly(values.shape[1], source.facts.duration_s), False
