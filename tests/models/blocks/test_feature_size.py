from __future__ import annotations

import pytest

from esc_tf.models.blocks import find_size_problems


@pytest.mark.parametrize("shape", [(16, 16, 1), (None, 16, 1), (1000, 128, 3)])
def test_features_that_are_large_enough(shape: tuple) -> None:
    assert find_size_problems(4, shape) == []


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((15, 16, 1), ["4 blocks need 16 frames, the clip has 15"]),
        ((None, 15, 1), ["4 blocks need 16 frequency bins, the features have 15"]),
        ((1, 1, 1), ["16 frames, the clip has 1", "16 frequency bins, the features have 1"]),
    ],
)
def test_each_axis_that_is_too_short_is_named(shape: tuple, words: list[str]) -> None:
    problems = find_size_problems(4, shape)
    assert len(problems) == len(words)
    assert all(word in problem for word, problem in zip(words, problems, strict=True))
