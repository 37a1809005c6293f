"""Settings of the whole suite."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def pytest_collection_modifyitems(items: list) -> None:
    """Drop ``test_session``: tf.test.TestCase has a method of that name which is no test."""
    items[:] = [item for item in items if item.name != "test_session"]
