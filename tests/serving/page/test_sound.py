"""Uploads: what is decoded, and what is refused before it costs anything."""

from __future__ import annotations

import dataclasses
import io
import wave

import numpy as np
import pytest
import soxr

from serving.page.sound import PageLimits, UploadedSound, UploadError
from tests.serving.page.sounds import encode, tone

LIMITS = PageLimits()


def decode(content: bytes, limits: PageLimits = LIMITS) -> np.ndarray:
    return np.concatenate(list(UploadedSound(content, limits).read_blocks()))


@pytest.mark.parametrize(
    ("container", "subtype", "tolerance"),
    [
        ("WAV", "PCM_16", 2**-15),
        ("WAV", "PCM_24", 2**-23),
        ("WAV", "FLOAT", 0.0),
        ("FLAC", "PCM_24", 2**-23),
        ("AIFF", "PCM_16", 2**-15),
        ("OGG", "VORBIS", 0.02),
        ("OGG", "OPUS", 0.05),
        ("MP3", "MPEG_LAYER_III", 0.02),
    ],
)
def test_all_formats_are_told_from_their_content(
    container: str, subtype: str, tolerance: float
) -> None:
    left = tone(440, 3.0, 48_000)
    stereo = np.stack([left, 0.5 * left], axis=1)
    sound = UploadedSound(encode(stereo, 48_000, container, subtype), LIMITS)
    assert (sound.sample_rate_hz, sound.num_channels) == (48_000, 2)
    assert sound.format_name.startswith(container)
    decoded = np.concatenate(list(sound.read_blocks()))
    assert sound.problem is None
    # MP3 and Opus may add silence; their start is not compared since they fade in.
    middle = slice(48_000, 96_000)
    assert len(decoded) == pytest.approx(len(left), abs=3_000 if container == "MP3" else 0)
    shift = 0
    if container == "MP3":
        errors = [
            np.abs(decoded[48_000 + s : 96_000 + s] - 0.75 * left[middle]).max()
            for s in range(1200)
        ]
        shift = int(np.argmin(errors))
    heard = decoded[48_000 + shift : 96_000 + shift]
    assert np.abs(heard - 0.75 * left[middle]).max() <= tolerance


def test_a_sound_is_decoded_again_and_again_and_resampled() -> None:
    waveform = tone(700, 5.0, 44_100)
    sound = UploadedSound(encode(waveform, 44_100, "WAV", "FLOAT"), LIMITS)
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate(list(sound.read_blocks())), waveform)
    blocks = list(sound.read_resampled(16_000))
    expected = soxr.resample(waveform, 44_100, 16_000, quality="VHQ")
    np.testing.assert_allclose(np.concatenate(blocks), expected, rtol=0.0, atol=1e-6)
    assert max(map(len, blocks)) < len(waveform) / 2  # in pieces


# --- what is refused


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The file is empty"),
        (b"/etc/passwd", "no sound file that can be read"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "no sound file that can be read"),
        (b"\0" * 10_000, "no sound file that can be read"),
        (encode(np.zeros(0, np.float32), 8_000), "holds no sound"),
        (encode(np.full(100, np.nan, np.float32), 8_000, "WAV", "FLOAT"), "holds no sound .*NaN"),
        (encode(np.zeros((10, 33), np.float32), 8_000), "33 channels, and at most 32"),
    ],
)
def test_what_is_no_sound_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(UploadError, match=message):
        decode(content)


def test_long_sounds_are_refused_by_their_header_or_while_they_are_decoded() -> None:
    limits = dataclasses.replace(LIMITS, max_duration_s=1.5)
    content = encode(tone(100, 2.0, 8_000), 8_000)
    with pytest.raises(UploadError, match="longer than 1.5 s, the most"):
        UploadedSound(content, limits)
    assert len(decode(content, dataclasses.replace(LIMITS, max_duration_s=2.0))) == 16_000

    # A header that does not tell the truth, as a stream's cannot.
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, 8_000, 0, "NONE", ""))
        writer.writeframes(b"\1\0" * 16_000)
    unknown = bytearray(file.getvalue())
    unknown[40:44] = b"\xff\xff\xff\xff"
    with pytest.raises(UploadError, match="longer than 1.5 s"):
        decode(bytes(unknown), limits)


def test_a_small_file_that_unpacks_to_a_huge_sound_is_refused() -> None:
    silence = np.zeros((48_000 * 60, 8), np.float32)
    content = encode(silence, 48_000, "FLAC")
    ratio = silence.size * 2 / len(content)
    assert ratio > 1_000
    with pytest.raises(UploadError, match="unpacks to more than 1000 times its size"):
        decode(content)
    wider = dataclasses.replace(LIMITS, max_decompression_ratio=1.01 * ratio)
    assert len(decode(content, wider)) == len(silence)
    # Some seconds of silence may be as small as they like.
    short = encode(silence[: 48_000 * 5], 48_000, "FLAC")
    assert len(decode(short, dataclasses.replace(LIMITS, max_decompression_ratio=1.0))) == 240_000


def test_many_channels_at_a_high_rate_are_refused_by_what_they_unpack_to() -> None:
    content = encode(np.zeros((10_000, 4), np.float32), 48_000, "FLAC")
    limits = dataclasses.replace(LIMITS, max_decoded_bytes=80_000)
    assert len(decode(content, limits)) == 10_000
    with pytest.raises(UploadError, match="unpacks to more than 0 MiB"):
        decode(content, dataclasses.replace(LIMITS, max_decoded_bytes=79_999))


@pytest.mark.parametrize("rate_hz", [0, 1, 999, 768_001, 2**31 - 1, 2**32 - 1])
def test_rates_of_no_recorder_are_refused(rate_hz: int) -> None:
    content = bytearray(encode(tone(100, 0.5, 8_000), 8_000))
    content[24:28] = rate_hz.to_bytes(4, "little")
    with pytest.raises(UploadError):
        decode(bytes(content))


# --- what is damaged


def test_what_comes_before_a_fault_is_heard() -> None:
    waveform = tone(300, 10.0, 48_000)
    content = encode(waveform, 48_000, "WAV", "PCM_16")
    cut = UploadedSound(content[: len(content) // 2], LIMITS)
    decoded = np.concatenate(list(cut.read_blocks()))
    assert cut.problem is not None and "the header promises 960000 bytes" in cut.problem
    np.testing.assert_allclose(decoded, waveform[: len(decoded)], atol=2**-15)
    assert len(decoded) == pytest.approx(240_000, abs=50)

    waveform[400_000] = np.nan
    broken = UploadedSound(encode(waveform, 48_000, "WAV", "FLOAT"), LIMITS)
    decoded = np.concatenate(list(broken.read_blocks()))
    assert broken.problem is not None and "1 of" in broken.problem
    assert 200_000 < len(decoded) <= 400_000


# What fails inside of a callback of the decoder only says so, at length.
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_mutated_files_are_heard_or_refused_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    formats = [("WAV", None), ("FLAC", None), ("OGG", "VORBIS"), ("MP3", None), ("AIFF", None)]
    contents = [encode(tone(440, 0.5, 16_000), 16_000, *item) for item in formats]
    outcomes = {"heard": 0, "refused": 0}
    for round_ in range(400):
        content = bytearray(contents[round_ % len(contents)])
        for place in rng.integers(0, min(len(content), 120), 5):
            content[place] = rng.integers(0, 256)
        try:
            waveform = decode(bytes(content))
            assert np.isfinite(waveform).all()
            outcomes["heard"] += 1
        except UploadError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 10
