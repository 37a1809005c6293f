"""Requests that were right before something happened to them."""

from __future__ import annotations

import base64
import json
import random
import struct
from dataclasses import dataclass

_TOKENS = [
    *(b"NaN", b"-Infinity", b"1e999", b"-1e400", b"1e-999", b"9" * 400, b"18446744073709551616"),
    *(b"null", b"true", b"[", b"]", b"{", b"}", b'"', b",", b":", b"\\", b"\x00", b"\xff\xfe"),
    *(b"\\ud800", b'"b64"', b'{"b64": ', b'"instances": ', b'"inputs": ', b"[[[[[[[[", b"-", b"."),
    *(b'"signature_name": 1,', b'"signature_name": "",', b"\xe2\x80\xa8", b"[]", b"{}"),
]
_PATHS = [
    *("/v1/models/tiny:predict", "/v1/models/tiny/versions/1:predict", "/V1/models/tiny:predict"),
    *("/v1/models/tiny:classify", "/v1/models/tiny:regress", "/v1/models/tiny/labels/x:predict"),
    *("/v1/models/tiny/versions/99999999999999999999:predict", "/v1/models/%00%ff:predict"),
    *("/v1/models/..%2f..%2fetc/metadata", "/v1/models//", "/v1/", "/page/analyse?model=tiny"),
]
_METHODS = ["POST"] * 12 + ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]
_EXTREMES = [0, 1, 2, 3, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


@dataclass(frozen=True)
class Request:
    """One request to be sent."""

    method: str
    path: str
    body: bytes
    headers: dict[str, str]


def make_wav(samples: list[int], rate_hz: int = 8000) -> bytes:
    """A mono WAV file of 16 bits."""
    data = struct.pack(f"<{len(samples)}h", *samples)
    form = struct.pack("<HHIIHH", 1, 1, rate_hz, 2 * rate_hz, 2, 16)
    content = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(data))
    return b"RIFF" + struct.pack("<I", len(content) + len(data)) + content + data


def mutate(seed: int) -> Request:
    """The request of a number; most of them are wrong in one way or several."""
    rng = random.Random(seed)
    if rng.random() < 0.4:
        wav = make_wav([rng.randrange(-9000, 9000) for _ in range(rng.choice([1, 10, 4000]))])
        body = _wrap(rng, _mutate_wav(rng, wav))
    else:
        body = _mutate_bytes(rng, _wrap(rng, make_wav([1, 2, 3])))
    path = _PATHS[0] if rng.random() < 0.8 else rng.choice(_PATHS)
    if rng.random() < 0.05:
        path = "/" + "".join(chr(rng.randrange(33, 127)) for _ in range(rng.randrange(40)))
    headers = {"Content-Encoding": "gzip"} if rng.random() < 0.02 else {}
    return Request(rng.choice(_METHODS), path, body, headers)


def _wrap(rng: random.Random, wav: bytes) -> bytes:
    encoded = {"b64": base64.b64encode(wav).decode()}
    kinds = [
        {"signature_name": "wav_bytes", "instances": [encoded]},
        {
            "signature_name": "wav_bytes",
            "instances": [{"wav_bytes": encoded}, {"wav_bytes": encoded}],
        },
        {"signature_name": "wav_bytes", "inputs": {"wav_bytes": [encoded]}},
        {"signature_name": "classify", "examples": [{"wav": encoded}]},
        {"signature_name": "embedding", "inputs": [[0.1] * 8, [0.2] * 8]},
        {"instances": [[0.5, 1, -1e-3, 2.5e2], [1, 2, 3, 4]]},
        {"instances": [{"waveform": [0.0] * rng.randrange(20)}]},
        {"inputs": {"waveform": [[rng.random() for _ in range(16)]]}},
        {"signature_name": "serving_default", "inputs": rng.choice([[], [[]], 1, "x", None, {}])},
    ]
    return json.dumps(rng.choice(kinds)).encode()


def _mutate_wav(rng: random.Random, wav: bytes) -> bytes:
    content = bytearray(wav)
    for _ in range(rng.randrange(4)):
        if rng.random() < 0.6:  # a field of the header
            place, kind = rng.choice([(4, "I"), (16, "I"), (20, "H"), (22, "H"), (24, "I")])
            if rng.random() < 0.4:
                place, kind = rng.choice([(28, "I"), (32, "H"), (34, "H"), (40, "I")])
            largest = (1 << (8 * struct.calcsize(kind))) - 1
            value = rng.choice([*_EXTREMES, 8, 24, 32, 44_100, 48_000]) & largest
            struct.pack_into(f"<{kind}", content, place, value)
        else:
            return _mutate_bytes(rng, bytes(content))
    return bytes(content)


def _mutate_bytes(rng: random.Random, content: bytes) -> bytes:
    for _ in range(rng.randrange(5)):
        place = rng.randrange(len(content) + 1)
        other = rng.randrange(len(content) + 1)
        first, last = min(place, other), max(place, other)
        kind = rng.randrange(6)
        if kind == 0:
            content = content[:first] + bytes([rng.randrange(256)]) + content[first + 1 :]
        elif kind == 1:
            content = content[:first] + content[min(last, first + 20) :]
        elif kind == 2:
            content = content[:last] + content[first:last] + content[last:]
        elif kind == 3:
            content = content[:first]
        else:
            content = content[:first] + rng.choice(_TOKENS) + content[first:]
    return content
