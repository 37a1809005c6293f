"""Judges what an exported file says beside what the model says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.formats import TAKE_FEATURES, Tolerance
from export.probes import Probes
from export.reference import Reference
from export.source import UNKNOWN_CLASS, ClipSet

# Operators that no interpreter without TensorFlow has, and those of variables: the network was not
# frozen, and computes with whatever the interpreter starts them from.
_CUSTOM = "custom:"
_VARIABLES = ("READ_VARIABLE", "VAR_HANDLE", "ASSIGN_VARIABLE", "CALL_ONCE")
_FEATURES = "features"
# A difference of so many times what a step of float32 in waveform and weights makes is no fault of
# the file.
SENSITIVITY_FACTOR = 2.0


@dataclass(frozen=True)
class Judge:
    """Compares files with one model.

    Attributes:
        reference: what the model says.
        probes: the sounds of every verification.
        clips: the evaluation slice.
        label_names: the model's classes.
    """

    reference: Reference
    probes: Probes
    clips: ClipSet
    label_names: Sequence[str]

    def judge(
        self,
        format_name: str,
        tolerance: Tolerance,
        arrays: Mapping[str, np.ndarray],
        facts: Mapping[str, Any],
    ) -> dict[str, Any]:
        """What ``verification.json`` says of one format.

        Args:
            format_name: e.g. ``tflite_int8``.
            tolerance: how far it may be off.
            arrays: what ``export.verification_worker`` has found.
            facts: what it says beside them.

        Returns:
            A dict that JSON can hold; ``problems`` is empty if all is well.
        """
        problems: list[str] = []
        entry: dict[str, Any] = {"passed": False, "problems": problems}
        if "failed" in facts:
            problems.append(f"cannot be run in a new process ({facts['failed']})")
            return entry
        for name in ("operators", "signatures", "latency_ms", "latency_threads"):
            if name in facts:
                entry[name] = facts[name]
        problems += [f"{step}: {reason}" for step, reason in facts["problems"].items()]
        if "serving_default" in facts["problems"]:
            return entry
        problems += _find_forbidden(facts.get("operators", {}))
        problems += self._find_non_finite(arrays, facts)
        entry["finite"] = not any("not finite" in problem for problem in problems)
        if not entry["finite"]:
            return entry
        problems += self._compare_logits(entry, tolerance, arrays)
        problems += self._compare_activations(format_name, entry, tolerance, arrays, facts)
        problems += self._compare_agreement(entry, tolerance, arrays)
        problems += self._compare_facts(format_name, facts)
        if format_name == "saved_model":
            problems += self._compare_signatures(entry, tolerance, arrays, facts)
        entry["passed"] = not problems
        return entry

    def _find_non_finite(
        self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]
    ) -> Iterator[str]:
        first = facts.get("first_not_finite")
        for key, values in arrays.items():
            if values.dtype.kind != "f" or np.isfinite(values).all():
                continue
            name, _, part = key.rpartition("/")
            sound = ""
            if part in ("probes", "evaluation"):
                row = int(np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(1))[0])
                names = self.probes.names if part == "probes" else self.clips.names
                sound = f" for {names[row]}"
            place = f"; the first that is not: {first['place']}" if first else ""
            yield f"{name or key} not finite{sound}{place}"
            return

    def _compare_logits(
        self, entry: dict[str, Any], tolerance: Tolerance, arrays: Mapping[str, np.ndarray]
    ) -> Iterator[str]:
        worst = 0.0, ""
        largest = 0.0
        for key, found in arrays.items():
            if not key.startswith("logits/") or key == "logits/wav":
                continue
            part = key.removeprefix("logits/")
            wanted = self.reference.scores[key]
            if found.shape != wanted.shape:
                yield f"{key} have the shape {found.shape} and not {wanted.shape}"
                return
            errors = relative_errors(found, wanted)
            names = {"probes": self.probes.names, "evaluation": self.clips.names}.get(part, (part,))
            worst = max(worst, (float(errors.max()), names[int(errors.argmax())]))
            largest = max(largest, float(np.abs(found - wanted).max()))
            if part == "probes":
                entry["relative_error_of_probes"] = dict(zip(names, errors.tolist(), strict=True))
            if part == "evaluation":
                entry["relative_error_of_clips"] = float(relative_errors([found], [wanted])[0])
                entry["relative_error_of_worst_clip"] = float(errors.max())
            yield from self._judge_errors(
                entry, "logits", errors, names, self.reference.sounds[part], tolerance.logits
            )
        entry["relative_error"], entry["relative_error_of"] = worst
        entry["max_absolute_error"] = largest

    def _judge_errors(
        self,
        entry: dict[str, Any],
        name: str,
        errors: np.ndarray,
        sounds: Sequence[str],
        waveforms: np.ndarray,
        limit: float | None,
    ) -> Iterator[str]:
        """The largest error above the limit that rounding does not explain."""
        if limit is None:
            return
        for row in np.argsort(-errors):
            if errors[row] <= limit:
                return
            error, sound = float(errors[row]), sounds[row]
            allowed = SENSITIVITY_FACTOR * self.reference.measure_sensitivity(waveforms[row])[name]
            if not error <= allowed:
                title = "logits" if name == "logits" else f"activation '{name}'"
                yield (
                    f"{title}: {error:.1e} of their norm off for {sound}, and "
                    f"{max(limit, allowed):.0e} is allowed"
                )
                return
            entry.setdefault("explained_by_rounding", []).append(
                {"of": name, "sound": sound, "relative_error": error, "allowed": allowed}
            )

    def _compare_activations(
        self,
        format_name: str,
        entry: dict[str, Any],
        tolerance: Tolerance,
        arrays: Mapping[str, np.ndarray],
        facts: Mapping[str, Any],
    ) -> Iterator[str]:
        found_errors = {}
        if "activations" in facts["problems"]:
            return
        if "activations" not in facts["signatures"]:
            yield "has no signature 'activations'"
            return
        for name, wanted in self.reference.activations.items():
            if name == _FEATURES and format_name in TAKE_FEATURES:
                continue  # they are what it gets
            found = arrays.get(f"activation/{name}")
            if found is None or found.shape != wanted.shape:
                shape = "missing" if found is None else f"of shape {found.shape}"
                yield f"activation '{name}' is {shape}, and {wanted.shape} is wanted"
                continue
            errors = relative_errors(found, wanted)
            found_errors[name] = float(errors.max())
            yield from self._judge_errors(
                entry, name, errors, self.probes.names, self.probes.waveforms, tolerance.activations
            )
        entry["activations"] = found_errors

    def _compare_agreement(
        self, entry: dict[str, Any], tolerance: Tolerance, arrays: Mapping[str, np.ndarray]
    ) -> Iterator[str]:
        same = {}
        for part in ("probes", "evaluation"):
            found = arrays[f"logits/{part}"].argmax(axis=-1)
            same[part] = found == self.reference.scores[f"logits/{part}"].argmax(axis=-1)
        names = {"probes": self.probes.names, "evaluation": self.clips.names}
        for part, key in (("probes", "probes"), ("evaluation", "clips")):
            entry[f"{key}_of_another_class"] = [
                name for name, agrees in zip(names[part], same[part], strict=True) if not agrees
            ]
        entry["agreement"] = float(same["evaluation"].mean())
        entry["accuracy"] = measure_accuracy(arrays["logits/evaluation"], self.clips)
        wanted = tolerance.agreement if self.clips.real else tolerance.agreement_generated
        if wanted is not None and entry["agreement"] < wanted:
            count = len(same["evaluation"])
            changed = count - int(same["evaluation"].sum())
            yield (
                f"the first class of {changed} of {count} clips is another than the model's "
                f"(agreement {entry['agreement']:.2%}), and {wanted:.0%} must agree"
            )

    def _compare_signatures(
        self,
        entry: dict[str, Any],
        tolerance: Tolerance,
        arrays: Mapping[str, np.ndarray],
        facts: Mapping[str, Any],
    ) -> Iterator[str]:
        """What a SavedModel has beside scores and activations of waveforms."""
        failed = facts["problems"]
        errors = entry["other_signatures"] = {}
        scores = self.reference.scores
        wanted = {
            "embedding": ("embedding", "embedding", self.reference.embedding),
            "wav_bytes": ("logits/wav", "logits", self._expect_wav()),
            "classify": ("classify/scores", "scores", scores["probabilities/probes"]),
        }
        for signature, (key, title, values) in wanted.items():
            if signature in failed:
                continue
            if arrays[key].shape != values.shape:
                yield f"{signature}: {title} have the shape {arrays[key].shape}"
                continue
            errors[signature] = float(relative_errors(arrays[key], values).max())
            if tolerance.logits is not None and not errors[signature] <= tolerance.logits:
                yield (
                    f"{signature}: {title} {errors[signature]:.1e} of their norm off, and "
                    f"{tolerance.logits:.0e} is allowed"
                )
        if "classify" not in failed and any(
            list(row) != list(self.label_names) for row in arrays["classify/classes"]
        ):
            yield "classify: its classes are not the model's labels in the order of the scores"

    def _compare_facts(self, format_name: str, facts: Mapping[str, Any]) -> Iterator[str]:
        """What a file says of itself."""
        if {"labels", "metadata"}.isdisjoint(facts["problems"]):
            if facts.get("labels") != list(self.label_names):
                yield "the labels in it are not the model's"
            rate_hz = facts.get("sample_rate_hz", self.probes.sample_rate_hz)
            if rate_hz != self.probes.sample_rate_hz and format_name not in TAKE_FEATURES:
                yield f"it says {rate_hz} Hz, and the model's rate is {self.probes.sample_rate_hz}"

    def _expect_wav(self) -> np.ndarray:
        """Logits of the probes and of the other lengths, in the order of the encoded files."""
        scores = self.reference.scores
        others = [scores[f"logits/{part}"] for part in self.reference.sounds if "fitted/" in part]
        return np.concatenate([scores["logits/probes"], *others])


def relative_errors(found: Any, wanted: Any) -> np.ndarray:
    """``‖found − wanted‖ / ‖wanted‖`` of each row; of a row of zeros the norm of the difference.

    >>> relative_errors(np.array([[3.0, 5.0]]), np.array([[3.0, 4.0]])).tolist()
    [0.2]
    """
    rows = np.asarray(wanted, np.float64).reshape(len(wanted), -1)
    differences = np.asarray(found, np.float64).reshape(len(wanted), -1) - rows
    norms = np.linalg.norm(rows, axis=1)
    return np.linalg.norm(differences, axis=1) / np.where(norms > 0.0, norms, 1.0)


def measure_accuracy(logits: np.ndarray, clips: ClipSet) -> float | None:
    """Share of clips whose first class is theirs; None: the model has none of their classes."""
    known = clips.label_ids != UNKNOWN_CLASS
    if not known.any():
        return None
    return float((logits.argmax(axis=-1) == clips.label_ids)[known].mean())


def _find_forbidden(operators: Mapping[str, int]) -> Iterator[str]:
    for name in operators:
        if name.startswith(_CUSTOM):
            yield f"holds the operator {name.removeprefix(_CUSTOM)}, which is none of TFLite's own"
        if name in _VARIABLES:
            yield f"holds the operator {name}, so that a weight was not made a constant"
