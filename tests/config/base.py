"""The shortest experiment there is, for tests to change."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from esc_tf.config import Experiment, build_experiment
from esc_tf.config.loading import apply_overrides
from esc_tf.errors import ConfigError

SHORTEST: dict[str, Any] = {
    "name": "shortest",
    "data": {"name": "synthetic"},
    "front_end": {"name": "log_mel"},
    "model": {"name": "se_cnn"},
}


def build_with(*overrides: str) -> Experiment:
    """The shortest experiment with ``--set`` strings applied."""
    return build_experiment(apply_overrides(copy.deepcopy(SHORTEST), overrides))


def problems_with(*overrides: str) -> list[str]:
    """The problems of the shortest experiment with ``--set`` strings applied."""
    with pytest.raises(ConfigError) as caught:
        build_with(*overrides)
    return caught.value.problems
