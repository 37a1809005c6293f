"""A reading of hidden layers on disk: spectrograms, activations, patterns and what they say.

One folder, which ``python -m esc_tf.interpret nmf`` writes and every figure, page and sound is made
from. It holds no audio: the clips' paths lead to it.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from esc_tf.audio import read_clip, resample
from esc_tf.audio.length import fit_waveform
from esc_tf.config import LogMelConfig
from esc_tf.errors import RequestError, UnknownNameError
from esc_tf.files import describe_os_error, new_folder
from esc_tf.interpretation.filter_history import FilterHistory
from esc_tf.registry import look_up, suggest_name

FACTS_FILE = "reading.json"
CONTENTS = "a reading"
FORMAT = 1
PLAIN_NMF = "plain_nmf"
"""The floor: both factors free, at the layer's rank. It is no method: it has no hidden features."""

_SPECTROGRAMS = "spectrograms.npy"
_ACTIVATIONS = "activations.npy"


@dataclass(frozen=True)
class ReadClip:
    """A clip of a reading.

    Attributes:
        clip_id: its name in the data set.
        path: of its audio file.
        fold: of the data set, from 1.
        source_id: the recording that it was cut from.
        true: name of its class.
        predicted: name of the class that the model finds most probable; "" where the model
            (a file or a server) does not say.
        probability: of that class; None where it is not known.
        is_silent: whether its spectrogram is zero. Such clips are in no fit and no score.
    """

    clip_id: str
    path: str
    fold: int
    source_id: str
    true: str
    predicted: str = ""
    probability: float | None = None
    is_silent: bool = False


