"""Settings of the whole suite."""

from __future__ import annotations

import os

from absl import flags

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# tf.test.TestCase asks absl for its temporary folder, and absl wants its flags parsed first.
flags.FLAGS.mark_as_parsed()


def pytest_collection_modifyitems(items: list) -> None:
    """Drop ``test_session``: tf.test.TestCase has a method of that name which is no test."""
    items[:] = [item for item in items if item.name != "test_session"]
