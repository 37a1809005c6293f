"""Models without TensorFlow: half of a number plus two, as slow as a test wants it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from serving.api import Services
from serving.errors import ServingError
from serving.metrics import Metrics
from serving.models.config import ModelConfig
from serving.models.manager import ModelManager
from serving.models.servable import Servable
from serving.settings import ServerSettings
from serving.signatures import Signature, TensorSpec


class Gate:
    """Holds the runs of a model until a test lets them go.

    Attributes:
        entered: a run releases it when it begins.
        num_runs: that began.
    """

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.num_runs = 0
        self._open = threading.Event()
        self._open.set()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def pass_through(self) -> None:
        self.num_runs += 1
        self.entered.release()
        assert self._open.wait(60)


SIGNATURE = Signature(
    "serving_default",
    "tensorflow/serving/predict",
    {"x": TensorSpec("x", "serving_default_x:0", "DT_FLOAT", (None,))},
    {"y": TensorSpec("y", "StatefulPartitionedCall:0", "DT_FLOAT", (None,))},
)


def build_services(folder: Path, gate: Gate, **settings: object) -> Services:
    """A model named ``half`` with version 1, loaded; -1 as its input is a bug of the server's."""
    (folder / "half" / "1").mkdir(parents=True, exist_ok=True)

    def run(
        name: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        gate.pass_through()
        if len(inputs["x"]) and inputs["x"][0] == -1:
            raise RuntimeError("an error that nobody expected")
        if len(inputs["x"]) and inputs["x"][0] == -2:
            raise ServingError("UNAVAILABLE", "come again", retry_after_s=7)
        return {"y": inputs["x"] * np.float32(0.5) + np.float32(2)}

    def load(name: str, version: int, place: Path) -> Servable:
        return Servable(name, version, {SIGNATURE.name: SIGNATURE}, {}, run)

    metrics = Metrics(lambda: manager.model_names)
    configs = [ModelConfig("half", folder / "half")]
    manager = ModelManager(configs, load=load, report=lambda line: None)
    manager.start()
    return Services.build(manager, ServerSettings(**settings), metrics)  # type: ignore[arg-type]
