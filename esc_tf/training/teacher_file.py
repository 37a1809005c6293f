"""What a teacher said of the views of clips, in one file: written whole, checked before use.

An ``.npz`` archive without pickled objects: ``logits`` float32 ``(clips, views, classes)``,
``seeds`` int32 ``(clips, views, 2)``, ``is_clean`` bool ``(views,)``, ``clip_ids``,
``clip_digests`` and ``label_names`` as text, and ``facts``, JSON text with what was done; if it was
asked for, ``embeddings`` float16 ``(clips, views, units)``. It is
keyed by clip and view and not by features, so that a student may hear at any rate.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from esc_tf.config import AudioConfig, AugmentConfig, Experiment
from esc_tf.data import CachedClip
from esc_tf.data.teaching import Views, digest_original
from esc_tf.errors import CheckpointError, RequestError
from esc_tf.files import write_atomically
from esc_tf.training.teachers import digest_model

FORMAT = 1
_REMEDY = "teach again (python -m esc_tf.distill teach)"
_MOST_NAMES = 5
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
# What decides how a view sounds, whatever the rate.
VIEW_AUDIO = ("duration_s", "pad", "crop")
VIEW_AUGMENT = ("speed", "time_shift", "roll", "noise", "gain")
_KINDS = {"logits": "f", "seeds": "i", "is_clean": "b", "clip_ids": "U", "clip_digests": "U"}
_RANKS = {"logits": 3, "seeds": 3, "is_clean": 1, "clip_ids": 1, "clip_digests": 1}


@dataclass(frozen=True)
class TeacherFile:
    """The content of a file.

    Attributes:
        logits: the teachers' mean, float32 ``(clips, views, classes)``.
        views: what was heard.
        clip_ids: names of the clips.
        clip_digests: of ``digest_original``.
        label_names: names of the classes in the order of the logits.
        embeddings: of all teachers side by side, float16 ``(clips, views, units)``; None: not kept.
        facts: ``output`` (``softmax`` or ``sigmoid``), ``seed`` of the views, ``audio`` and
            ``augment`` as ``describe_views`` has them, ``teachers``: a list of ``path``,
            ``sha256`` and ``seen``, the names of the clips they trained on or null.
    """

    logits: np.ndarray
    views: Views
    clip_ids: tuple[str, ...]
    clip_digests: tuple[str, ...]
    label_names: tuple[str, ...]
    facts: Mapping[str, Any]
    embeddings: np.ndarray | None = None


def describe_views(audio: AudioConfig, augment: AugmentConfig) -> dict[str, dict[str, Any]]:
    """What two experiments must have in common to hear the same views."""
    return {
        "audio": {key: getattr(audio, key) for key in VIEW_AUDIO},
        "augment": {key: augment.model_dump(mode="json")[key] for key in VIEW_AUGMENT},
    }


def write_teacher_file(path: Path, content: TeacherFile) -> None:
    """Write a file whole or not at all.

    Raises:
        RequestError: it cannot be written.
    """
    arrays: dict[str, Any] = {
        "logits": content.logits.astype(np.float32),
        "seeds": content.views.seeds,
        "is_clean": content.views.is_clean,
        "clip_ids": np.array(content.clip_ids, np.str_),
        "clip_digests": np.array(content.clip_digests, np.str_),
        "label_names": np.array(content.label_names, np.str_),
        "facts": np.array(json.dumps({"format": FORMAT, **content.facts})),
    }
    if content.embeddings is not None:
        arrays["embeddings"] = content.embeddings

    def write(new: Path) -> None:
        with open(new, "wb") as file:
            np.savez_compressed(file, **arrays)

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, write)
    except OSError as error:
        raise RequestError(f"{path}: cannot be written ({error.strerror or error})") from error


def read_teacher_file(path: str | Path) -> TeacherFile:
    """Read a file; nothing in it is run.

    Raises:
        RequestError: there is no such file.
        CheckpointError: it is damaged, or no file of this kind.
    """
    place = Path(path).expanduser()
    if not place.is_file():
        raise RequestError(f"{path}: no such file; make it with python -m esc_tf.distill teach")
    try:
        with np.load(place, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in (*_KINDS, "label_names", "facts")}
            embeddings = archive["embeddings"] if "embeddings" in archive.files else None
        facts = json.loads(str(arrays["facts"]))
    except _UNREADABLE as error:
        raise CheckpointError(
            f"{path}: damaged, or not what python -m esc_tf.distill teach writes ({error}); "
            f"{_REMEDY}"
        ) from None
    if facts.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: has format {facts.get('format')}, and this version reads {FORMAT}; {_REMEDY}"
        )
    _check_arrays(path, arrays, embeddings)
    return TeacherFile(
        logits=arrays["logits"],
        views=Views(arrays["seeds"], arrays["is_clean"]),
        clip_ids=tuple(arrays["clip_ids"].tolist()),
        clip_digests=tuple(arrays["clip_digests"].tolist()),
        label_names=tuple(arrays["label_names"].tolist()),
        facts=facts,
        embeddings=embeddings,
    )


def _check_arrays(
    path: str | Path, arrays: Mapping[str, np.ndarray], embeddings: np.ndarray | None
) -> None:
    fits = all(
        arrays[key].dtype.kind == kind and arrays[key].ndim == _RANKS[key]
        for key, kind in _KINDS.items()
    )
    if fits:
        num_clips, num_views, num_classes = arrays["logits"].shape
        fits = (
            arrays["seeds"].shape == (num_clips, num_views, 2)
            and arrays["is_clean"].shape == (num_views,)
            and arrays["clip_ids"].shape == arrays["clip_digests"].shape == (num_clips,)
            and arrays["label_names"].shape == (num_classes,)
            and bool(np.isfinite(arrays["logits"]).all())
        )
    if fits and embeddings is not None:
        fits = (
            embeddings.dtype.kind == "f"
            and embeddings.ndim == 3
            and embeddings.shape[:2] == arrays["logits"].shape[:2]
            and bool(np.isfinite(embeddings).all())
        )
    if not fits:
        raise CheckpointError(f"{path}: its parts do not fit together; {_REMEDY}")


def check_teacher_file(
    content: TeacherFile,
    path: str,
    experiment: Experiment,
    label_names: Sequence[str],
    clips: Sequence[CachedClip],
) -> np.ndarray:
    """Make sure that a file belongs to an experiment, and find its rows.

    Args:
        content: of the file.
        path: of the file, for messages.
        experiment: the student's.
        label_names: the student's classes.
        clips: those it trains on.

    Returns:
        The row of each clip, int ``(clips,)``.

    Raises:
        RequestError: other classes, scores, clips or views, or a teacher that has changed since;
            all that is wrong is listed.
    """
    problems = [
        f"recipe.distillation.targets: {path} {problem}"
        for problem in (
            *_compare_classes(content, experiment, label_names),
            *_compare_clips(content, clips),
            *_compare_views(content, experiment),
            *_compare_teachers(content),
        )
    ]
    if problems:
        raise RequestError(problems)
    rows = {name: row for row, name in enumerate(content.clip_ids)}
    return np.array([rows[clip.record.clip_id] for clip in clips], np.int64)


def _compare_classes(
    content: TeacherFile, experiment: Experiment, label_names: Sequence[str]
) -> list[str]:
    problems = compare_labels(content.label_names, label_names)
    binary = experiment.recipe.loss == "binary_crossentropy"
    if (content.facts.get("output") == "sigmoid") != binary:
        problems.append(
            f"holds {content.facts.get('output')} scores, and recipe.loss is "
            f"{experiment.recipe.loss}; choose the loss that fits"
        )
    return problems


def compare_labels(theirs: Sequence[str], ours: Sequence[str]) -> list[str]:
    """At most one sentence about classes that are not the same ones in the same order."""
    if tuple(theirs) == tuple(ours):
        return []
    if set(theirs) == set(ours):
        return ["has the same classes in another order; teach with the same data.classes"]
    missing, more = (
        [name for name in one if name not in other]
        for one, other in ((ours, theirs), (theirs, ours))
    )
    parts = [
        f"{words} {_shorten(names)}"
        for words, names in (("lacks", missing), ("has besides", more))
        if names
    ]
    return [f"is for other classes: it {' and '.join(parts)}"]


def _compare_clips(content: TeacherFile, clips: Sequence[CachedClip]) -> list[str]:
    known = dict(zip(content.clip_ids, content.clip_digests, strict=True))
    names = [clip.record.clip_id for clip in clips]
    missing = [name for name in names if name not in known]
    if missing:
        return [
            f"says nothing of {len(missing)} of {len(names)} training clips "
            f"({_shorten(missing)}); {_REMEDY}"
        ]
    changed = [
        clip.record.clip_id for clip in clips if known[clip.record.clip_id] != digest_original(clip)
    ]
    if changed:
        return [
            f"is about other sounds of the same name: {len(changed)} of {len(names)} training "
            f"clips differ ({_shorten(changed)}); {_REMEDY}"
        ]
    return []


def _compare_views(content: TeacherFile, experiment: Experiment) -> list[str]:
    if content.views.count == 1:
        return []
    ours = describe_views(experiment.audio, experiment.augment)
    return [
        f"holds views with {section}.{key} {_show(theirs.get(key))}, and here it is "
        f"{_show(value)}; {_REMEDY}"
        for section, values in ours.items()
        for key, value in values.items()
        if (theirs := content.facts.get(section, {})).get(key) != value
    ]


def _show(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _compare_teachers(content: TeacherFile) -> list[str]:
    """A teacher that lies where it lay, and is another now, has made the file stale."""
    problems = []
    for teacher in content.facts.get("teachers", []):
        file = Path(teacher["file"])
        if file.exists() and digest_model(file) != teacher["sha256"]:
            problems.append(
                f"is stale: its teacher {teacher['path']} has changed since (SHA-256 then "
                f"{teacher['sha256'][:12]}…); {_REMEDY}"
            )
    return problems


def _shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_NAMES]) + (", …" if len(names) > _MOST_NAMES else "")
