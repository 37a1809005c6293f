"""Which clips a run trained, validated and tested on: checked to be apart, and written down."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from esc_tf.config import Experiment
from esc_tf.data import CachedClip, Split, split_clips
from esc_tf.errors import DataError, RequestError
from esc_tf.training.run_directory import RunDirectory

SPLIT_FILE = "split.json"
PARTS = ("train", "validation", "test")


def split_experiment(experiment: Experiment, clips: Sequence[CachedClip]) -> Split:
    """Split clips as the experiment asks, and check that its parts are apart.

    Raises:
        DataError: see ``split_clips``.
    """
    split = split_clips(
        clips,
        test_fold=experiment.data.test_fold,
        validation=experiment.data.validation,
        seed=experiment.seed,
        on_leak=experiment.data.on_leak,
    )
    check_parts_apart(split, experiment.data.test_fold)
    return split


def check_parts_apart(split: Split, test_fold: int | None) -> None:
    """Make sure that no clip, recording or waveform of the test part is in another part.

    The split was made so; this looks at the result, whatever made it.

    Args:
        split: the clips by their use.
        test_fold: the fold held out; None: none is, and the test part must be empty.

    Raises:
        DataError: a clip, recording or waveform lies in two parts; a clip of the test fold is not
            in the test part, or one in the test part is of another fold.
    """
    problems = []
    owners: dict[tuple[str, str], str] = {}
    for part in reversed(PARTS):  # the test part first: what it holds, nobody else may
        for clip in getattr(split, part):
            if (part == "test") != (test_fold is not None and clip.record.fold == test_fold):
                problems.append(
                    f"{clip.record.clip_id} of fold {clip.record.fold} is in the {part} part, and "
                    f"data.test_fold is {test_fold}"
                )
            problems += [
                f"{clip.record.clip_id} is in the {part} part, and its {kind} is in the "
                f"{owners[kind, value]} part"
                for kind, value in _identities(clip)
                if owners.get((kind, value), part) != part
            ]
        for clip in getattr(split, part):
            owners.update(dict.fromkeys(_identities(clip), part))
    if problems:
        raise DataError([*problems[:10], "the parts of the split overlap; correct the folds"])


def _identities(clip: CachedClip) -> tuple[tuple[str, str], ...]:
    record = clip.record
    return (
        ("clip id", record.clip_id),
        ("recording", record.source_id),
        ("content", clip.content_digest),
    )


def describe_split(split: Split) -> dict[str, list[str]]:
    """The clip ids of each part, and of the clips dropped for leaks, in order."""
    return {
        part: sorted(clip.record.clip_id for clip in getattr(split, part))
        for part in (*PARTS, "dropped")
    }


def record_split(run: RunDirectory, split: Split, resume: bool) -> None:
    """Write ``split.json``; of a resumed run, make sure that it is what the run began with.

    Raises:
        RequestError: the run to be resumed trained, validated or tested on other clips.
    """
    found = describe_split(split)
    path = run.path / SPLIT_FILE
    if resume and path.is_file():
        stored = read_split(run)
        problems = [
            f"--resume: {len(changed)} clips of the {part} part are not those that the run began "
            f"with ({', '.join(sorted(changed)[:3])} …); restore the data or start a new run"
            for part in PARTS
            if (changed := set(stored[part]) ^ set(found[part]))
        ]
        if problems:
            raise RequestError(problems)
        return
    run.write_json(SPLIT_FILE, found)


def read_split(run: RunDirectory) -> dict[str, list[str]]:
    """The clip ids of each part of a run, as ``describe_split`` gave them.

    Raises:
        RequestError: there is no readable ``split.json``.
    """
    path = run.path / SPLIT_FILE
    try:
        content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {part: [str(name) for name in content[part]] for part in (*PARTS, "dropped")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path}: cannot be read as a split ({error})") from None
