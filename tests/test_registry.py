from __future__ import annotations

import pytest

from esc_tf.errors import EXIT_BAD_REQUEST, UnknownNameError
from esc_tf.registry import look_up, suggest_name

TABLE = {"se_cnn": 1, "cnn10": 2}


def test_a_known_name_is_found() -> None:
    assert look_up(TABLE, "cnn10", "model") == 2


def test_an_unknown_name_is_answered_with_the_nearest_and_with_all() -> None:
    with pytest.raises(UnknownNameError) as caught:
        look_up(TABLE, "se_cn", "model")
    message = "unknown model 'se_cn'; did you mean 'se_cnn'? (known: cnn10, se_cnn)"
    assert caught.value.problems == [message]
    assert caught.value.exit_code == EXIT_BAD_REQUEST


def test_nothing_is_suggested_for_something_else_altogether() -> None:
    assert suggest_name("zzz", TABLE) == ""
