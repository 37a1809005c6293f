"""What a run directory holds, read for a report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esc_tf.config import Experiment
from esc_tf.errors import EscTfError

METRICS_FILE = "metrics.json"
HISTORY_FILE = "metrics.jsonl"
PHASES_FILE = "phases.json"
REPORT_FOLDER = "report"
PAGE_FILE = "index.html"


@dataclass(frozen=True)
class RunFiles:
    """A run as its files tell it; nothing is computed.

    Attributes:
        path: the run directory.
        experiment: its configuration.
        facts: versions, devices, commit and the like.
        history: one mapping an epoch.
        metrics: what the finished run measured; None for a run that is not finished.
        phases: what each phase of a training in phases measured, with its ``name`` and ``folder``.
    """

    path: Path
    experiment: Experiment
    facts: Mapping[str, Any]
    history: tuple[dict[str, Any], ...]
    metrics: dict[str, Any] | None
    phases: tuple[dict[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """The folder's name, which tells runs of one experiment apart."""
        return self.path.resolve().name

    @property
    def page_path(self) -> Path:
        """Where the run's own report lies."""
        return self.path / REPORT_FOLDER / PAGE_FILE

    @property
    def measured_part(self) -> str | None:
        """``test``, else ``validation``: the clips whose measures count; None: no measures."""
        for part in ("test", "validation"):
            if self.metrics and part in self.metrics:
                return part
        return None


def read_run_files(path: str | Path, experiment: Experiment, facts: Mapping[str, Any]) -> RunFiles:
    """Read what lies in a run directory beside ``resolved.yaml``.

    Args:
        path: the run directory.
        experiment: the configuration in its ``resolved.yaml``.
        facts: the facts there.

    Raises:
        EscTfError: a file is damaged.
    """
    path = Path(path)
    metrics = _read_text(path / METRICS_FILE)
    phases = _read_text(path / PHASES_FILE)
    return RunFiles(
        path=path,
        experiment=experiment,
        facts=facts,
        history=read_history(path),
        metrics=None if metrics is None else _parse(metrics, path / METRICS_FILE),
        phases=() if phases is None else tuple(_parse(phases, path / PHASES_FILE)["phases"]),
    )


def read_history(folder: Path) -> tuple[dict[str, Any], ...]:
    """The epochs of the run in a folder; none where there is no log.

    Raises:
        EscTfError: the log is damaged.
    """
    path = folder / HISTORY_FILE
    lines = (_read_text(path) or "").splitlines()
    return tuple(_parse(line, path) for line in lines if line)


def _read_text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise EscTfError(
            f"{path}: is damaged ({error}); resume the run to write it again"
        ) from None
    if not isinstance(parsed, dict):
        raise EscTfError(f"{path}: is damaged (no JSON object); resume the run to write it again")
    return parsed
