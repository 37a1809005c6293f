"""How a served model hears a sound: which of its signatures fit, windows, scores, features."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from esc_tf.evaluation.timeline.windows import cut_windows
from serving.errors import ServingError
from serving.page.display import encode_bytes
from serving.page.sound import UploadedSound, UploadError
from serving.signatures import DEFAULT_SIGNATURE_NAME, Signature

WAVEFORM, PROBABILITIES = "waveform", "probabilities"
ACTIVATIONS, LABELS, AUDIO_FORMAT = "activations", "labels", "audio_format"
_SCORES = (PROBABILITIES, "logits")
# Windows that are scored in one call: as many as keep the memory of a large network modest.
_BATCH = 8
_MIN_HOP_S = 0.5
# A last window with less than this part of it new, one hundredth, is left out.
_SHORTEST_END = 100
_MAX_WINDOWS = 240
_CHANNELS_A_LAYER = 8
_MAX_MAP_SHAPE = (64, 32)


class RunsSignatures(Protocol):
    """A loaded model, as ``serving.models`` has it."""

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """What can be called, by name."""

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str] | None = None,
    ) -> dict[str, np.ndarray]:
        """Call a signature for some of its outputs, or all."""


class NotUsableError(ValueError):
    """The page cannot use this model; the message says why."""


@dataclasses.dataclass(frozen=True)
class Window:
    """What a model heard in a part of a sound.

    Attributes:
        start_s: where it starts, in seconds.
        end_s: where it ends.
        probabilities: ``(classes,)``.
    """

    start_s: float
    end_s: float
    probabilities: np.ndarray


def explain_use(signatures: Mapping[str, Signature]) -> str | None:
    """Say why the page cannot use a model with these signatures; None: it can."""
    default = signatures.get(DEFAULT_SIGNATURE_NAME)
    if default is None or set(default.inputs) != {WAVEFORM} or PROBABILITIES not in default.outputs:
        return (
            "It does not take sound: the page needs the signature "
            f"{DEFAULT_SIGNATURE_NAME} with the input {WAVEFORM} and the output {PROBABILITIES}; "
            f"{_describe(signatures)}."
        )
    spec = default.inputs[WAVEFORM]
    if spec.dtype != "DT_FLOAT" or (spec.shape is not None and len(spec.shape) != 2):
        return (
            f"Its input {WAVEFORM} is {spec.dtype} of shape {spec.shape}, and the page sends "
            "DT_FLOAT (batch, samples)."
        )
    if AUDIO_FORMAT not in signatures:
        return (
            f"It does not say at which sample rate it listens: its signature {AUDIO_FORMAT} is "
            "missing. Export it again with python -m export."
        )
    return None


class Listener:
    """A served model as the page uses it.

    Args:
        servable: a loaded model, held for as long as the listener is used.

    Attributes:
        sample_rate_hz: of the model's waveforms.
        window_s: length of its clips in seconds.
        label_names: name of each class; None when the model does not tell them.
        has_features: whether ``find_features`` may be asked.

    Raises:
        NotUsableError: see ``explain_use``.
        ServingError: the model does not answer.
    """

    def __init__(self, servable: RunsSignatures) -> None:
        problem = explain_use(servable.signatures)
        if problem is not None:
            raise NotUsableError(problem)
        self._servable = servable
        audio = servable.run(AUDIO_FORMAT, {})
        self.sample_rate_hz = int(audio["sample_rate_hz"])
        self._num_samples = int(audio["num_samples"])
        self.window_s = self._num_samples / self.sample_rate_hz
        self.label_names: list[str] | None = None
        if LABELS in servable.signatures:
            labels = servable.run(LABELS, {})[LABELS]
            self.label_names = [label.decode("utf-8", "replace") for label in labels.reshape(-1)]
        activations = servable.signatures.get(ACTIVATIONS)
        self._layers: list[str] = []
        if activations is not None and set(activations.inputs) == {WAVEFORM}:
            self._layers = sorted(set(activations.outputs) - set(_SCORES), key=_natural)
        self.has_features = bool(self._layers)

    def name_class(self, index: int) -> str:
        """The label of a class, or its number where the model tells none."""
        if self.label_names is None or index >= len(self.label_names):
            return f"class {index}"
        return self.label_names[index]

    def choose_hop_s(self, duration_s: float) -> float:
        """Seconds from window to window, for a sound that long.

        Half a second where that makes few windows, up to half a window: nothing is skipped.
        """
        return min(self.window_s / 2, max(_MIN_HOP_S, duration_s / _MAX_WINDOWS))

    def hear(self, sound: UploadedSound, duration_s: float) -> Iterator[list[Window]]:
        """Score a sound window by window; yield some at a time, as they come.

        Args:
            sound: what is heard.
            duration_s: its length.
        """
        hop = max(1, round(self.choose_hop_s(duration_s) * self.sample_rate_hz))
        blocks = sound.read_resampled(self.sample_rate_hz)
        batch: list[np.ndarray] = []
        num_done = 0
        for window in cut_windows(blocks, self._num_samples, hop):
            num_new = len(window) - (self._num_samples - hop)
            if num_done + len(batch) and num_new < self._num_samples // _SHORTEST_END:
                break  # the few samples that decoders add are no window of their own
            # A shorter one, which only the last can be, is filled up by the model itself.
            if batch and len(window) != len(batch[0]):
                yield self._score(batch, num_done, hop)
                num_done, batch = num_done + len(batch), []
            batch.append(window)
            if len(batch) == _BATCH:
                yield self._score(batch, num_done, hop)
                num_done, batch = num_done + len(batch), []
        if batch:
            yield self._score(batch, num_done, hop)

    def find_features(self, sound: UploadedSound, start_s: float) -> dict[str, Any]:
        """The most active channels of each hidden layer, in the window that starts there.

        A channel is active where it is above what it is in silence of the same length: many are
        at their largest when there is nothing to hear.

        Returns:
            ``start_s`` and ``end_s`` of the window, and ``layers``: ``name``, ``num_channels``
            and ``channels``, the most active first, each with its ``index``, ``activity`` (mean
            of what is above silence), ``score`` (standard deviations of it above the mean of the
            layer's channels) and, of layers over time and frequency, ``map``: ``rows`` (time),
            ``columns`` (frequency) and ``data``, base64 of one byte a value, from 0 for as in
            silence or less to the channel's largest value.

        Raises:
            UploadError: the sound ends before the window starts.
        """
        start = max(0, round(start_s * self.sample_rate_hz))
        parts, num_missing, position = [], self._num_samples, 0
        for block in sound.read_resampled(self.sample_rate_hz):
            part = block[max(0, start - position) :][:num_missing]
            position += len(block)
            parts.append(part)
            num_missing -= len(part)
            if num_missing == 0:
                break
        waveform = np.concatenate(parts)
        if not len(waveform):
            raise UploadError(f"The sound ends before {start_s:g} s.")
        pair = np.stack([waveform, np.zeros_like(waveform)])
        outputs = self._servable.run(ACTIVATIONS, {WAVEFORM: pair}, self._layers)
        layers = [_describe_layer(name, *outputs[name]) for name in self._layers]
        start_s = start / self.sample_rate_hz
        return {
            "start_s": start_s,
            "end_s": start_s + len(waveform) / self.sample_rate_hz,
            "layers": [layer for layer in layers if layer is not None],
        }

    def _score(self, windows: Sequence[np.ndarray], num_before: int, hop: int) -> list[Window]:
        outputs = self._servable.run(
            DEFAULT_SIGNATURE_NAME, {WAVEFORM: np.stack(windows)}, [PROBABILITIES]
        )
        starts = [(num_before + i) * hop / self.sample_rate_hz for i in range(len(windows))]
        return [
            Window(start_s, start_s + len(window) / self.sample_rate_hz, probabilities)
            for start_s, window, probabilities in zip(
                starts, windows, outputs[PROBABILITIES], strict=True
            )
        ]


def _describe_layer(name: str, values: np.ndarray, silence: np.ndarray) -> dict[str, Any] | None:
    """What to show of one layer's activations of one clip, ``(…, channels)``; None: nothing.

    A layer of one channel, such as the spectrogram that goes in, has none to choose from.
    """
    num_channels = values.shape[-1] if values.ndim else 0
    if num_channels < 2 or values.size == 0:
        return None
    if not (np.isfinite(values).all() and np.isfinite(silence).all()):
        raise ServingError("INTERNAL", f"The layer {name} holds values that are no numbers.")
    above = np.maximum(values - silence, 0.0)
    activities = above.reshape(-1, num_channels).mean(axis=0, dtype=np.float64)
    spread = float(activities.std())
    scores = (activities - activities.mean()) / (spread or 1.0)
    channels = []
    for index in np.argsort(-activities, kind="stable")[:_CHANNELS_A_LAYER]:
        channel: dict[str, Any] = {
            "index": int(index),
            "activity": round(float(activities[index]), 5),
            "score": round(float(scores[index]), 3),
        }
        if values.ndim == 3:
            channel["map"] = _describe_map(above[..., index])
        channels.append(channel)
    return {"name": name, "num_channels": num_channels, "channels": channels}


def _describe_map(values: np.ndarray) -> dict[str, Any]:
    for axis, most in enumerate(_MAX_MAP_SHAPE):
        if values.shape[axis] > most:
            starts = np.arange(most) * values.shape[axis] // most
            counts = np.diff(np.append(starts, values.shape[axis]))
            shape = (-1, 1) if axis == 0 else (1, -1)
            values = np.add.reduceat(values, starts, axis=axis) / counts.reshape(shape)
    scaled = values / (float(values.max()) or 1.0)
    return {"rows": len(values), "columns": values.shape[1], "data": encode_bytes(scaled)}


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts block2 before block10."""
    return [(int(digits or 0), text) for digits, text in re.findall(r"(\d*)(\D*)", name)]


def _describe(signatures: Mapping[str, Signature]) -> str:
    if not signatures:
        return "it has no signatures"
    texts = [f"{name} ({', '.join(item.inputs) or 'nothing'})" for name, item in signatures.items()]
    return f"it has {', '.join(sorted(texts))}"
