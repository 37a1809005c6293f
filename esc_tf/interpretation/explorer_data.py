"""What the explorer's page holds: which clips, and their numbers as compact text.

A block is base64 of deflated bytes, read by ``explorer_page/numbers.js``: arrays one behind the
other, without headers; of 16-bit numbers all low bytes come before all high ones, which deflates
better. Half precision is enough for pictures, and for sounds, whose masks are ratios: theirs differ
from Python's by the rounding to 16 bits alone (30 sounds of real clips: -98 to -105 dB of full
scale). Arrays are scaled so that their largest value is 1.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from esc_tf.errors import AudioError
from esc_tf.frontends.mel_front_end import build_bank
from esc_tf.interpretation.listening import ShortTimeTransform, spread_over_bins
from esc_tf.interpretation.reading import ReadClip, Reading
from esc_tf.interpretation.sounds import choose_gain, find_peak

_FULL_SCALE = 32768


@dataclass(frozen=True)
class Block:
    """An element of the page that holds numbers.

    Attributes:
        key: its id.
        text: base64.
    """

    key: str
    text: str


def order_clips(clips: Sequence[ReadClip], max_per_class: int) -> list[int]:
    """Rows of the clips that are worth a place in the page, the most wanted first.

    Of each class the clip that the model is surest of, then its surest mistake, then the next of
    both; the first of all classes come before the second of any. Silent clips are left out. Where
    the model does not say what it hears, clips come in the order of the reading.

    >>> a, b, c = (
    ...     ReadClip(name, "", 1, "", "dog", *said)
    ...     for name, said in (("a", ("dog", 0.8)), ("b", ("dog", 0.9)), ("c", ("cat", 0.5)))
    ... )
    >>> order_clips([a, b, c], 2)
    [1, 2]
    """
    classes: dict[str, tuple[list[int], list[int]]] = {}
    for row, clip in enumerate(clips):
        if not clip.is_silent:
            right, wrong = classes.setdefault(clip.true, ([], []))
            (wrong if clip.predicted not in ("", clip.true) else right).append(row)
    ranked = []
    for name in sorted(classes):
        right, wrong = (
            sorted(rows, key=lambda row: -(clips[row].probability or 0.0)) for rows in classes[name]
        )
        places = [(2 * place, row) for place, row in enumerate(right)]
        places += [(2 * place + 1, row) for place, row in enumerate(wrong)]
        rows = [row for _, row in sorted(places)][:max_per_class]
        ranked += [(place, name, row) for place, row in enumerate(rows)]
    return [row for _, _, row in sorted(ranked)]


class Packing:
    """The numbers of a reading as blocks.

    Args:
        reading: what was read.
        rows: the clips that may be packed; filters are scaled by their activations.
    """

    def __init__(self, reading: Reading, rows: Sequence[int]) -> None:
        self._reading = reading
        # The largest activation of each feature in these clips.
        self._largest: dict[str, np.ndarray] = {}
        for layer in reading.layers:
            activations = reading.activations(layer)
            largest = np.zeros(activations.shape[1], np.float32)
            for row in rows:
                np.maximum(largest, activations[row].max(axis=1), out=largest)
            self._largest[layer] = np.where(largest > 0, largest, 1.0).astype(np.float32)

    def describe_layers(self) -> list[dict[str, Any]]:
        """Name and number of features of each layer, in the order of the blocks."""
        return [
            {"name": layer, "num_features": len(self._largest[layer])}
            for layer in self._reading.layers
        ]

    def pack_filters(self) -> Block:
        """Window, spreading of bands over FFT bins, and W of every layer and method."""
        reading = self._reading
        window = ShortTimeTransform.of_front_end(reading.front_end).padded_window
        bank = build_bank(reading.front_end, reading.sample_rate_hz)
        spreading = spread_over_bins(np.eye(reading.front_end.n_mels), bank)
        parts = [_encode_floats(window), _encode_floats(spreading)]
        for layer in reading.layers:
            parts.append(_encode_floats(self._largest[layer]))
            for method in reading.methods:
                # What each feature adds at its largest; each bin has its own scale.
                added = reading.filters(layer, method) * self._largest[layer]
                scales = added.max(axis=1)
                scales = np.where(scales > 0, scales, 1.0).astype(np.float32)
                parts += [_encode_floats(scales), _encode_halves((added / scales[:, None]).T)]
        return Block("filters", _compress(parts))

    def pack_clip(self, row: int) -> tuple[Block, dict[str, Any]]:
        """Sound, V and H of a clip, and what the page says of it."""
        reading, clip = self._reading, self._reading.clips[row]
        facts: dict[str, Any] = {
            "id": clip.clip_id,
            "true": clip.true,
            "predicted": clip.predicted,
            "probability": clip.probability,
            "fold": clip.fold,
            "missing_sound": None,
        }
        parts = []
        try:
            waveform = reading.waveform(row)
            facts["gain"] = choose_gain([find_peak(waveform)])
            facts["num_samples"] = len(waveform)
            parts.append(_encode_samples(facts["gain"] * waveform))
        except AudioError as error:
            facts["missing_sound"] = str(error)
        spectrogram = np.asarray(reading.spectrogram(row))
        facts["scale"] = float(spectrogram.max()) or 1.0
        parts.append(_encode_halves(spectrogram.T / facts["scale"]))
        for layer in reading.layers:
            activations = reading.activations(layer)[row]
            parts.append(_encode_halves(activations / self._largest[layer][:, None]))
        return Block(f"clip-{row}", _compress(parts)), facts


def _encode_floats(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values, "<f4").tobytes()


def _encode_halves(values: np.ndarray) -> bytes:
    return _part_bytes(np.ascontiguousarray(values, "<f2"))


def _encode_samples(waveform: np.ndarray) -> bytes:
    steps = np.round(waveform * _FULL_SCALE)
    return _part_bytes(np.clip(steps, -_FULL_SCALE, _FULL_SCALE - 1).astype("<i2"))


def _part_bytes(words: np.ndarray) -> bytes:
    return words.reshape(-1).view(np.uint8).reshape(-1, 2).T.tobytes()


def _compress(parts: Iterable[bytes]) -> str:
    return base64.b64encode(zlib.compress(b"".join(parts), 9)).decode("ascii")
