"""The arithmetic in which layers compute, chosen for a stretch of code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras


@contextmanager
def precision_scope(precision: str) -> Iterator[None]:
    """Layers made inside compute in ``precision``; afterwards the global policy is as before.

    Args:
        precision: a Keras policy: ``float32``, ``mixed_bfloat16``, ``mixed_float16``.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
