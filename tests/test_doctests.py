"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib

import pytest

from tests.test_architecture import MODULES

WITH_EXAMPLES = [
    module
    for module, path in MODULES.items()
    if ">>> " in path.read_text(encoding="utf-8") and path.name != "__main__.py"
]


def test_there_are_examples() -> None:
    assert {"esc_tf.frames", "esc_tf.config.yaml_format"} <= set(WITH_EXAMPLES)


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples(module: str) -> None:
    results = doctest.testmod(
        importlib.import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert results.attempted > 0
    assert results.failed == 0
