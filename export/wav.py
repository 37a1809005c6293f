"""WAV files decoded inside a graph: 16-bit PCM of any rate, any channels, any length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from export.resampling import count_resampled, resample

# Rates outside these are taken for a damaged header.
LOWEST_RATE_HZ = 1_000
HIGHEST_RATE_HZ = 768_000
_PCM, _EXTENSIBLE = 1, 0xFFFE
_ENCODINGS = {
    2: "ADPCM",
    3: "floating point",
    6: "A-law",
    7: "mu-law",
    17: "ADPCM",
    80: "MPEG audio",
    85: "MP3",
}
# First bytes of what is sent instead; the last is "RIFF" in base64.
_OTHER_FILES = {
    b"fLaC": "FLAC",
    b"OggS": "Ogg",
    b"ID3": "MP3",
    b"\xff\xfb": "MP3",
    b"FORM": "AIFF",
    b"RF64": "RF64 (a WAV file of more than 4 GiB)",
    b"RIFX": "RIFX (a WAV file of big-endian numbers)",
    b"UklGR": 'text in base64 (over REST, send {"b64": "..."} and it arrives decoded)',
}
# Written by programs that cannot go back to fill in the length: the samples reach to the end.
_UNKNOWN_LENGTHS = (0x7FFFF000, 0xFFFFFFFF)
_MAX_CHUNKS = 1_000
_REMEDY = (
    "; send WAV with 16-bit PCM, of any sample rate and any number of channels "
    "(ffmpeg -i IN -c:a pcm_s16le OUT.wav)"
)


def decode_clips(
    contents: Any, sample_rate_hz: int, fit: Callable[[Any], tuple[Any, Any]], longest: int | None
) -> tuple[Any, Any]:
    """Decode a batch of WAV files, each of its own rate and length.

    Args:
        contents: strings ``(batch,)``, whole files.
        sample_rate_hz: the rate wanted.
        fit: brings a clip ``(samples,)`` to one length; returns it and its valid samples.
        longest: samples at the new rate behind which nothing is resampled; None: all is.

    Returns:
        What ``fit`` returned of each: float32 ``(batch, length)`` and int32 ``(batch,)``.

    Raises:
        tf.errors.InvalidArgumentError: one is not such a file; the message says which one
            (counted from 0), what it is, and what to do.
    """
    length = fit(tf.zeros([1]))[0].shape[0]

    def decode(item: tuple[Any, Any]) -> tuple[Any, Any]:
        waveform, rate_hz = decode_wav(item[0], item[1])
        return fit(resample_start(waveform, rate_hz, sample_rate_hz, longest))

    signature = (tf.TensorSpec([length], tf.float32), tf.TensorSpec([], tf.int32))
    return tf.map_fn(decode, (contents, tf.range(tf.size(contents))), fn_output_signature=signature)


def resample_start(waveform: Any, from_hz: Any, to_hz: int, longest: int | None) -> Any:
    """Resample a clip, or what of it becomes the first ``longest`` samples."""
    if longest is not None:
        # A tenth of a second more than is kept, so that the end of it is heard by no filter.
        needed = count_resampled(longest, to_hz, from_hz) + tf.cast(from_hz, tf.int32) // 10
        waveform = waveform[:needed]
    return resample(waveform, from_hz, to_hz)


def decode_wav(content: Any, index: Any = 0) -> tuple[Any, Any]:
    """Decode one WAV file, the mean of its channels.

    Args:
        content: the bytes of the file, a string ``()``.
        index: its place in the batch, for the message.

    Returns:
        float32 ``(samples,)``, full scale 1, and the sample rate in Hz, int32 ``()``.

    Raises:
        tf.errors.InvalidArgumentError: as ``decode_clips``.
    """
    num_bytes = tf.cast(tf.strings.length(content), tf.int64)
    # So that any field can be read of any file before it is known to be good.
    padded = tf.strings.join([content, b"\0" * 64])

    def read_text(position: Any, size: int) -> Any:
        position = tf.clip_by_value(tf.cast(position, tf.int64), 0, num_bytes)
        return tf.strings.substr(padded, position, size)

    def read_number(position: Any, size: int) -> Any:
        digits = tf.io.decode_raw(read_text(position, size), tf.uint8)
        return tf.reduce_sum(tf.cast(digits, tf.int64) * [256**place for place in range(size)])

    def is_before_the_samples(position: Any, format_at: Any, samples_at: Any) -> Any:
        return (position + 8 <= num_bytes) & (samples_at < 0)

    def read_chunk(position: Any, format_at: Any, samples_at: Any) -> Any:
        name, size = read_text(position, 4), read_number(position + 4, 4)
        return (
            position + 8 + size + size % 2,
            tf.where(name == b"fmt ", position + 8, format_at),
            tf.where(name == b"data", position + 8, samples_at),
        )

    start, absent = tf.constant(12, tf.int64), tf.constant(-1, tf.int64)
    _, format_at, samples_at = tf.while_loop(
        is_before_the_samples,
        read_chunk,
        (start, absent, absent),
        maximum_iterations=_MAX_CHUNKS,
    )
    encoding = read_number(format_at, 2)
    # The true encoding of the extensible format is the start of its identifier.
    encoding = tf.where(encoding == _EXTENSIBLE, read_number(format_at + 24, 2), encoding)
    num_channels = read_number(format_at + 2, 2)
    rate_hz = read_number(format_at + 4, 4)
    bits = read_number(format_at + 14, 2)
    promised = read_number(samples_at - 4, 4)
    there = num_bytes - samples_at
    is_unknown = tf.reduce_any(promised == tf.constant(_UNKNOWN_LENGTHS, tf.int64))
    size = tf.where(is_unknown, there, promised)
    step = 2 * tf.maximum(num_channels, 1)

    is_wav = (read_text(0, 4) == b"RIFF") & (read_text(8, 4) == b"WAVE")
    early_end = ["is truncated, it ends before its samples begin"]
    truncation = ["is truncated, the header promises ", size, " bytes of samples and ", there]
    problems: list[tuple[Any, list[Any]]] = [
        (num_bytes == 0, ["is empty (0 bytes)"]),
        (~is_wav, ["is no WAV file but ", _name_file(read_text)]),
        ((samples_at < 0) & (format_at + 16 > num_bytes), early_end),
        ((samples_at < 0) & (format_at < 0), early_end),
        (format_at < 0, ["is a WAV file that does not say its format before its samples"]),
        ((encoding != _PCM) | (bits != 16), ["is a WAV file of ", _name_encoding(encoding, bits)]),
        (samples_at < 0, early_end),
        (num_channels < 1, ["is a WAV file of 0 channels"]),
        (
            (rate_hz < LOWEST_RATE_HZ) | (rate_hz > HIGHEST_RATE_HZ),
            ["is a WAV file of ", rate_hz, f" Hz, outside {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ}"],
        ),
        (size > there, [*truncation, " are there"]),
        (size < step, ["is a WAV file without samples"]),
    ]
    problem = tf.constant("")
    for applies, words in reversed(problems):
        problem = tf.where(applies, tf.strings.join([_to_text(word) for word in words]), problem)
    message = tf.strings.join(["clip ", _to_text(index), " ", problem, _REMEDY])
    with tf.control_dependencies([tf.debugging.Assert(problem == "", [message])]):
        samples = tf.strings.substr(content, samples_at, size - size % step)
    waveform = tf.cast(tf.io.decode_raw(samples, tf.int16), tf.float32) / 32768.0
    waveform = tf.reduce_mean(tf.reshape(waveform, tf.stack([-1, num_channels])), axis=1)
    return waveform, tf.cast(rate_hz, tf.int32)


def _name_file(read_text: Callable[[int, int], Any]) -> Any:
    name = tf.constant("something else")
    for magic, file_kind in _OTHER_FILES.items():
        name = tf.where(read_text(0, len(magic)) == magic, file_kind, name)
    return name


def _name_encoding(encoding: Any, bits: Any) -> Any:
    name = tf.strings.join(["encoding number ", _to_text(encoding)])
    for number, words in _ENCODINGS.items():
        name = tf.where(encoding == number, words, name)
    with_bits = tf.strings.join([_to_text(bits), "-bit PCM"])
    return tf.where(encoding == _PCM, with_bits, name)


def _to_text(value: Any) -> Any:
    value = tf.convert_to_tensor(value)
    return value if value.dtype == tf.string else tf.strings.as_string(value)
