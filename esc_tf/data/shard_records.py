"""One clip as a TFRecord: written with NumPy, read in TensorFlow ops.

``int16`` keeps a waveform as 16-bit whole numbers and a scale. A clip from a 16-bit file at its own
rate comes back bit by bit; any other is off by at most half a step of 1/32767 of its own peak,
which lies 98 dB below a sine of that peak. ``float32`` keeps every bit in twice the space.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from esc_tf.data.records import Record

ENCODINGS = ("int16", "float32")
_FULL_SCALE = 32768.0


def encode_waveform(waveform: np.ndarray, encoding: str) -> tuple[bytes, float]:
    """Return the samples as little-endian bytes and the factor that turns them into full scale ±1.

    Args:
        waveform: ``(samples,)`` float32, finite.
        encoding: ``int16`` or ``float32``.
    """
    if encoding == "float32":
        return np.ascontiguousarray(waveform, "<f4").tobytes(), 1.0
    steps = waveform.astype(np.float64) * _FULL_SCALE
    whole = np.rint(steps)
    if np.array_equal(steps, whole) and np.max(np.abs(whole + 0.5)) < _FULL_SCALE:
        return whole.astype("<i2").tobytes(), 1.0 / _FULL_SCALE
    scale = float(np.max(np.abs(waveform))) / (_FULL_SCALE - 1)
    return np.rint(waveform.astype(np.float64) / scale).astype("<i2").tobytes(), scale


def decode_waveform(samples: tf.Tensor, scale: tf.Tensor, encoding: str) -> tf.Tensor:
    """Turn what `encode_waveform` returned into ``(samples,)`` float32."""
    if encoding == "float32":
        return tf.io.decode_raw(samples, tf.float32, little_endian=True)
    return tf.cast(tf.io.decode_raw(samples, tf.int16, little_endian=True), tf.float32) * scale


def serialize_clip(
    record: Record, waveform: np.ndarray, sample_rate_hz: int, encoding: str
) -> bytes:
    """Return a ``tf.train.Example`` that says all about a clip, so that a shard needs no index.

    Args:
        record: the clip's names and fold.
        waveform: ``(samples,)`` float32 at ``sample_rate_hz``.
        sample_rate_hz: kept beside the samples.
        encoding: ``int16`` or ``float32``.
    """
    samples, scale = encode_waveform(waveform, encoding)

    def text(value: str) -> tf.train.Feature:
        content = value.encode("utf-8", "surrogateescape")
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))

    def number(value: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    features = {
        "samples": tf.train.Feature(bytes_list=tf.train.BytesList(value=[samples])),
        "scale": tf.train.Feature(float_list=tf.train.FloatList(value=[scale])),
        "encoding": text(encoding),
        "sample_rate_hz": number(sample_rate_hz),
        "clip_id": text(record.clip_id),
        "source_id": text(record.source_id),
        "label_name": text(record.label_name),
        "label_id": number(record.label_id),
        "fold": number(record.fold),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def parse_waveform(record: tf.Tensor, encoding: str) -> tf.Tensor:
    """Read the waveform ``(samples,)`` float32 out of what `serialize_clip` returned."""
    parsed = tf.io.parse_single_example(
        record,
        {
            "samples": tf.io.FixedLenFeature([], tf.string),
            "scale": tf.io.FixedLenFeature([], tf.float32),
        },
    )
    return decode_waveform(parsed["samples"], parsed["scale"], encoding)
