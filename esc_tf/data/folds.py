"""Which clips train, validate and test; no recording on both sides."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from esc_tf.data.records import CachedClip
from esc_tf.errors import DataError

_MAX_LEAKS_SHOWN = 10


@dataclass(frozen=True)
class Split:
    """Clips by their use; ``dropped`` holds those that ``on_leak: drop`` took out."""

    train: tuple[CachedClip, ...]
    validation: tuple[CachedClip, ...]
    test: tuple[CachedClip, ...]
    dropped: tuple[CachedClip, ...] = ()


def split_clips(
    clips: Sequence[CachedClip],
    test_fold: int | None,
    validation: float | int | None,
    seed: int,
    on_leak: str = "fail",
) -> Split:
    """Split clips into training, validation and test.

    Args:
        clips: all clips of the experiment.
        test_fold: the fold held out, or None.
        validation: a fold number (int), or a fraction (float) of the clips outside the test fold:
            drawn for each class, whole recordings at a time, the same for the same seed; or None.
        seed: decides the fraction's draw.
        on_leak: ``"fail"``, or ``"drop"``: take the clips that leak out of training (or out of
            validation, where they leak into the test).

    Raises:
        DataError: a fold does not exist; a recording or an identical waveform lies on both sides;
            a class has no clips left to train on; the fraction leaves no clips to validate on.
    """
    known = sorted({clip.record.fold for clip in clips})
    folds = {"data.test_fold": test_fold}
    if isinstance(validation, int):
        folds["data.validation"] = validation
    problems = [
        f"{key}: fold {fold} does not exist; the folds are {', '.join(map(str, known))}"
        for key, fold in folds.items()
        if fold is not None and fold not in known
    ]
    if test_fold is not None and isinstance(validation, int) and validation == test_fold:
        problems.append(f"data.validation: fold {validation} is also data.test_fold; name another")
    if problems:
        raise DataError(problems)

    test = [clip for clip in clips if clip.record.fold == test_fold]
    rest = [clip for clip in clips if clip.record.fold != test_fold]
    rest, dropped = _resolve_leaks(rest, test, "training", "test", on_leak)
    validating: list[CachedClip] = []
    train = rest
    if isinstance(validation, int):
        validating = [clip for clip in rest if clip.record.fold == validation]
        train = [clip for clip in rest if clip.record.fold != validation]
        train, leaked = _resolve_leaks(train, validating, "training", "validation", on_leak)
        dropped += leaked
    elif validation is not None:
        train, validating = _draw_fraction(rest, validation, seed)
    _check_classes(clips, train)
    if validation is not None and not validating:
        raise DataError(
            f"data.validation: {validation} leaves no clip to validate on; raise it, name a fold, "
            "or set it to null"
        )
    return Split(tuple(train), tuple(validating), tuple(test), tuple(dropped))


def _identities(clip: CachedClip) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("recording", clip.record.source_id), ("content", clip.content_digest)


def _resolve_leaks(
    side: list[CachedClip], held_out: Iterable[CachedClip], name: str, other: str, on_leak: str
) -> tuple[list[CachedClip], list[CachedClip]]:
    """Return ``side`` without its clips that also lie in ``held_out``, and those clips."""
    owners = {identity: clip for clip in held_out for identity in _identities(clip)}
    kept, leaked, pairs = [], [], []
    for clip in side:
        found = [identity for identity in _identities(clip) if identity in owners]
        if not found:
            kept.append(clip)
            continue
        leaked.append(clip)
        kind, value = found[0]
        reason = f"both come from recording {value}" if kind == "recording" else "same samples"
        pairs.append(f"{clip.record.clip_id} and {owners[found[0]].record.clip_id} ({reason})")
    if not pairs or on_leak == "drop":
        return kept, leaked
    shown = [f"leak between {name} and {other}: {pair}" for pair in pairs[:_MAX_LEAKS_SHOWN]]
    hidden = len(pairs) - len(shown)
    more = f"and {hidden} more; " if hidden else ""
    remedy = f"{more}correct the folds, or set data.on_leak to drop to leave them out of {name}"
    raise DataError([*shown, remedy])


def _check_classes(clips: Sequence[CachedClip], train: list[CachedClip]) -> None:
    missing = sorted({c.record.label_name for c in clips} - {c.record.label_name for c in train})
    if missing:
        raise DataError(
            f"no clip to train on is left of {', '.join(missing)}; leave the class out of "
            "data.classes or choose another data.test_fold or data.validation"
        )


def _group_clips(clips: list[CachedClip]) -> list[list[CachedClip]]:
    """Group clips that share a recording or their samples, directly or through others."""
    parents: dict[tuple[str, str], tuple[str, str]] = {}

    def find_root(identity: tuple[str, str]) -> tuple[str, str]:
        parents.setdefault(identity, identity)
        while parents[identity] != identity:
            parents[identity] = parents[parents[identity]]
            identity = parents[identity]
        return identity

    for clip in clips:
        recording, content = _identities(clip)
        parents[find_root(recording)] = find_root(content)
    groups: dict[tuple[str, str], list[CachedClip]] = defaultdict(list)
    for clip in clips:
        groups[find_root(_identities(clip)[0])].append(clip)
    return list(groups.values())


def _draw_fraction(
    clips: list[CachedClip], fraction: float, seed: int
) -> tuple[list[CachedClip], list[CachedClip]]:
    """Move groups to validation, in random order, while that brings classes nearer their share."""
    groups = sorted(_group_clips(clips), key=lambda group: min(c.record.clip_id for c in group))
    order = np.random.default_rng([seed, 0x5011]).permutation(len(groups))
    totals = Counter(clip.record.label_id for clip in clips)
    missing = {label_id: fraction * count for label_id, count in totals.items()}
    left = dict(totals)
    chosen: set[str] = set()
    for position in order:
        group = groups[position]
        counts = Counter(clip.record.label_id for clip in group)
        gain = sum(missing[i] ** 2 - (missing[i] - count) ** 2 for i, count in counts.items())
        if gain <= 0 or any(left[i] == count for i, count in counts.items()):
            continue
        for label_id, count in counts.items():
            missing[label_id] -= count
            left[label_id] -= count
        chosen.update(clip.record.clip_id for clip in group)
    train = [clip for clip in clips if clip.record.clip_id not in chosen]
    return train, [clip for clip in clips if clip.record.clip_id in chosen]
