"""Judges what an exported file says beside what the model says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.formats import Tolerance
from export.probes import Probes
from export.reference import Reference
from export.source import UNKNOWN_CLASS, ClipSet

# Operators that no interpreter without TensorFlow has, or that mean variables were not frozen.
FORBIDDEN_OPERATORS = ("custom:", "READ_VARIABLE", "VAR_HANDLE", "ASSIGN_VARIABLE", "CALL_ONCE")


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
        problems += self._compare_activations(entry, tolerance, arrays, facts)
        problems += self._compare_agreement(entry, tolerance, arrays)
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
        by_sound = {}
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
                by_sound = dict(zip(names, errors.tolist(), strict=True))
        entry["relative_error"], entry["relative_error_of"] = worst
        entry["max_absolute_error"] = largest
        entry["relative_error_of_probes"] = by_sound
        if tolerance.logits is not None and not worst[0] <= tolerance.logits:
            yield (
                f"logits differ by {worst[0]:.1e} of their norm for {worst[1]}, and "
                f"{tolerance.logits:.0e} is allowed"
            )

    def _compare_activations(
        self,
        entry: dict[str, Any],
        tolerance: Tolerance,
        arrays: Mapping[str, np.ndarray],
        facts: Mapping[str, Any],
    ) -> Iterator[str]:
        found_errors = {}
        if "activations" in facts.get("problems", {}) or "activations" not in facts["signatures"]:
            return
        for name, wanted in self.reference.activations.items():
            found = arrays.get(f"activation/{name}")
            if found is None or found.shape != wanted.shape:
                shape = "missing" if found is None else f"of shape {found.shape}"
                yield f"activation '{name}' is {shape}, and {wanted.shape} is wanted"
                continue
            error = float(relative_errors(found, wanted).max())
            found_errors[name] = error
            if tolerance.activations is not None and not error <= tolerance.activations:
                yield (
                    f"activation '{name}' differs by {error:.1e} of its norm, and "
                    f"{tolerance.activations:.0e} is allowed"
                )
        entry["activations"] = found_errors

    def _compare_agreement(
        self, entry: dict[str, Any], tolerance: Tolerance, arrays: Mapping[str, np.ndarray]
    ) -> Iterator[str]:
        same = {}
        for part in ("probes", "evaluation"):
            found = arrays[f"logits/{part}"].argmax(axis=-1)
            same[part] = found == self.reference.scores[f"logits/{part}"].argmax(axis=-1)
        entry["probes_of_another_class"] = [
            name
            for name, agrees in zip(self.probes.names, same["probes"], strict=True)
            if not agrees
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
                    f"{signature}: {title} differ by {errors[signature]:.1e} of their norm, and "
                    f"{tolerance.logits:.0e} is allowed"
                )
        labels = list(self.label_names)
        if "classify" not in failed and any(
            list(row) != labels for row in arrays["classify/classes"]
        ):
            yield "classify: its classes are not the model's labels in the order of the scores"
        if "labels" not in failed and facts.get("labels") != labels:
            yield "labels: they are not the model's"

    def _expect_wav(self) -> np.ndarray:
        """Logits of the probes and of the other lengths, in the order of the encoded files."""
        scores = self.reference.scores
        others = [scores[f"logits/{part}"] for part in self.reference.sounds if "fitted/" in part]
        return np.concatenate([scores["logits/probes"], *others])


def relative_errors(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
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
        if name.startswith(FORBIDDEN_OPERATORS):
            yield (
                f"holds the operator {name.removeprefix('custom:')}, which is none of TFLite's own"
            )
