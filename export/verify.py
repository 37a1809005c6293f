"""Every exported file against the model it was made from, in a process of its own each.

What must hold is in ``export.formats``: all numbers finite; logits of SavedModel and float32
TFLite within 1e-5 of their norm, of float16 within 1e-2; of the other formats the first class of
at least 99 % of the evaluation clips. A difference of twice what the model's own answer to a sound
moves, when sound and weights move by a step of float32, is passed and said: rounding does as much.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import export
from esc_tf.errors import ExportError
from export.checks import find_non_finite_output
from export.comparison import Judge, measure_accuracy
from export.formats import TAKE_FEATURES, TOLERANCES
from export.probes import Probes, make_probes
from export.reference import Reference, compute_reference
from export.source import ExportSource
from export.verification_worker import save_arrays

_PROBE_CLIPS = 4
_WORKER = "export.verification_worker"


@dataclass(frozen=True)
class Artefact:
    """One exported file, or folder.

    Attributes:
        format_name: e.g. ``tflite_float16``.
        path: where it lies.
    """

    format_name: str
    path: Path

    @property
    def size_bytes(self) -> int:
        """Bytes of the file, or of all files in the folder."""
        if self.path.is_file():
            return self.path.stat().st_size
        return sum(path.stat().st_size for path in self.path.rglob("*") if path.is_file())


@dataclass(frozen=True)
class Verifier:
    """Compares exported files with their model.

    Attributes:
        source: the model and the evaluation slice.
        probes: silence, noise, a tone, a clipped tone and some clips.
        reference: what the model says.
        activations: names that every file must give.
        min_agreement: smallest share of evaluation clips whose first class is the model's, in
            place of that of ``TOLERANCES``; None: that.
    """

    source: ExportSource
    probes: Probes
    reference: Reference
    activations: tuple[str, ...]
    min_agreement: float | None = None

    def verify(
        self, artefacts: Sequence[Artefact], report: Callable[[str], object] = print
    ) -> dict[str, Any]:
        """Run every file in a new process and compare it.

        Args:
            artefacts: the files.
            report: takes a line before each file.

        Returns:
            What ``verification.json`` holds; ``passed`` is true if nothing is wrong anywhere.
        """
        judge = Judge(
            self.reference, self.probes, self.source.evaluation, self.source.model.label_names
        )
        clips = self.source.evaluation
        entries = {}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            files = self._write_sounds(folder)
            for artefact in artefacts:
                report(f"verifying {artefact.format_name}")
                tolerance = TOLERANCES[artefact.format_name]
                if self.min_agreement is not None and tolerance.agreement is not None:
                    tolerance = replace(
                        tolerance,
                        agreement=self.min_agreement,
                        agreement_generated=self.min_agreement,
                    )
                takes_features = artefact.format_name in TAKE_FEATURES
                job = {
                    "path": str(artefact.path.resolve()),
                    "sounds": files["features" if takes_features else "sounds"],
                    "wav": files["wav"],
                    "activations": list(self.activations),
                    "probe_names": list(self.probes.names),
                    "result": str(folder / "result.npz"),
                }
                arrays, facts = run_worker(job, folder)
                entries[artefact.format_name] = {
                    "size_bytes": artefact.size_bytes,
                    "tolerance": asdict(tolerance),
                    **judge.judge(artefact.format_name, tolerance, arrays, facts),
                }
        logits = self.reference.scores["logits/evaluation"]
        return {
            "passed": all(entry["passed"] for entry in entries.values()),
            "model": {
                "name": self.source.name,
                "accuracy": measure_accuracy(logits, clips),
            },
            "evaluation": {
                "clips": len(clips.names),
                "from": clips.origin,
                "generated": not clips.real,
            },
            "probes": list(self.probes.names),
            "formats": entries,
        }

    def _write_sounds(self, folder: Path) -> dict[str, Any]:
        """Write what the new processes hear; returns where it is."""
        save_arrays(folder / "sounds.npz", self.reference.sounds)
        save_arrays(folder / "features.npz", self.reference.features)
        waveforms = [*self.probes.waveforms]
        waveforms += [
            sound[0] for part, sound in self.reference.sounds.items() if "fitted/" in part
        ]
        paths = []
        for number, waveform in enumerate(waveforms):
            paths.append(str(folder / f"{number}.wav"))
            write_wav(paths[-1], waveform, self.probes.sample_rate_hz)
        return {
            "sounds": str(folder / "sounds.npz"),
            "features": str(folder / "features.npz"),
            "wav": paths,
        }


def prepare_verification(
    source: ExportSource,
    num_samples: int,
    activations: Sequence[str] = (),
    min_agreement: float | None = None,
) -> Verifier:
    """Ask the model itself, before anything is converted.

    Args:
        source: the model and its clips.
        num_samples: length of the model's clips.
        activations: names that the files will be asked for.
        min_agreement: see ``Verifier``.

    Raises:
        ExportError: what the model says is not finite; the first layer that it is so of is named.
    """
    rate_hz = int(source.model.audio["sample_rate_hz"])
    probes = make_probes(rate_hz, num_samples, source.evaluation, _PROBE_CLIPS)
    reference = compute_reference(source.model, probes, source.evaluation, activations)
    names = {"probes": probes.names, "evaluation": source.evaluation.names}
    for part, sounds in names.items():
        finite = np.isfinite(reference.scores[f"logits/{part}"]).all(axis=-1)
        if not finite.all():
            row = int(np.flatnonzero(~finite)[0])
            layer = find_non_finite_output(source.model, reference.sounds[part][row])
            raise ExportError(
                f"the model's logits of {sounds[row]} are not finite, first behind layer "
                f"'{layer or 'logits'}'; train it again, or go back to an earlier checkpoint"
            )
    return Verifier(source, probes, reference, tuple(activations), min_agreement)


def run_worker(
    job: Mapping[str, Any], folder: Path
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Run a job of ``export.verification_worker`` in a new process.

    Returns:
        The arrays that were computed, and facts beside them. A process that died has none of the
        former and ``failed`` in the latter.
    """
    path = folder / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    result = Path(job["result"])
    result.unlink(missing_ok=True)
    root = str(Path(export.__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", _WORKER, str(path)],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "CUDA_VISIBLE_DEVICES": "-1",  # where the reference was computed
            "TF_CPP_MIN_LOG_LEVEL": "2",
        },
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode or not result.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"code {done.returncode}"
        last = f": {lines[-1].strip()}" if lines else ""
        return {}, {"failed": f"the process ended with {how}{last}"}
    with np.load(result) as stored:
        arrays = {key: stored[key] for key in stored.files}
    return arrays, json.loads(str(arrays.pop("facts")))


def write_wav(path: str, waveform: np.ndarray, sample_rate_hz: int) -> None:
    """Write a waveform of whole 16-bit steps as a WAV file, without loss."""
    with wave.open(path, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes(np.round(waveform * 32768.0).astype("<i2").tobytes())


def format_table(verification: Mapping[str, Any]) -> str:
    """The report as text: one line a format, then what is odd and what is wrong.

    Errors are relative to the norm of the model's logits: the largest of any sound, and that of all
    clips together.
    """
    model, evaluation = verification["model"], verification["evaluation"]
    accuracy = model["accuracy"]
    said = "" if accuracy is None else f", of which the model knows {accuracy:.2%}"
    lines = [
        f"agreement and accuracy on {evaluation['clips']} clips ({evaluation['from']}){said}",
        f"{'format':<22}{'size':>10}{'largest error':>15}{'of clips':>10}{'agreement':>11}"
        f"{'accuracy':>10}{'latency':>11}  verdict",
    ]
    notes, problems = [], []
    for name, entry in verification["formats"].items():
        cells = (
            f"{entry['size_bytes'] / 1e6:.2f} MB",
            _cell(entry.get("relative_error"), "{:.1e}"),
            _cell(entry.get("relative_error_of_clips"), "{:.1e}"),
            _cell(entry.get("agreement"), "{:.2%}"),
            _cell(entry.get("accuracy"), "{:.2%}"),
            _cell(entry.get("latency_ms"), "{:.1f} ms"),
        )
        widths = (10, 15, 10, 11, 10, 11)
        row = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        lines.append(f"{name:<22}{row}  {'passed' if entry['passed'] else 'FAILED'}")
        problems += [f"{name}: {problem}" for problem in entry["problems"]]
        notes += [
            f"{name}: {item['of']}: {item['relative_error']:.1e} off for {item['sound']}, which "
            f"rounding in float32 explains (up to {item['allowed']:.1e})"
            for item in entry.get("explained_by_rounding", [])
        ]
    return "\n".join([*lines, *notes, *problems])


def _cell(value: float | None, pattern: str) -> str:
    return "-" if value is None else pattern.format(value)
