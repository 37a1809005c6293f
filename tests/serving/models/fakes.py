"""A loader without TensorFlow, and a manager that it feeds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from serving.errors import ServingError
from serving.models.config import ModelConfig, VersionPolicy
from serving.models.manager import ModelManager
from serving.models.servable import Servable
from serving.signatures import Signature, TensorSpec

WAIT_S = 60.0  # so long a broken test waits; a sound one never does

SIGNATURE = Signature(
    name="serving_default",
    method_name="tensorflow/serving/predict",
    inputs={"x": TensorSpec("x", "x:0", "DT_FLOAT", (None,))},
    outputs={"y": TensorSpec("y", "y:0", "DT_FLOAT", (None,))},
)


class FakeLoader:
    """Loads folders that hold a file ``model``; its text says what comes of it.

    ``broken`` fails as a damaged SavedModel does, ``crash`` with an error that nobody foresaw;
    anything else is a model whose y is x plus the version.

    Attributes:
        loads: ``name/version`` of each load, in order.
        freed: of each version that was given back.
        gate: loads wait for it.
    """

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.freed: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, model_name: str, version: int, folder: Path) -> Servable:
        name = f"{model_name}/{version}"
        self.loads.append(name)
        assert self.gate.wait(WAIT_S)
        text = (folder / "model").read_text() if (folder / "model").is_file() else "broken"
        if text == "broken":
            raise ServingError("DATA_LOSS", f"Can't parse {folder} as binary proto")
        if text == "crash":
            raise RuntimeError("surprise")
        return Servable(
            model_name,
            version,
            {SIGNATURE.name: SIGNATURE},
            {},
            lambda name, inputs, outputs: {"y": inputs["x"] + version},
            release=lambda: self.freed.append(name),
        )


def put(base: Path, version: int | str, text: str = "sound") -> Path:
    """Make a version as an export does: complete from the moment that it is there."""
    partial = base / f".{version}.partial"
    partial.mkdir(parents=True)
    (partial / "model").write_text(text)
    partial.rename(base / str(version))
    return base / str(version)


@contextmanager
def managing(
    *configs: ModelConfig, load: FakeLoader | None = None, start: bool = True, **how: Any
) -> Iterator[ModelManager]:
    """A manager that looks again at once, over and over; closed in the end."""
    lines: list[str] = []
    settings = {"poll_wait_s": 0.005, "num_load_retries": 0, "report": lines.append, **how}
    manager = ModelManager(configs, load=load or FakeLoader(), **settings)
    manager.lines = lines  # type: ignore[attr-defined]
    try:
        if start:
            manager.start()
        yield manager
    finally:
        manager.close()


def config(base: Path, policy: VersionPolicy | None = None, **how: Any) -> ModelConfig:
    return ModelConfig(how.pop("name", "m"), base, policy or VersionPolicy(), **how)


def states(manager: ModelManager, name: str = "m") -> dict[int, str]:
    """State of each version; its code where that is not OK."""
    try:
        found = manager.status(name)
    except ServingError:
        return {}
    return {
        s.version: s.state + ("" if s.error_code == "OK" else f" {s.error_code}") for s in found
    }


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.002)


def wait_for_states(manager: ModelManager, expected: dict[int, str], name: str = "m") -> None:
    wait_until(lambda: states(manager, name) == expected)


def answer(manager: ModelManager, **which: Any) -> float:
    """Which version answers."""
    with manager.lease("m", **which) as servable:
        return float(servable.run("", {"x": np.zeros(1, np.float32)})["y"][0])
