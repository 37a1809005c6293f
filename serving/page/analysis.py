"""The analysis of one sound as a stream of JSON objects, so that a long one shows its progress."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from serving.errors import ServingError
from serving.page.display import SoundDisplay
from serving.page.hearing import Listener, Window
from serving.page.sound import UploadedSound

# Classes whose course over time is told, and that are named for each window.
_TOP_CLASSES = 10


def describe_sound(sound: UploadedSound) -> dict[str, Any]:
    """Decode a sound once, and say what it is and how to draw it.

    Raises:
        UploadError: see ``UploadedSound.read_blocks``.
    """
    display = SoundDisplay(sound.sample_rate_hz, sound.promised_s)
    for block in sound.read_blocks():
        display.add(block)
    return {
        "kind": "sound",
        "sample_rate_hz": sound.sample_rate_hz,
        "channels": sound.num_channels,
        "format": sound.format_name,
        "problem": sound.problem,
        **display.describe(),
    }


def analyse(sound: UploadedSound, listener: Listener) -> Iterator[dict[str, Any]]:
    """Say what a model hears in a sound.

    Yields:
        Objects told apart by ``kind``. First ``sound``: what it is, its envelope and mel
        spectrogram (see ``SoundDisplay.describe``). Then any number of ``progress``: ``end_s``, up
        to where it has been heard. Then ``scores``: ``window_s``, ``hop_s``, ``starts_s``,
        ``ends_s``, ``surest`` (the window with the largest probability), ``num_classes`` and
        ``classes``, the likeliest first: ``index``, ``label``, ``max``, ``mean`` and
        ``probabilities``, one a window. Last, of models with hidden features, ``features``: see
        ``Listener.find_features``, of the surest window.

    Raises:
        UploadError: the sound cannot be used.
        ServingError: the model fails.
    """
    described = describe_sound(sound)
    yield described
    duration_s = described["duration_s"]
    windows: list[Window] = []
    for some in listener.hear(sound, duration_s):
        windows += some
        yield {"kind": "progress", "end_s": min(windows[-1].end_s, duration_s)}
    probabilities = np.stack([window.probabilities for window in windows])
    if not np.isfinite(probabilities).all():
        raise ServingError("INTERNAL", "The model answers with scores that are no numbers.")
    surest = int(probabilities.max(axis=1).argmax())
    yield {
        "kind": "scores",
        "window_s": listener.window_s,
        "hop_s": listener.choose_hop_s(duration_s),
        "starts_s": [round(window.start_s, 4) for window in windows],
        "ends_s": [round(window.end_s, 4) for window in windows],
        "surest": surest,
        "num_classes": probabilities.shape[1],
        "classes": _describe_classes(probabilities, listener),
    }
    if listener.has_features:
        yield {"kind": "features", **listener.find_features(sound, windows[surest].start_s)}


def _describe_classes(probabilities: np.ndarray, listener: Listener) -> list[dict[str, Any]]:
    """The classes that are likeliest in some window, of ``(windows, classes)``."""
    most, mean = probabilities.max(axis=0), probabilities.mean(axis=0)
    order = np.argsort(-most, kind="stable")[:_TOP_CLASSES]
    return [
        {
            "index": int(index),
            "label": listener.name_class(int(index)),
            "max": round(float(most[index]), 5),
            "mean": round(float(mean[index]), 5),
            "probabilities": [round(float(value), 5) for value in probabilities[:, index]],
        }
        for index in order
    ]