@dataclass(frozen=True)
class Reading:
    """What the layers of a model stand for, over some clips.

    Args:
        folder: where it lies.
        facts: ``reading.json``.

    Methods and scores are described in ``esc_tf.interpretation.read_layers``, ``scores`` and
    ``discriminative``.
    """

    folder: Path
    facts: Mapping[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Reading:
        """Open a folder that ``python -m esc_tf.interpret nmf`` wrote.

        Raises:
            RequestError: it holds no reading, or a damaged one.
        """
        folder = Path(folder).expanduser()
        path = folder / FACTS_FILE
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            if facts["format"] != FORMAT:
                raise ValueError(f"format {facts['format']}, not {FORMAT}")
            reading = cls(folder, facts)
            _ = (reading.clips, reading.front_end, reading.frame_times_s, reading.layers)
        except OSError as error:
            raise RequestError(
                f"{path}: cannot be read ({describe_os_error(error)}); name a folder that "
                "`python -m esc_tf.interpret nmf` wrote"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RequestError(
                f"{path}: describes no reading ({type(error).__name__}: {error}); write it again "
                "with `python -m esc_tf.interpret nmf`"
            ) from None
        return reading

    @property
    def model(self) -> str:
        """The model's place, as it was given."""
        return str(self.facts["model"])

    @property
    def sample_rate_hz(self) -> int:
        """Rate at which the model hears."""
        return int(self.facts["sample_rate_hz"])

    @cached_property
    def front_end(self) -> LogMelConfig:
        """The front end whose frames and bands the spectrograms have."""
        return LogMelConfig.model_validate(self.facts["front_end"])

    @property
    def kind(self) -> str:
        """Of the spectrograms: ``log1p``, ``magnitude`` or ``power``."""
        return str(self.facts["spectrogram"]["kind"])

    @cached_property
    def frequencies_hz(self) -> np.ndarray:
        """Centre of each bin (mel band), rising, ``(bins,)``."""
        return np.asarray(self.facts["spectrogram"]["frequencies_hz"], np.float64)

    @cached_property
    def frame_times_s(self) -> np.ndarray:
        """Centre of each frame, ``(frames,)``."""
        return np.asarray(self.facts["spectrogram"]["frame_times_s"], np.float64)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The model's classes."""
        return tuple(self.facts["label_names"])

    @cached_property
    def clips(self) -> tuple[ReadClip, ...]:
        """In the order of the arrays' rows."""
        return tuple(
            ReadClip(clip_id=clip["id"], **{key: clip[key] for key in clip if key != "id"})
            for clip in self.facts["clips"]
        )

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that were read."""
        return tuple(self.facts["layers"])

    @property
    def methods(self) -> tuple[str, ...]:
        """Ways to find W for the hidden features: ``nmf`` and the transforms."""
        return tuple(self.facts["methods"])

    @property
    def settings(self) -> Mapping[str, Any]:
        """Every option of the run."""
        return self.facts["settings"]

    @property
    def scores(self) -> Sequence[Mapping[str, Any]]:
        """One row for each layer, method and control; see ``esc_tf.interpretation.scores``."""
        return self.facts["scores"]

    @property
    def discriminative(self) -> Mapping[str, Any]:
        """Layer → how its features differ between classes; see ``discriminative.describe``."""
        return self.facts["discriminative"]

    @property
    def verdicts(self) -> Mapping[str, str]:
        """Layer → a sentence: does it explain the spectrogram better than chance?"""
        return self.facts["verdicts"]

    @cached_property
    def _spectrograms(self) -> np.ndarray:
        wanted = (len(self.clips), len(self.frequencies_hz), len(self.frame_times_s))
        return _open_array(self.folder / _SPECTROGRAMS, wanted)

    def spectrogram(self, clip_row: int) -> np.ndarray:
        """V of a clip, float32 ``(bins, frames)``, read from the disk where it is used."""
        return self._spectrograms[clip_row]

    def activations(self, layer: str) -> np.ndarray:
        """H of all clips, float32 ``(clips, K, frames)``, read from the disk where it is used.

        Raises:
            UnknownNameError: the layer was not read.
            RequestError: its file is missing or damaged.
        """
        wanted = (len(self.clips), None, len(self.frame_times_s))
        return _open_array(self._find_layer(layer) / _ACTIVATIONS, wanted)

    def filters(self, layer: str, method: str) -> np.ndarray:
        """W, float32 ``(bins, K)``: V ≈ W H; of ``plain_nmf``, W of its own components.

        Raises:
            UnknownNameError: no such layer or method.
            RequestError: the file is missing or damaged.
        """
        return self._read(layer, method, "filters")["filters"]

    def history(self, layer: str, method: str) -> FilterHistory | None:
        """How a trained transform came to its filters; None for ``nmf``.

        Raises:
            UnknownNameError, RequestError: see ``filters``.
        """
        found = self._read(layer, method, "filters")
        if "history" not in found:
            return None
        return FilterHistory(found["losses"], found["epochs"], found["history"])

    def plain_nmf(self, layer: str) -> tuple[np.ndarray, np.ndarray]:
        """The floor: W ``(bins, rank)`` and H ``(rank, clips x frames)``, both free.

        The rank is K, or the number of bins where that is less. Columns of W sum to 1. Columns of
        H are clip behind clip, in the order of ``clips``, 0 for silent ones.

        Raises:
            UnknownNameError, RequestError: see ``filters``.
        """
        found = self._read(layer, PLAIN_NMF, "filters", "activations")
        return found["filters"], found["activations"]

    def find_row(self, clip_id: str) -> int:
        """The row of a clip in every array.

        Raises:
            UnknownNameError: no such clip.
        """
        ids = [clip.clip_id for clip in self.clips]
        if clip_id not in ids:
            raise UnknownNameError(
                f"{self.folder}: holds no clip '{clip_id}'{suggest_name(clip_id, ids)}"
            )
        return ids.index(clip_id)

    def waveform(self, clip_row: int) -> np.ndarray:
        """A clip as the model heard it: at its rate, padded or cut, float32 ``(samples,)``.

        Raises:
            AudioError: its file is not there any more, or cannot be read.
        """
        audio = self.facts["audio"]
        clip = resample(read_clip(Path(self.clips[clip_row].path)), self.sample_rate_hz)
        fitted, _ = fit_waveform(clip.waveform, audio["num_samples"], audio["pad"], audio["crop"])
        return fitted.astype(np.float32, copy=False)

    def _find_layer(self, layer: str) -> Path:
        look_up(dict.fromkeys(self.layers), layer, "layer of the reading")
        return layer_folder(self.folder, layer)

    def _read(self, layer: str, method: str, *needed: str) -> dict[str, np.ndarray]:
        folder = self._find_layer(layer)
        look_up(dict.fromkeys((*self.methods, PLAIN_NMF)), method, "method of the reading")
        path = folder / f"{method}.npz"
        try:
            with np.load(path) as file:
                found = {name: file[name] for name in file.files}
            for name in needed:
                if not np.isfinite(found[name]).all():
                    raise ValueError(f"'{name}' holds NaN or infinite values")
        except Exception as error:  # NumPy and zipfile raise almost any type on a damaged archive
            raise RequestError(
                f"{path}: cannot be read ({error}); write the reading again"
            ) from None
        return found


class ReadingWriter:
    """Fills the folder of a reading that is still being written; from ``write_reading``.

    Attributes:
        folder: where it lies until it is whole; figures and pages may be put there, too.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create_spectrograms(self, shape: tuple[int, int, int]) -> np.ndarray:
        """A float32 file ``(clips, bins, frames)`` to be filled in place."""
        return _create_array(self.folder / _SPECTROGRAMS, shape)

    def create_activations(self, layer: str, shape: tuple[int, int, int]) -> np.ndarray:
        """A float32 file ``(clips, K, frames)`` to be filled in place."""
        return _create_array(layer_folder(self.folder, layer) / _ACTIVATIONS, shape)

    def write_filters(
        self, layer: str, method: str, filters: np.ndarray, history: FilterHistory | None = None
    ) -> None:
        """Write W ``(bins, K)`` of a method, and how it came to it."""
        arrays = {"filters": np.asarray(filters, np.float32)}
        if history is not None:
            arrays["losses"] = np.asarray(history.losses, np.float64)
            arrays["epochs"] = np.asarray(history.epochs, np.int64)
            arrays["history"] = np.asarray(history.filters, np.float32)
        np.savez(layer_folder(self.folder, layer) / f"{method}.npz", **arrays)  # type: ignore[arg-type]

    def write_plain_nmf(self, layer: str, filters: np.ndarray, activations: np.ndarray) -> None:
        """Write the floor: W ``(bins, rank)`` and H ``(rank, clips x frames)``."""
        np.savez(
            layer_folder(self.folder, layer) / f"{PLAIN_NMF}.npz",
            filters=np.asarray(filters, np.float32),
            activations=np.asarray(activations, np.float32),
        )

    def write_facts(self, facts: Mapping[str, Any], clips: Sequence[ReadClip]) -> None:
        """Write ``reading.json``; the arrays must be there."""
        described = []
        for clip in clips:
            entry = asdict(clip)
            described.append({"id": entry.pop("clip_id"), **entry})
        text = json.dumps(
            {"format": FORMAT, **facts, "clips": described},
            indent=1,
            ensure_ascii=False,
            allow_nan=False,
        )
        (self.folder / FACTS_FILE).write_text(text, encoding="utf-8")


@contextmanager
def write_reading(folder: str | Path, replace: bool = False) -> Iterator[ReadingWriter]:
    """Write a reading, which is there whole at the end of the block or not at all.

    Args:
        folder: to be made; an empty one may be there.
        replace: whether a reading that is there may be replaced. Other folders never are.

    Raises:
        RequestError: there is something at ``folder`` already.
        OSError: nothing can be written there; nothing is left, and an old reading is as it was.
    """
    with new_folder(folder, FACTS_FILE, CONTENTS, replace) as partial:
        yield ReadingWriter(partial)


def layer_folder(folder: Path, layer: str) -> Path:
    """Where a layer's arrays lie, whatever characters its name has."""
    return folder / "layers" / urllib.parse.quote(layer, safe="")


def _create_array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)


def _open_array(path: Path, wanted: tuple[int | None, ...]) -> np.ndarray:
    try:
        values = np.load(path, mmap_mode="r")
    except (OSError, EOFError, ValueError) as error:
        raise RequestError(f"{path}: cannot be read ({error}); write the reading again") from None
    fits = values.ndim == len(wanted) and all(
        size in (None, found) for size, found in zip(wanted, values.shape, strict=True)
    )
    if values.dtype != np.float32 or not fits:
        raise RequestError(
            f"{path}: holds {values.dtype} {values.shape}, which does not fit the reading; write "
            "it again"
        )
    return values
