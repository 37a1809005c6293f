"""What a report says of a run's origin."""

from __future__ import annotations

from pathlib import Path

from esc_tf.evaluation.report.sections.origin import describe_origin
from esc_tf.evaluation.run_files import RunFiles
from tests.tiny import tiny_experiment


def test_each_resume_is_told_with_its_commit(tmp_path: Path) -> None:
    resumed = [
        {"started": "2026-01-02T03:04:05+00:00", "commit": "0123456789abcdef", "versions": {}},
        {"started": "2026-01-03T03:04:05+00:00", "commit": None},
    ]
    run = RunFiles(
        path=tmp_path,
        experiment=tiny_experiment(str(tmp_path)),
        facts={"resumed": resumed},
        history=[],
        metrics=None,
    )
    told = dict(describe_origin(run))
    assert told["resumed"] == (
        "2026-01-02T03:04:05+00:00 at 0123456789ab, 2026-01-03T03:04:05+00:00"
    )
