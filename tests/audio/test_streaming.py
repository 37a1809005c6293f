"""A recording read in blocks is the recording read whole, and a bad end costs the end alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from esc_tf.audio import read_clip, resample, streaming
from esc_tf.audio.streaming import AudioStream
from esc_tf.errors import AudioError


def make_sound(num_samples: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.4, 0.4, num_samples).astype(np.float32)


def read_all(path: Path, sample_rate_hz: int) -> tuple[np.ndarray, str | None]:
    with AudioStream(path, sample_rate_hz) as stream:
        blocks = list(stream.read_blocks())
        assert all(block.ndim == 1 and block.dtype == np.float32 and len(block) for block in blocks)
        return np.concatenate(blocks), stream.problem


@pytest.mark.parametrize("block_values", [1000, 4096, 1 << 16])
@pytest.mark.parametrize(
    ("rate_hz", "new_rate_hz"),
    [(44100, 32000), (22050, 32000), (48000, 32000), (44100, 16000), (32000, 32000)],
)
def test_blocks_are_the_whole_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rate_hz: int,
    new_rate_hz: int,
    block_values: int,
) -> None:
    monkeypatch.setattr(streaming, "_BLOCK_VALUES", block_values)
    path = tmp_path / "s.wav"
    soundfile.write(path, make_sound(2 * rate_hz + 77), rate_hz)
    whole = resample(read_clip(path), new_rate_hz).waveform
    streamed, problem = read_all(path, new_rate_hz)
    np.testing.assert_array_equal(streamed, whole)  # measured: not one bit differs
    assert problem is None


@pytest.mark.parametrize("name", ["s.mp3", "s.flac", "s.ogg"])
def test_compressed_files_have_no_seam(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(streaming, "_BLOCK_VALUES", 2 * 3000)
    path = tmp_path / name
    soundfile.write(path, np.stack([make_sound(50000)] * 2, axis=1), 44100)
    streamed, _ = read_all(path, 32000)
    np.testing.assert_array_equal(streamed, resample(read_clip(path), 32000).waveform)


def test_the_length_is_known_beforehand_where_the_file_states_it(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "s.wav", make_sound(12000), 8000)
    with AudioStream(tmp_path / "s.wav", 32000) as stream:
        assert stream.promised_duration_s == 1.5


# --- faults


def test_a_cut_file_is_read_to_its_end_and_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.wav"
    soundfile.write(whole, make_sound(20000), 8000)
    cut = tmp_path / "cut.wav"
    cut.write_bytes(whole.read_bytes()[:-20000])  # 10,000 samples of 16 bits
    streamed, problem = read_all(cut, 8000)
    np.testing.assert_array_equal(streamed, read_clip(whole).waveform[:10000])
    assert problem is not None
    assert problem.startswith(f"{cut}: truncated, the header promises 40000 bytes")


def test_a_damaged_tail_costs_the_tail_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.flac"
    soundfile.write(path, make_sound(400000), 8000)
    content = bytearray(path.read_bytes())
    del content[len(content) // 2 :]
    path.write_bytes(content)
    streamed, problem = read_all(path, 8000)
    assert 100000 < len(streamed) < 300000
    np.testing.assert_allclose(streamed, make_sound(400000)[: len(streamed)], atol=4e-5)
    assert problem is not None
    assert "truncated" in problem


def test_samples_that_are_no_numbers_end_the_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_BLOCK_VALUES", 1000)
    sound = make_sound(8000)
    sound[4500] = np.nan
    soundfile.write(tmp_path / "s.wav", sound, 8000, subtype="FLOAT")
    streamed, problem = read_all(tmp_path / "s.wav", 8000)
    np.testing.assert_array_equal(streamed, sound[:4000])
    assert problem is not None
    assert "from 0.5 s on unusable, 1 of 1000 samples are NaN" in problem


def test_nothing_good_at_all_is_an_error(tmp_path: Path) -> None:
    nothing = np.full(100, np.nan, np.float32)
    soundfile.write(tmp_path / "nan.wav", nothing, 8000, subtype="FLOAT")
    soundfile.write(tmp_path / "none.wav", nothing[:0], 8000)
    soundfile.write(tmp_path / "one.wav", make_sound(1), 384000)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("this is no sound")
    for name, message in {
        "nan.wav": "100 of 100 samples are NaN",
        "none.wav": "holds no samples",
        "one.wav": "less than one sample|holds no samples",
        "empty.wav": "the file is empty",
        "text.wav": "not audio",
        "missing.wav": "no such file",
    }.items():
        with pytest.raises(AudioError, match=message) as caught:
            read_all(tmp_path / name, 2000)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
