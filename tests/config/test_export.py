"""The section that says which clips an export hears."""

from __future__ import annotations

import pytest

from esc_tf.config import dump_experiment, load_experiment
from esc_tf.config.yaml_format import dump_yaml, parse_yaml
from esc_tf.training.run_directory import check_resumable, digest_experiment
from tests.config.base import build_with, problems_with


def test_defaults_and_values_of_ones_own() -> None:
    export = build_with().export
    assert (export.calibration_clips, export.evaluation_clips, export.clip_seed) == (128, 400, 0)
    assert build_with("export.calibration_clips=12").export.calibration_clips == 12


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("export.calibration_clips=0", "export.calibration_clips: must be at least 1, not 0"),
        ("export.evaluation_clips=1.5", "export.evaluation_clips: must be a whole number, not 1.5"),
        ("export.clip_seed=-1", "export.clip_seed: must be at least 0, not -1"),
        (
            "export.calibration_clip=3",
            "export.calibration_clip: unknown key; did you mean 'calibration_clips'?",
        ),
    ],
)
def test_problems(override: str, words: str) -> None:
    assert problems_with(override) == [words]


def test_a_resolved_file_without_the_section_still_loads(tmp_path) -> None:
    path = tmp_path / "resolved.yaml"
    content = parse_yaml(dump_experiment(build_with()), "resolved.yaml")
    del content["export"]
    path.write_text(dump_yaml(content))
    assert load_experiment(path) == build_with()


def test_is_no_part_of_what_a_resumed_run_must_keep() -> None:
    before, after = build_with(), build_with("export.calibration_clips=12")
    check_resumable(before, after)
    assert digest_experiment(before) == digest_experiment(after)
