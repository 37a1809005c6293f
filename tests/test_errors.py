from __future__ import annotations

import pytest

from esc_tf import errors


def test_one_sentence_or_several() -> None:
    assert errors.DataError("one").problems == ["one"]
    several = errors.DataError(str(number) for number in range(3))
    assert several.problems == ["0", "1", "2"]
    assert str(several) == "0\n1\n2"


@pytest.mark.parametrize(
    ("kind", "exit_code"),
    [
        (errors.ConfigError, 2),
        (errors.UnknownNameError, 2),
        (errors.DataError, 2),
        (errors.AudioError, 2),
        (errors.RequestError, 2),
        (errors.CheckpointError, 1),
        (errors.TrainingError, 1),
    ],
)
def test_a_wrong_request_is_told_from_a_failure(
    kind: type[errors.EscTfError], exit_code: int
) -> None:
    assert kind("x").exit_code == exit_code
    assert isinstance(kind("x"), errors.EscTfError)
