"""From a recording of any length to its timeline, with memory for one batch of windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from esc_tf.audio.length import fit_waveform
from esc_tf.audio.streaming import AudioStream
from esc_tf.config import AudioConfig
from esc_tf.errors import EscTfError, RequestError
from esc_tf.evaluation.label_mapping import map_scores
from esc_tf.evaluation.timeline.timeline import Timeline
from esc_tf.evaluation.timeline.windows import count_windows, cut_windows
from esc_tf.frames import count_samples

# Below this, a model that takes any length loses more by hearing a window as it is than by hearing
# it padded to its own length. Measured: EfficientAT's mn04 on pieces of 320 ESC-10 clips, from
# their AudioSet labels alone, as they are and padded: 0.3 s 33 and 47 % right, 0.5 s 52 and 68,
# 0.75 s 74 and 75, 1 s 80 and 79, 2 s 89 and 88, 3 s 94 and 92.
SHORTEST_UNPADDED_S = 1.0


def check_windows(model: Any, window_s: float, hop_s: float) -> None:
    """Raise a RequestError if a model cannot take windows of this length.

    Args:
        model: a classifier.
        window_s: length of a window in seconds.
        hop_s: seconds between the starts of two windows.
    """
    audio = AudioConfig.model_validate(model.audio)
    for flag, seconds in (("--window", window_s), ("--hop", hop_s)):
        if count_samples(seconds, audio.sample_rate_hz) < 1:
            raise RequestError(
                f"{flag}: {seconds:g} s is less than a sample at {audio.sample_rate_hz} Hz; "
                "use more"
            )
    if window_s > audio.duration_s and not model.any_length:
        raise RequestError(
            f"--window: {window_s:g} s is longer than the {audio.duration_s:g} s that the model "
            f"takes; use {audio.duration_s:g} or less"
        )


def score_recording(
    model: Any,
    path: str | Path,
    *,
    window_s: float,
    hop_s: float,
    batch_size: int = 16,
    label_names: Sequence[str] | None = None,
    groups: Sequence[Sequence[int]] | None = None,
    other_threshold: float | None = None,
    folder: str | Path | None = None,
    report_heard: Callable[[float, float | None], object] = lambda heard_s, promised_s: None,
) -> Timeline:
    """Let a model hear a recording window by window.

    A model of segments hears each window as a segment of its own, normalised by the window's peak.
    A model that takes any length hears windows of ``SHORTEST_UNPADDED_S`` and longer as they are;
    shorter ones, and all windows of another model, are padded to the model's own length as in its
    training. The last window is padded to a whole one at least.

    Args:
        model: a classifier; its own rate and padding are used.
        path: an audio file of any rate and length.
        window_s: length of a window in seconds, see ``check_windows``.
        hop_s: seconds between the starts of two windows.
        batch_size: windows heard at once.
        label_names: names of the groups; None: the model's labels.
        groups: positions of the labels whose best score is a class's, of
            ``LabelMap.find_labels``; None: every label for itself.
        folder: where the scores lie meanwhile, see ``Timeline``.
        report_heard: called now and then with the seconds heard, and those there are if the file
            states them.

    Returns:
        The timeline, to be closed. If the recording ends in a fault, it goes up to there and its
        ``problem`` says so.

    Raises:
        AudioError: nothing of the file can be used.
        EscTfError: the model's scores are not finite.
    """
    audio = AudioConfig.model_validate(model.audio)
    rate_hz = audio.sample_rate_hz
    window, hop = count_samples(window_s, rate_hz), count_samples(hop_s, rate_hz)
    timeline = Timeline(
        model.label_names if label_names is None else label_names,
        sample_rate_hz=rate_hz,
        window_samples=window,
        hop_samples=hop,
        other_threshold=other_threshold,
        folder=folder,
    )
    if not model.any_length or window_s < SHORTEST_UNPADDED_S:
        timeline.input_samples = count_samples(audio.duration_s, rate_hz)
    try:
        with AudioStream(path, rate_hz) as stream:
            promised_s = stream.promised_duration_s
            if promised_s is not None:
                num_promised = count_windows(count_samples(promised_s, rate_hz), window, hop)
                batch_size = min(batch_size, num_promised)
            blocks = _count_into(timeline, stream.read_blocks())
            windows = cut_windows(blocks, window, hop)
            while batch := list(islice(windows, batch_size)):
                inputs = _build_inputs(batch, batch_size, timeline, audio)
                scores = model.predict_on_batch(inputs)["probabilities"][: len(batch)]
                if not np.isfinite(scores).all():
                    raise EscTfError(
                        f"{path}: the model's scores are not finite; its weights are unusable"
                    )
                timeline.append(scores if groups is None else map_scores(scores, groups))
                report_heard(timeline.duration_s, promised_s)
            timeline.problem = stream.problem
    except BaseException:
        timeline.__exit__()
        raise
    return timeline


def _count_into(timeline: Timeline, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for block in blocks:
        timeline.num_samples += len(block)
        yield block


def _build_inputs(
    windows: Sequence[np.ndarray], batch_size: int, timeline: Timeline, audio: AudioConfig
) -> dict[str, np.ndarray]:
    """A batch of always the same shape: a compiled model would be traced anew for another."""
    waveforms = np.zeros((batch_size, timeline.input_samples), np.float32)
    num_samples = np.full(batch_size, timeline.input_samples, np.int32)
    normalizes = audio.segments is not None and audio.segments.normalize_peak is not None
    for place, window in enumerate(windows):
        if normalizes:
            # What else a segment could be divided by, its clip's peak, has no end here.
            window = window / (np.float32(np.abs(window).max()) or np.float32(1.0))
        fitted, valid = fit_waveform(window, timeline.input_samples, audio.pad, audio.crop)
        waveforms[place], num_samples[place] = fitted, valid
    return {"waveform": waveforms, "num_samples": num_samples}
