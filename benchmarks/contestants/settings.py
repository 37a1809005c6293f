"""What both sides of the training benchmark share: the experiment, and a clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from esc_tf.config import Experiment, load_experiment

PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}

# Does one round and returns its seconds, or what else a contestant measures.
Round = Callable[[], float]


def load_settings(settings: dict[str, Any]) -> Experiment:
    """The published SE-CNN's experiment without augmentation."""
    overrides = ["augment.noise=null", "augment.time_shift=null", "augment.mixup=null"]
    overrides.append(f"recipe.batch_size={settings['batch_size']}")
    overrides.append(f"distribution.precision={PRECISIONS[settings['precision']]}")
    return load_experiment(settings["config"], overrides)


def timed(work: Callable[[], object], num_calls: int = 1) -> Round:
    """A round that does ``work`` some times and returns the seconds that each took."""

    def round_() -> float:
        start = time.perf_counter()
        for _ in range(num_calls):
            work()
        return (time.perf_counter() - start) / num_calls

    return round_
