"""Every kind of good file is read, every kind of bad one is named with its reason."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from esc_tf.audio import decoding, read_clip
from esc_tf.errors import AudioError

RATE_HZ = 16000


def make_sound(num_samples: int = 8000) -> np.ndarray:
    times_s = np.arange(num_samples) / RATE_HZ
    envelope = 0.5 + 0.3 * np.sin(2 * np.pi * 3 * times_s)
    return (envelope * np.sin(2 * np.pi * 440 * times_s)).astype(np.float32)


def write_sound(path: Path, samples: np.ndarray | None = None, subtype: str | None = None) -> Path:
    soundfile.write(path, make_sound() if samples is None else samples, RATE_HZ, subtype=subtype)
    return path


def reason_of(path: Path, **limits: float) -> str:
    """The message of the error, checked for its form: one line that starts with the file."""
    with pytest.raises(AudioError) as caught:
        read_clip(path, **limits)
    assert len(caught.value.problems) == 1
    message = caught.value.problems[0]
    assert message.startswith(f"{path}: ")
    assert "; " in message and "\n" not in message
    return message.removeprefix(f"{path}: ")


# --- good files

# Largest error of each format: one step of its quantisation, or measured for the lossy ones
# (Vorbis 0.006, Opus 0.016, MP3 0.022 in the middle of the sound).
FORMATS = [
    ("s.wav", "PCM_U8", 8e-3),
    ("s.wav", "PCM_16", 4e-5),
    ("s.wav", "PCM_24", 2e-7),
    ("s.wav", "PCM_32", 1e-7),
    ("s.wav", "FLOAT", 0.0),
    ("s.wav", "DOUBLE", 0.0),
    ("s.flac", "PCM_16", 4e-5),
    ("s.flac", "PCM_24", 2e-7),
    ("s.aiff", "PCM_16", 4e-5),
    ("s.ogg", "VORBIS", 2e-2),
    ("s.ogg", "OPUS", 5e-2),
    ("s.mp3", "MPEG_LAYER_III", 5e-2),
]


@pytest.mark.parametrize(("name", "subtype", "tolerance"), FORMATS)
def test_reads_every_format(tmp_path: Path, name: str, subtype: str, tolerance: float) -> None:
    clip = read_clip(write_sound(tmp_path / name, subtype=subtype))
    assert clip.sample_rate_hz == RATE_HZ
    assert clip.waveform.dtype == np.float32
    assert clip.waveform.shape == (8000,)
    assert clip.duration_s == 0.5
    middle = slice(1000, 7000)
    assert np.max(np.abs(clip.waveform[middle] - make_sound()[middle])) <= tolerance


@pytest.mark.parametrize("name", ["s.wav", "s.flac"])
def test_mixes_stereo_down_to_the_mean(tmp_path: Path, name: str) -> None:
    left = make_sound()
    stereo = np.stack([left, -0.5 * left], axis=1)
    clip = read_clip(write_sound(tmp_path / name, stereo, "PCM_24"))
    assert clip.waveform.shape == left.shape
    np.testing.assert_allclose(clip.waveform, 0.25 * left, atol=2e-7)


@pytest.mark.parametrize("name", ["s.wav", "s.flac", "s.ogg", "s.mp3"])
def test_blocks_join_without_a_seam(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = write_sound(tmp_path / name, np.stack([make_sound(20000)] * 2, axis=1))
    whole = read_clip(path).waveform
    monkeypatch.setattr(decoding, "_BLOCK_VALUES", 2 * 3000)
    np.testing.assert_array_equal(read_clip(path).waveform, whole)


def test_content_decides_and_not_the_name(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "s.flac").rename(tmp_path / "s.raw")
    assert len(read_clip(str(path)).waveform) == 8000


def test_silence_is_no_error(tmp_path: Path) -> None:
    clip = read_clip(write_sound(tmp_path / "s.wav", np.zeros(100, np.float32)))
    assert not clip.waveform.any()


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFF000])
def test_a_streamed_wav_of_unknown_length_reaches_to_its_end(tmp_path: Path, length: int) -> None:
    path = write_sound(tmp_path / "s.wav")
    declare_length(path, length)
    assert len(read_clip(path).waveform) == 8000


def test_a_flac_stream_of_unstated_length_reaches_to_its_end(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "s.flac")
    write_num_samples(path, 0)
    assert len(read_clip(path).waveform) == 8000
    assert "too long" in reason_of(path, max_duration_s=0.4)


def write_num_samples(path: Path, num_samples: int) -> None:
    """Write the 36-bit number of samples into the header of a FLAC file."""
    content = bytearray(path.read_bytes())
    content[21] = (content[21] & 0xF0) | (num_samples >> 32)
    content[22:26] = struct.pack(">I", num_samples & 0xFFFFFFFF)
    path.write_bytes(content)


# --- bad files


def declare_length(path: Path, num_bytes: int) -> None:
    """Make the data chunk of a WAV file promise another length."""
    content = bytearray(path.read_bytes())
    start = content.index(b"data") + 4
    content[start : start + 4] = struct.pack("<I", num_bytes)
    path.write_bytes(content)


def test_missing(tmp_path: Path) -> None:
    assert "no such file" in reason_of(tmp_path / "none.wav")
    assert "no such file" in reason_of(write_sound(tmp_path / "s.wav") / "below.wav")


def test_folder(tmp_path: Path) -> None:
    assert "is a folder" in reason_of(tmp_path)


def test_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    assert "not a regular file" in reason_of(tmp_path / "pipe.wav")


def test_impossible_path() -> None:
    with pytest.raises(AudioError, match="not a valid path"):
        read_clip("a\0b.wav")


def test_unprintable_path_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(AudioError) as caught:
        read_clip(os.fsencode(tmp_path) + b"/a\nb\xff.wav")
    assert str(caught.value).isprintable()


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sound(tmp_path / "s.wav")
    path.chmod(0)
    if os.geteuid() == 0:  # root may read everything, so the refusal is put in its place

        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
    assert "permission denied" in reason_of(path)


def test_failing_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sound(tmp_path / "s.wav")

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(decoding, "find_truncation", fail)
    assert "cannot be read (Input/output error)" in reason_of(path)


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "s.wav").touch()
    assert "empty" in reason_of(tmp_path / "s.wav")


def test_text_that_calls_itself_wav(tmp_path: Path) -> None:
    (tmp_path / "s.wav").write_text("no sound at all\n" * 100)
    assert "not audio" in reason_of(tmp_path / "s.wav")


def test_random_bytes(tmp_path: Path) -> None:
    (tmp_path / "s.ogg").write_bytes(np.random.default_rng(0).bytes(5000))
    assert "not audio" in reason_of(tmp_path / "s.ogg")


TRUNCATED = [
    (name, kept)
    for name in ("s.wav", "s.flac", "s.ogg", "s.mp3", "s.aiff")
    for kept in (0.3, 0.5, 0.9, 0.999)
]


@pytest.mark.parametrize(("name", "kept"), TRUNCATED)
def test_truncated(tmp_path: Path, name: str, kept: float) -> None:
    path = write_sound(tmp_path / name, make_sound(40000))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    assert "truncated" in reason_of(path)


@pytest.mark.parametrize("num_bytes", [3, 20, 40])
@pytest.mark.parametrize("name", ["s.wav", "s.flac", "s.ogg", "s.mp3", "s.aiff"])
def test_cut_within_the_header(tmp_path: Path, name: str, num_bytes: int) -> None:
    path = write_sound(tmp_path / name)
    path.write_bytes(path.read_bytes()[:num_bytes])
    reason = reason_of(path)
    assert "truncated" in reason or "not audio" in reason


def test_ogg_cut_between_two_pages(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "s.ogg", make_sound(80000))
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"OggS")])
    assert "page that ends the stream is missing" in reason_of(path)


def test_ogg_with_a_hole(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "s.ogg", make_sound(80000))
    content = path.read_bytes()
    path.write_bytes(content[:2000] + content[2500:])
    assert "truncated" in reason_of(path)


@pytest.mark.parametrize("num_bytes", [16002, 10**6, 4 * 10**9])
def test_wav_that_promises_more_than_it_holds(tmp_path: Path, num_bytes: int) -> None:
    path = write_sound(tmp_path / "s.wav", subtype="PCM_16")
    declare_length(path, num_bytes)
    reason = reason_of(path)
    assert "truncated" in reason
    assert f"promises {num_bytes} bytes" in reason and "16000 are there" in reason


@pytest.mark.parametrize("big_endian", [False, True])
def test_wav_chunks_before_the_samples_are_stepped_over(tmp_path: Path, big_endian: bool) -> None:
    endian = "BIG" if big_endian else "LITTLE"
    path = tmp_path / "s.wav"
    soundfile.write(path, make_sound(), RATE_HZ, "PCM_16", endian=endian)
    content = path.read_bytes()
    start = content.index(b"data")
    extra = b"junk" + struct.pack(">I" if big_endian else "<I", 5) + b"data\0\0"
    path.write_bytes(content[:start] + extra + content[start:])
    assert len(read_clip(path).waveform) == 8000
    path.write_bytes(path.read_bytes()[:-100])
    assert "truncated" in reason_of(path)


def test_rf64_states_its_length_in_64_bits(tmp_path: Path) -> None:
    path = tmp_path / "s.wav"
    soundfile.write(path, make_sound(), RATE_HZ, format="RF64")
    assert len(read_clip(path).waveform) == 8000
    path.write_bytes(path.read_bytes()[:-100])
    assert "truncated" in reason_of(path)


@pytest.mark.parametrize("name", ["s.wav", "s.aiff"])
def test_zero_length(tmp_path: Path, name: str) -> None:
    path = write_sound(tmp_path / name, np.zeros(0, np.float32))
    assert path.stat().st_size > 0
    assert "holds no samples" in reason_of(path)


def test_wav_header_that_was_never_finished(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "s.wav")
    declare_length(path, 0)
    assert "holds no samples" in reason_of(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(tmp_path: Path, value: float) -> None:
    samples = make_sound()
    samples[[5, 70]] = value
    path = write_sound(tmp_path / "s.wav", samples, "FLOAT")
    assert "2 of 8000 samples are NaN or infinite" in reason_of(path)


def test_double_beyond_the_range_of_float32(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "s.wav", np.full(10, 1e300), "DOUBLE")
    assert "infinite" in reason_of(path)


def test_absurdly_loud(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "s.wav", np.full(10, -1e20, np.float32), "FLOAT")
    assert "as large as 1e+20" in reason_of(path)


def test_too_long_is_told_from_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sound(tmp_path / "s.flac", np.zeros(RATE_HZ * 20, np.float32))

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("decoded before the length was checked")

    monkeypatch.setattr(soundfile.SoundFile, "read", fail)
    assert "too long, 20 s where at most 19 s" in reason_of(path, max_duration_s=19.0)


def test_absurd_length_in_a_flac_header(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "s.flac")
    write_num_samples(path, (1 << 36) - 1)
    assert "too long" in reason_of(path)


def test_exactly_the_longest_duration_is_accepted(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "s.wav")
    assert read_clip(path, max_duration_s=0.5).duration_s == 0.5
    assert "too long" in reason_of(path, max_duration_s=0.4999)


def test_too_short(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "s.wav")
    assert read_clip(path, min_duration_s=0.5).duration_s == 0.5
    assert "too short, 0.5 s where at least 1 s" in reason_of(path, min_duration_s=1.0)
