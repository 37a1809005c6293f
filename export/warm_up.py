"""Requests that TensorFlow Serving sends to a model itself before anyone else may.

The first call of a signature plans and allocates, which takes seconds. Serving replays the records
of ``assets.extra/tf_serving_warmup_requests`` while it loads the model, so that nobody waits.

The five small messages around TensorFlow's own are encoded here: their classes are in the package
tensorflow-serving-api, which would otherwise be needed for nothing but this.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto

FOLDER, FILE_NAME = "assets.extra", "tf_serving_warmup_requests"


def write_warm_up(folder: Path, requests: Sequence[bytes]) -> Path:
    """Write the requests into a SavedModel's folder.

    Args:
        folder: holds ``saved_model.pb``.
        requests: from ``encode_predict`` and ``encode_classify``; Serving takes 1,000 at most.

    Returns:
        The file, a TFRecord of ``PredictionLog``.
    """
    path = folder / FOLDER / FILE_NAME
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            writer.write(request)
    return path


def encode_predict(model_name: str, signature: str, inputs: Mapping[str, TensorProto]) -> bytes:
    """Encode a call of the predict API as a ``PredictionLog``."""
    request = _encode_model(model_name, signature)
    for name, value in inputs.items():
        entry = _field(1, name.encode()) + _field(2, value.SerializeToString())
        request += _field(2, entry)
    return _field(6, _field(1, request))  # predict_log, its request


def encode_classify(model_name: str, signature: str, examples: Sequence[tf.train.Example]) -> bytes:
    """Encode a call of the classify API as a ``PredictionLog``."""
    encoded = b"".join(_field(1, example.SerializeToString()) for example in examples)
    request = _encode_model(model_name, signature) + _field(2, _field(1, encoded))
    return _field(2, _field(1, request))  # classify_log, its request


def make_silence(num_samples: int) -> TensorProto:
    """One clip ``(1, num_samples)`` in a few bytes: the one value stands for all."""
    silence = tf.make_tensor_proto([[0.0]])
    silence.tensor_shape.dim[1].size = num_samples
    return silence


def make_silent_wav(num_samples: int, sample_rate_hz: int) -> bytes:
    """Return the bytes of a WAV file of silence, mono, 16-bit PCM."""
    size = 2 * num_samples
    head = b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt "
    form = struct.pack("<IHHIIHH", 16, 1, 1, sample_rate_hz, 2 * sample_rate_hz, 2, 16)
    return head + form + b"data" + struct.pack("<I", size) + bytes(size)


def _encode_model(name: str, signature: str) -> bytes:
    return _field(1, _field(1, name.encode()) + _field(3, signature.encode()))


def _field(number: int, content: bytes) -> bytes:
    """Encode a field of bytes, text or a message, as protocol buffers do."""
    return _encode_number(number << 3 | 2) + _encode_number(len(content)) + content


def _encode_number(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)
