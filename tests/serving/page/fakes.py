"""A model manager without TensorFlow: models of NumPy that the page can and cannot use."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from serving.errors import ServingError
from serving.models.states import VersionStatus
from serving.signatures import Signature, TensorSpec

RATE_HZ = 8_000
NUM_SAMPLES = 8_000
LABELS = ("low hum", "middle tone", "high whistle")
BAND_EDGES_HZ = (0.0, 500.0, 1_500.0, RATE_HZ / 2)
PREDICT = "tensorflow/serving/predict"

Arrays = dict[str, np.ndarray]


def signature(
    name: str, inputs: Mapping[str, TensorSpec | None], outputs: Sequence[str]
) -> Signature:
    specs = {alias: spec or waveform_spec(alias) for alias, spec in inputs.items()}
    return Signature(name, PREDICT, specs, {alias: waveform_spec(alias) for alias in outputs})


def waveform_spec(alias: str, dtype: str = "DT_FLOAT") -> TensorSpec:
    return TensorSpec(alias, f"{alias}:0", dtype, (None, None))


def score_bands(waveform: np.ndarray) -> np.ndarray:
    """Share of each band in the energy of waveforms ``(batch, samples)``."""
    power = np.square(np.abs(np.fft.rfft(waveform)))
    frequencies = np.fft.rfftfreq(waveform.shape[1], 1.0 / RATE_HZ)
    edges = list(zip(BAND_EDGES_HZ, BAND_EDGES_HZ[1:], strict=False))
    bands = [
        power[:, (frequencies >= low) & (frequencies < high)].sum(axis=1) for low, high in edges
    ]
    energies = np.stack(bands, axis=1) + 1e-9
    return (energies / energies.sum(axis=1, keepdims=True)).astype(np.float32)


def activate(waveform: np.ndarray) -> Arrays:
    """Layers whose channels are known: channel ``c`` of block2 is ``c`` wherever there is sound."""
    frames = np.abs(waveform[:, : waveform.shape[1] // 100 * 100]).reshape(len(waveform), -1, 100)
    loud = (frames.max(axis=2) > 0.01).astype(np.float32)
    block2 = loud[:, :, None, None] * np.arange(6.0) * np.ones((1, 1, 8, 1))
    return {
        "probabilities": score_bands(waveform),
        "features": loud[:, :, None, None] * np.ones((1, 1, 16, 1), np.float32),
        "block10": block2[:, ::2, :4] + 1.0,
        "block2": block2,
        "embedding": np.stack([np.arange(5.0)] * len(waveform)),
    }


@dataclasses.dataclass
class FakeServable:
    """A loaded model; ``on_run`` sees every call before it is answered."""

    version: int
    signatures: dict[str, Signature]
    on_run: Callable[[str, Mapping[str, np.ndarray]], None] = lambda name, inputs: None
    labels: tuple[str, ...] = LABELS

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str] | None = None,
    ) -> Arrays:
        self.on_run(signature_name, inputs)
        if signature_name == "audio_format":
            return {"sample_rate_hz": np.int32(RATE_HZ), "num_samples": np.int32(NUM_SAMPLES)}
        if signature_name == "labels":
            return {"labels": np.array([label.encode() for label in self.labels], object)}
        waveform = inputs["waveform"]
        assert waveform.dtype == np.float32 and waveform.ndim == 2
        computed = (
            activate(waveform)
            if signature_name == "activations"
            else {"probabilities": score_bands(waveform)}
        )
        return {name: computed[name] for name in outputs or computed}


def sound_model(version: int = 1, *, without: Sequence[str] = ()) -> FakeServable:
    """A model of three frequency bands that hears one second at 8 kHz."""
    names = ("probabilities", "features", "block10", "block2", "embedding")
    signatures = {
        "serving_default": signature("serving_default", {"waveform": None}, ["probabilities"]),
        "activations": signature("activations", {"waveform": None}, names),
        "labels": signature("labels", {}, ["labels"]),
        "audio_format": signature("audio_format", {}, ["sample_rate_hz", "num_samples"]),
    }
    return FakeServable(
        version, {name: item for name, item in signatures.items() if name not in without}
    )


def number_model() -> FakeServable:
    """A model that has nothing to do with sound."""
    return FakeServable(3, {"serving_default": signature("serving_default", {"x": None}, ["y"])})


class FakeManager:
    """Lends fake models, and counts what is lent."""

    def __init__(self, models: Mapping[str, Sequence[FakeServable]]) -> None:
        self._models = models
        self._lock = threading.Lock()
        self.num_leases = 0

    @property
    def model_names(self) -> tuple[str, ...]:
        return tuple(self._models)

    @contextlib.contextmanager
    def lease(
        self, model_name: str, version: int | None = None, label: str | None = None
    ) -> Iterator[FakeServable]:
        found = [
            item for item in self._models.get(model_name, ()) if version in (None, item.version)
        ]
        if not found:
            raise ServingError("NOT_FOUND", f"Servable not found for request: {model_name}")
        with self._lock:
            self.num_leases += 1
        try:
            yield max(found, key=lambda item: item.version)
        finally:
            with self._lock:
                self.num_leases -= 1

    def status(
        self, model_name: str, version: int | None = None, label: str | None = None
    ) -> list[VersionStatus]:
        models = self._models[model_name]
        if not models:
            return [VersionStatus(1, "END", "NOT_FOUND", "saved_model.pb is damaged")]
        return [VersionStatus(item.version, "AVAILABLE") for item in models]
