"""The kinds of data set in a configuration."""

from __future__ import annotations

import pytest

from esc_tf.config import (
    FolderDataConfig,
    ShardsDataConfig,
    UrbanSound8KDataConfig,
)
from tests.config.base import build_with, problems_with


@pytest.mark.parametrize(
    ("data", "section", "num_classes"),
    [
        ("{name: urbansound8k, root: x}", UrbanSound8KDataConfig, 10),
        ("{name: urbansound8k, root: x, classes: [siren, drilling]}", UrbanSound8KDataConfig, 2),
        ("{name: folder, root: x, classes: [a, b, c]}", FolderDataConfig, 3),
    ],
)
def test_a_count_of_classes_that_needs_no_data(data: str, section: type, num_classes: int) -> None:
    experiment = build_with(f"data={data}")
    assert isinstance(experiment.data, section)
    assert experiment.data.num_classes == num_classes


def test_defaults() -> None:
    assert build_with("data={name: urbansound8k, root: x}").data.test_fold == 10
    folder = build_with("data={name: folder, root: x}").data
    assert (folder.num_folds, folder.fold_seed, folder.source_pattern) == (5, 0, None)
    assert folder.decoder == "soundfile"
    shards = build_with("data={name: shards, root: x}").data
    assert isinstance(shards, ShardsDataConfig)
    assert not shards.local_shards


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("{name: folder, root: x, source_pattern: '^(a'}",
         "data.source_pattern: is no regular expression (missing ), unterminated subpattern at "
         "position 1)"),
        ("{name: folder, root: x, source_pattern: 'a'}",
         "data.source_pattern: must have one group, the recording, not 0"),
        ("{name: folder, root: x, num_folds: 1}", "data.num_folds: must be at least 2, not 1"),
        ("{name: folder, root: x, num_fold: 4}",
         "data.num_fold: unknown key; did you mean 'num_folds'?"),
        ("{name: urbansound8k, root: x, classes: esc10}",
         "data.classes: must be 'all' or a list, not 'esc10'"),
        ("{name: urbansound8k}", "data.root: is required"),
        ("{name: shards, root: x, parallel_reads: 0}",
         "data.parallel_reads: must be at least 1, not 0"),
        ("{name: esc50, root: x, decoder: tfi}",
         "data.decoder: must be 'soundfile' or 'tfio', not 'tfi'; did you mean 'tfio'?"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence(data: str, problem: str) -> None:
    assert problems_with(f"data={data}") == [problem]


@pytest.mark.parametrize("option", ["cache_dir: x", "on_bad_file: skip", "decoder: tfio"])
def test_shards_take_no_option_that_they_would_ignore(option: str) -> None:
    (problem,) = problems_with(f"data={{name: shards, root: x, {option}}}")
    assert problem.startswith(f"data.{option.split(':')[0]}: unknown key")
