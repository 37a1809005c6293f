"""Files heard as clips, whole or in segments as in training, which is said, and scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from esc_tf.audio import read_clip, resample
from esc_tf.audio.length import fit_waveform
from esc_tf.audio.segments import find_segments
from esc_tf.config import AudioConfig
from esc_tf.errors import AudioError, RequestError
from esc_tf.frames import count_samples

# Clips whose length differs by less are not said to be padded or cut.
_SAME_LENGTH_S = 0.01
# The shortest input that every architecture here has been seen to take.
SHORTEST_INPUT_S = 0.3
_PAD_WORDS = {
    "end": "padded from {clip} s to {length} s with silence",
    "silence": "padded from {clip} s to {length} s with silence",
    "center": "padded from {clip} s to {length} s with silence on both sides",
    "repeat": "repeated from {clip} s to {length} s",
}


@dataclass(frozen=True)
class HeardClip:
    """What a model says of one clip.

    Attributes:
        probabilities: float32 ``(classes,)``.
        duration_s: the clip's own length in seconds.
        audio: the length it was padded or cut to, and how.
        num_segments: whose mean ``probabilities`` are.
    """

    probabilities: np.ndarray
    duration_s: float
    audio: AudioConfig
    num_segments: int = 1

    @property
    def change(self) -> dict[str, float]:
        """What happened to the clip: ``padded_from_s`` or ``cut_from_s``, ``segments``, or nothing.

        Of segments, their number.
        """
        if self.audio.segments is not None:
            return {"segments": self.num_segments}
        surplus_s = self.duration_s - self.audio.duration_s
        if abs(surplus_s) < _SAME_LENGTH_S:
            return {}
        verb = "cut" if surplus_s > 0 else "padded"
        return {
            f"{verb}_from_s": round(self.duration_s, 6),
            f"{verb}_to_s": self.audio.duration_s,
        }

    def describe_change(self) -> str:
        """The same in words, in brackets behind a file's name; empty: nothing."""
        if self.audio.segments is not None:
            return f" (mean of {self.num_segments} segments of {self.audio.duration_s:.4g} s)"
        if not self.change:
            return ""
        clip, length = f"{self.duration_s:.4g}", f"{self.audio.duration_s:g}"
        if "padded_from_s" in self.change:
            return f" ({_PAD_WORDS[self.audio.pad].format(clip=clip, length=length)})"
        part = "first" if self.audio.crop == "start" else "middle"
        return f" (the {part} {length} s of {clip} s; --window hears all)"


def choose_length(model: Any, duration_s: float | None) -> AudioConfig:
    """The model's waveform format, with clips of another length if one is asked for.

    Raises:
        RequestError: the model takes one length only, or the length is too short for a network.
    """
    audio = AudioConfig.model_validate(model.audio)
    if duration_s is None or duration_s == audio.duration_s:
        return audio
    if audio.segments is not None:
        raise RequestError(
            f"--duration: the model hears segments of {audio.duration_s:.4g} s; leave it out"
        )
    if not model.any_length:
        raise RequestError(
            f"--duration: the model takes clips of {audio.duration_s:g} s only; leave it out"
        )
    if not SHORTEST_INPUT_S <= duration_s <= 600.0:
        raise RequestError(f"--duration: must lie between {SHORTEST_INPUT_S:g} and 600 s")
    return audio.model_copy(update={"duration_s": duration_s})


def hear_clips(
    model: Any, paths: Sequence[Path], audio: AudioConfig, batch_size: int = 16
) -> Iterator[tuple[Path, HeardClip | AudioError]]:
    """Yield what the model says of each file, or what is wrong with the file, in order.

    Args:
        model: a classifier.
        paths: audio files of any rate and length.
        audio: rate, length and padding, see ``choose_length``.
        batch_size: files decoded, and clips or segments classified, at once.
    """
    num_samples = count_samples(audio.duration_s, audio.sample_rate_hz)

    def read(path: Path) -> Any:
        try:
            clip = read_clip(path, too_long_remedy="cut it, or hear it with --window")
        except AudioError as error:
            return error
        try:
            waveform = resample(clip, audio.sample_rate_hz).waveform
        except AudioError as error:
            return AudioError(f"{path}: {error}")
        parts = [waveform]
        if audio.segments is not None:
            parts = [place.cut(waveform) for place in find_segments(waveform, audio.segments)]
        fitted = [fit_waveform(part, num_samples, audio.pad, audio.crop) for part in parts]
        return fitted, clip.duration_s

    waiting = iter(paths)
    with ThreadPoolExecutor() as pool:
        while batch := list(islice(waiting, batch_size)):
            read_ones = list(pool.map(read, batch))
            good = [item for item in read_ones if not isinstance(item, AudioError)]
            inputs = [part for fitted, _ in good for part in fitted]
            scores = _score(model, inputs, batch_size)
            for path, item in zip(batch, read_ones, strict=True):
                if isinstance(item, AudioError):
                    yield path, item
                    continue
                fitted, duration_s = item
                mean = np.mean([next(scores) for _ in fitted], axis=0)
                yield path, HeardClip(mean, duration_s, audio, len(fitted))


def _score(
    model: Any, inputs: Sequence[tuple[np.ndarray, int]], batch_size: int
) -> Iterator[np.ndarray]:
    """Yield the probabilities of each waveform, given with its number of valid samples."""
    for start in range(0, len(inputs), batch_size):
        chunk = inputs[start : start + batch_size]
        outputs = model.predict_on_batch(
            {
                "waveform": np.stack([waveform for waveform, _ in chunk]),
                "num_samples": np.array([valid for _, valid in chunk], np.int32),
            }
        )
        yield from outputs["probabilities"]
