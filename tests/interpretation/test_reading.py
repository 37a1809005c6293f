"""A reading comes back as it was written, is there whole or not at all, and says what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from esc_tf.config import LogMelConfig
from esc_tf.errors import RequestError, UnknownNameError
from esc_tf.interpretation.filter_history import FilterHistory
from esc_tf.interpretation.reading import ReadClip, Reading, write_reading

BINS, FRAMES, RANK = 6, 9, 3
LAYER = "block/1 out"
CLIPS = (
    ReadClip("a", "a.wav", 1, "A", "dog", "dog", 0.75),
    ReadClip("b", "b.wav", 2, "B", "rain", is_silent=True),
)
FACTS: dict[str, Any] = {
    "model": "model.keras",
    "model_digest": None,
    "sample_rate_hz": 8000,
    "audio": {"num_samples": 1200, "pad": "silence", "crop": "start"},
    "front_end": LogMelConfig(name="log_mel", n_fft=256, hop_length=128).model_dump(mode="json"),
    "spectrogram": {
        "kind": "log1p",
        "frequencies_hz": [100.0 * (index + 1) for index in range(BINS)],
        "frame_times_s": [0.016 * index for index in range(FRAMES)],
    },
    "label_names": ["dog", "rain"],
    "layers": [LAYER],
    "methods": ["nmf", "mel_basis"],
    "settings": {"seed": 0},
    "versions": {},
    "scores": [],
    "discriminative": {},
    "verdicts": {LAYER: "better than chance"},
}


def write(folder: Path, replace: bool = False, facts: dict[str, Any] = FACTS) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    arrays = {
        "v": rng.random((2, BINS, FRAMES), np.float32),
        "h": rng.random((2, RANK, FRAMES), np.float32),
        "w": rng.random((BINS, RANK), np.float32),
        "history": rng.random((2, BINS, RANK), np.float32),
        "plain": rng.random((RANK, 2 * FRAMES), np.float32),
    }
    with write_reading(folder, replace) as writer:
        writer.create_spectrograms(arrays["v"].shape)[:] = arrays["v"]
        writer.create_activations(LAYER, arrays["h"].shape)[:] = arrays["h"]
        writer.write_filters(LAYER, "nmf", arrays["w"])
        history = FilterHistory(np.array([2.0, 1.0]), np.array([0, 2]), arrays["history"])
        writer.write_filters(LAYER, "mel_basis", 2 * arrays["w"], history)
        writer.write_plain_nmf(LAYER, arrays["w"], arrays["plain"])
        writer.write_facts(facts, CLIPS)
    return arrays


def test_comes_back_as_written(tmp_path: Path) -> None:
    arrays = write(tmp_path / "reading")
    reading = Reading.open(tmp_path / "reading")
    assert reading.clips == CLIPS
    assert (reading.find_row("b"), reading.layers, reading.kind) == (1, (LAYER,), "log1p")
    assert reading.front_end.n_fft == 256
    np.testing.assert_array_equal(reading.spectrogram(1), arrays["v"][1])
    np.testing.assert_array_equal(reading.activations(LAYER), arrays["h"])
    assert isinstance(reading.activations(LAYER), np.memmap)
    np.testing.assert_array_equal(reading.filters(LAYER, "mel_basis"), 2 * arrays["w"])
    assert reading.history(LAYER, "nmf") is None
    history = reading.history(LAYER, "mel_basis")
    assert history is not None
    np.testing.assert_array_equal(history.filters, arrays["history"])
    assert (history.epochs.tolist(), history.losses.tolist()) == ([0, 2], [2.0, 1.0])
    np.testing.assert_array_equal(reading.plain_nmf(LAYER)[1], arrays["plain"])
    assert [path.name for path in tmp_path.iterdir()] == ["reading"]


def test_waveform_is_as_the_model_heard_it(tmp_path: Path) -> None:
    waveform = np.sin(np.arange(1000) / 7) / 2
    soundfile.write(tmp_path / "a.wav", waveform, 8000, subtype="FLOAT")
    clip = ReadClip("a", str(tmp_path / "a.wav"), 1, "A", "dog")
    with write_reading(tmp_path / "reading") as writer:
        writer.write_facts(FACTS, [clip])
    heard = Reading.open(tmp_path / "reading").waveform(0)
    assert heard.dtype == np.float32
    np.testing.assert_array_equal(heard, np.pad(waveform, (0, 200)).astype(np.float32))


def test_a_failure_leaves_nothing_and_the_old_reading(tmp_path: Path) -> None:
    folder = tmp_path / "reading"
    with pytest.raises(ZeroDivisionError), write_reading(folder) as writer:
        writer.write_facts(FACTS, CLIPS)
        raise ZeroDivisionError
    assert not any(tmp_path.iterdir())
    write(folder)
    with pytest.raises(ZeroDivisionError), write_reading(folder, replace=True) as writer:
        raise ZeroDivisionError
    assert Reading.open(folder).verdicts[LAYER] == "better than chance"
    assert [path.name for path in tmp_path.iterdir()] == ["reading"]


def test_replaces_readings_alone_and_only_if_told(tmp_path: Path) -> None:
    folder = tmp_path / "reading"
    write(folder)
    with pytest.raises(RequestError, match="--force"):
        write(folder)
    write(folder, replace=True, facts={**FACTS, "verdicts": {LAYER: "new"}})
    assert Reading.open(folder).verdicts[LAYER] == "new"
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("keep me")
    with pytest.raises(RequestError, match="does not hold a reading"):
        write(tmp_path / "letters", replace=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["letters", "reading"]
    assert (tmp_path / "letters" / "dear.txt").read_text() == "keep me"


def test_unknown_names_and_damage_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "reading"
    with pytest.raises(RequestError, match="interpret nmf"):
        Reading.open(folder)
    write(folder)
    reading = Reading.open(folder)
    with pytest.raises(UnknownNameError, match="mel_basis"):
        reading.filters(LAYER, "mel_base")
    with pytest.raises(UnknownNameError, match="block/1 out"):
        reading.activations("block/1 in")
    with pytest.raises(UnknownNameError, match="no clip 'c'"):
        reading.find_row("c")
    (folder / "spectrograms.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(RequestError, match="spectrograms.npy"):
        reading.spectrogram(0)
    (folder / "reading.json").write_text('{"format": 2}')
    with pytest.raises(RequestError, match="format 2, not 1"):
        Reading.open(folder)
