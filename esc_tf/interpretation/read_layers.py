"""Reads the hidden layers of a model over some clips: from waveforms to a whole reading on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import sklearn

from esc_tf.audio import Clip, read_clip, resample
from esc_tf.audio.length import fit_waveform
from esc_tf.config import LogMelConfig
from esc_tf.data import Record
from esc_tf.errors import RequestError
from esc_tf.interpretation.activation_sources import ActivationSource
from esc_tf.interpretation.activation_store import ActivationStore
from esc_tf.interpretation.activations import collect_activations, iterate_h
from esc_tf.interpretation.alignment import NegativeRule, Pooling
from esc_tf.interpretation.discriminative import compare_classes
from esc_tf.interpretation.fit_layers import METHODS, ChosenFrames, FitSettings, LayerFit
from esc_tf.interpretation.reading import ReadClip, Reading, ReadingWriter, write_reading
from esc_tf.interpretation.scores import ClipGroups, ScoreRow
from esc_tf.interpretation.spectrograms import MelSpectrogram, SpectrogramKind
from esc_tf.interpretation.verdict import NMF, judge_layer
from esc_tf.registry import look_up
from esc_tf.training.run_directory import collect_run_facts
from esc_tf.training.teachers import digest_model, find_model_file

_PROBABILITIES = "probabilities"
_MAPS = "maps.partial"
_MIN_SHUFFLES = 2


@dataclass(frozen=True)
class ReadingSettings:
    """What is read, and how.

    Attributes:
        layers: names of activations with time.
        spectrogram: kind of V.
        pooling: of feature maps over frequency.
        negative: what becomes of negative activations.
        max_frames: most frames, of all clips together, that W is fitted to and judged by.
        fit: how W is found.

    Raises:
        RequestError: a number is out of range.
        UnknownNameError: no such method.
    """

    layers: tuple[str, ...]
    spectrogram: SpectrogramKind = "log1p"
    pooling: Pooling = "mean"
    negative: NegativeRule = "refuse"
    max_frames: int = 10_000
    fit: FitSettings = field(default_factory=FitSettings)

    def __post_init__(self) -> None:
        if not self.layers:
            raise RequestError("no layer is named; name one or more")
        for method in self.fit.methods:
            look_up(dict.fromkeys(METHODS), method, "method")
        if min(self.max_frames, self.fit.epochs, self.fit.max_iterations) < 1:
            raise RequestError("max_frames, epochs and iterations must be 1 or more")
        if self.fit.shuffles < _MIN_SHUFFLES:
            raise RequestError(f"shuffles must be {_MIN_SHUFFLES} or more, to tell their spread")
        if not (self.fit.smoothness >= 0 and self.fit.seed >= 0):
            raise RequestError("smoothness and seed must be 0 or more")
        # NMF first and always: the controls are of it.
        methods = tuple(dict.fromkeys((NMF, *self.fit.methods)))
        object.__setattr__(self, "fit", replace(self.fit, methods=methods))
        object.__setattr__(self, "layers", tuple(dict.fromkeys(self.layers)))


def read_layers(
    source: ActivationSource,
    records: Sequence[Record],
    folder: str | Path,
    settings: ReadingSettings,
    *,
    front_end: LogMelConfig | None = None,
    is_replacing: bool = False,
    finish: Callable[[Reading], object] = lambda reading: None,
    report: Callable[[str], object] = lambda line: None,
) -> Reading:
    """Find what the features of hidden layers stand for, and write it down.

    Silent clips are in the reading, but in no fit and no score. Feature maps lie on the disk; in
    memory are the fitted frames of every layer's H.

    Args:
        source: the model, from ``open_source``.
        records: labelled clips with files.
        folder: to be made; see ``write_reading``.
        settings: what and how.
        front_end: whose frames and bands the spectrograms have; None: the model's own.
        is_replacing: whether a reading that is there may be replaced.
        finish: called with the reading before it is put in its place, e.g. to add figures.
        report: called with a line at each step.

    Raises:
        UnknownNameError: no such layer.
        RequestError: no clips, or silent ones only; a layer without time, with negative values
            that are refused, or with more features than frames; the model's front end is no
            log-mel and none is given; ``folder`` is taken.
        AudioError: a clip cannot be read.
        EscTfError: activations are NaN or infinite; the model or the disk fails.
    """
    front_end = front_end or source.facts.front_end
    if front_end is None:
        raise RequestError(
            f"{source.name}: has no log-mel front end, or does not say which; name the settings of "
            "one, whose spectrogram is to be explained, with --front-end"
        )
    if not records:
        raise RequestError("there are no clips to read; name some")
    with write_reading(folder, is_replacing) as writer:
        _LayerReader(source, records, settings, front_end, writer, report).run()
        finish(Reading.open(writer.folder))
    return Reading.open(folder)


class _LayerReader:
    """One reading under way: its parts in the order in which they are made."""

    def __init__(
        self,
        source: ActivationSource,
        records: Sequence[Record],
        settings: ReadingSettings,
        front_end: LogMelConfig,
        writer: ReadingWriter,
        report: Callable[[str], object],
    ) -> None:
        facts = source.facts
        self._source, self._records, self._settings = source, records, settings
        self._front_end, self._writer, self._report = front_end, writer, report
        self._mel = MelSpectrogram(
            front_end, facts.sample_rate_hz, facts.num_samples, settings.spectrogram
        )
        self._spectrograms = writer.create_spectrograms(
            (len(records), len(self._mel.frequencies_hz), len(self._mel.frame_times_s))
        )
        self._is_silent = np.zeros(len(records), bool)

    def run(self) -> None:
        settings = self._settings
        self._report(f"activations of {len(self._records)} clips")
        names = list(settings.layers)
        if _PROBABILITIES in self._source.activation_names:
            names.append(_PROBABILITIES)
        maps = self._writer.folder / _MAPS
        store = collect_activations(self._source, self._hear(), names, maps)
        heard = np.flatnonzero(~self._is_silent)
        if not heard.size:
            raise RequestError("all clips are silent: there is nothing to explain; name others")
        clips = self._describe_clips(store)
        used = [clips[row] for row in heard]
        described = [(clip.true, clip.fold, clip.source_id) for clip in used]
        labels, folds, sources = (list(column) for column in zip(*described, strict=True))
        groups = ClipGroups.build(labels, folds, sources, settings.fit.seed)
        frames = ChosenFrames.choose(
            heard, len(self._mel.frame_times_s), settings.max_frames, settings.fit.seed
        )
        # All layers are checked before the first is trained.
        activations = {layer: self._align(store, layer) for layer in settings.layers}
        shutil.rmtree(maps)
        fits = [
            LayerFit(layer, self._spectrograms, h, frames, groups, settings.fit)
            for layer, h in activations.items()
        ]
        rows: list[ScoreRow] = []
        discriminative = {}
        for fit, (layer, h) in zip(fits, activations.items(), strict=True):
            rows += fit.run(self._mel.frequencies_hz, self._writer, self._report)
            pooled = np.stack([h[row].mean(axis=1, dtype=np.float64) for row in heard])
            names_of_classes = self._source.facts.label_names
            found = compare_classes(pooled, labels, names_of_classes, folds, sources)
            discriminative[layer] = found.describe()
        self._writer.write_facts(
            {
                **self._describe_run(frames, groups),
                "scores": [row.describe() for row in rows],
                "discriminative": discriminative,
                **_judge(settings.layers, rows),
            },
            clips,
        )

    def _hear(self) -> Iterator[tuple[str, Clip]]:
        """Decode each clip once, on its way to the model write its spectrogram."""
        facts = self._source.facts
        for row, record in enumerate(self._records):
            assert record.path is not None  # of a folder of clips
            clip = resample(read_clip(record.path), facts.sample_rate_hz)
            waveform, _ = fit_waveform(clip.waveform, facts.num_samples, facts.pad, facts.crop)
            self._spectrograms[row] = self._mel.compute(waveform)
            self._is_silent[row] = not self._spectrograms[row].any()
            yield record.clip_id, clip

    def _describe_clips(self, store: ActivationStore) -> list[ReadClip]:
        names = self._source.facts.label_names
        known = _PROBABILITIES in store.names
        probabilities = store.open(_PROBABILITIES) if known else None
        clips = []
        for row, record in enumerate(self._records):
            clip = ReadClip(
                record.clip_id,
                str(Path(str(record.path)).absolute()),
                record.fold,
                record.source_id,
                record.label_name,
                is_silent=bool(self._is_silent[row]),
            )
            if probabilities is not None:
                best = int(probabilities[row].argmax())
                clip = replace(
                    clip, predicted=names[best], probability=float(probabilities[row, best])
                )
            clips.append(clip)
        return clips

    def _align(self, store: ActivationStore, layer: str) -> np.ndarray:
        """H of all clips on the disk, ``(clips, K, frames)``."""
        settings, times_s = self._settings, self._mel.frame_times_s.tolist()
        aligned = iterate_h(
            store, layer, times_s, pooling=settings.pooling, negative=settings.negative
        )
        first = next(aligned)
        shape = (len(store.clips), *first[1].shape)
        activations = self._writer.create_activations(layer, shape)
        for row, (_, h) in enumerate(chain([first], aligned)):
            activations[row] = h
        return activations

    def _describe_run(self, frames: ChosenFrames, groups: ClipGroups) -> dict[str, Any]:
        source, facts, settings = self._source, self._source.facts, self._settings
        run = collect_run_facts({}, ())
        chosen = asdict(settings)
        fit = chosen.pop("fit")
        return {
            "created": run["started"],
            "commit": run["commit"],
            "versions": {
                **run["versions"],
                "scipy": scipy.__version__,
                "scikit-learn": sklearn.__version__,
            },
            "model": source.name,
            "model_digest": _digest(source.name),
            "sample_rate_hz": facts.sample_rate_hz,
            "audio": {"num_samples": facts.num_samples, "pad": facts.pad, "crop": facts.crop},
            "front_end": self._front_end.model_dump(mode="json"),
            "spectrogram": {
                "kind": settings.spectrogram,
                "frequencies_hz": self._mel.frequencies_hz.tolist(),
                "frame_times_s": self._mel.frame_times_s.tolist(),
            },
            "label_names": list(facts.label_names),
            "layers": list(settings.layers),
            "methods": list(settings.fit.methods),
            "settings": {**chosen, **fit},
            "fitted": {
                "clips": len(frames.rows),
                "silent_clips": int(self._is_silent.sum()),
                "frames_of_each": int(frames.places.shape[1]),
                "of_frames": frames.num_frames,
            },
            "discriminability": {
                "tested": groups.describe(),
                "guess_accuracy": groups.guess_accuracy,
                "chance_eta_squared": groups.chance_eta_squared,
            },
        }


def _judge(layers: Sequence[str], rows: Sequence[ScoreRow]) -> dict[str, dict[str, Any]]:
    verdicts = {layer: judge_layer([row for row in rows if row.layer == layer]) for layer in layers}
    return {
        "verdicts": {layer: verdict.sentence for layer, verdict in verdicts.items()},
        "judgements": {
            layer: {"is_better": verdict.is_better, "share_of_way": verdict.share_of_way}
            for layer, verdict in verdicts.items()
        },
    }


def _digest(place: str) -> str | None:
    """SHA-256 of the model's file or files; None for a server."""
    if place.startswith(("http://", "https://")):
        return None
    return digest_model(find_model_file(place))
