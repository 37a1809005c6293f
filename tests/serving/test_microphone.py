"""The microphone example, with a microphone of ours."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from serving import microphone
from serving.tflite_classifier import TFLiteClassifier
from tests.serving.tflite_files import RATE_HZ, build_model, convert

pytest.importorskip("ai_edge_litert", reason="needs the LiteRT interpreter: ai-edge-litert")


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tflite") / "tiny.tflite"
    path.write_bytes(convert(build_model()))
    return path


class PortAudioError(Exception):
    """As the library's."""


class InputStream:
    """Hears a second of a tone at once, and then the user presses Ctrl-C."""

    def __init__(self, samplerate: int, blocksize: int, callback: Any, **settings: Any) -> None:
        if settings["device"] == 7:
            raise PortAudioError("Invalid sample rate")
        assert (samplerate, settings["channels"], settings["dtype"]) == (RATE_HZ, 1, "float32")
        self.blocks = np.split(make_tone(), RATE_HZ // blocksize)
        self.callback = callback

    def __enter__(self) -> InputStream:
        for block in self.blocks:
            self.callback(block[:, np.newaxis], len(block), None, None)
        return self

    def __exit__(self, *exception: object) -> None:
        pass


def make_tone() -> np.ndarray:
    return 0.3 * np.sin(np.arange(RATE_HZ) * 0.7).astype(np.float32)


def run(*arguments: str) -> int:
    library = types.SimpleNamespace(InputStream=InputStream, PortAudioError=PortAudioError)
    take = microphone.queue.Queue.get

    def get_or_stop(self: Any) -> Any:
        if self.empty():
            raise KeyboardInterrupt
        return take(self)

    with (
        mock.patch.dict(sys.modules, {"sounddevice": library}),
        mock.patch.object(microphone.queue.Queue, "get", get_or_stop),
    ):
        return microphone.main(list(arguments))


def test_hears_until_it_is_stopped(path, capsys) -> None:
    assert run(str(path), "--hop", "0.25", "--smoothing", "0", "--top-k", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    results = list(TFLiteClassifier(path).stream([make_tone()], 0.25))
    assert len(results) == 3
    for line, result in zip(lines, results, strict=True):
        best = np.argmax(result.probabilities)
        label = ("low", "middle", "high")[best]
        assert line.split() == [
            f"{result.end_s:.2f}",
            "s",
            label,
            f"{result.probabilities[best]:.2f}",
        ]


def test_another_microphone(path, capsys) -> None:
    assert run(str(path), "--device", "7") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no microphone that records at 8000 Hz (Invalid sample rate)")


def test_without_the_library_it_says_what_to_install(path, capsys) -> None:
    with mock.patch.dict(sys.modules, {"sounddevice": None}):
        assert microphone.main([str(path)]) == 2
    expected = "error: a microphone needs sounddevice: pip install sounddevice\n"
    assert capsys.readouterr().err == expected
