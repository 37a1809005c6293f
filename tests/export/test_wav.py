"""WAV files in the graph: what soundfile reads of them, and words for what is no such file."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import soundfile
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.data import fit_length
from export.wav import decode_clips, decode_wav

RATE_HZ, LENGTH = 16_000, 8_000
NOISE = 0.1 * np.random.default_rng(0).standard_normal((5_000, 2))


def encode(samples: np.ndarray, rate_hz: int, kind: str = "PCM_16", form: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=form, subtype=kind)
    return file.getvalue()


def read(content: bytes) -> np.ndarray:
    waveform, _ = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    return waveform.mean(axis=1)


def insert_chunk(content: bytes, position: int, name: bytes, body: bytes) -> bytes:
    chunk = name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    return content[:position] + chunk + content[position:]


GOOD = encode(NOISE, RATE_HZ)
FILES = {
    "stereo": GOOD,
    "mono": encode(NOISE[:, 0], RATE_HZ),
    "five_channels": encode(np.tile(NOISE[:, :1], (1, 5)), RATE_HZ),
    "extensible": encode(NOISE, RATE_HZ, form="WAVEX"),
    "chunk_before_the_format": insert_chunk(GOOD, 12, b"JUNK", b"odd"),
    "chunk_before_the_samples": insert_chunk(GOOD, 36, b"LIST", b"fmt data" * 9),
    "chunk_after_the_samples": insert_chunk(GOOD, len(GOOD), b"LIST", b"data"),
}
BAD = {
    "empty": (b"", "is empty"),
    "text": (b"hello", "is no WAV file but something else"),
    "base64": (b"UklGRiRAAABXQVZF", "text in base64"),
    "flac": (encode(NOISE, RATE_HZ, form="FLAC"), "is no WAV file but FLAC"),
    "ogg": (encode(NOISE, RATE_HZ, "VORBIS", "OGG"), "is no WAV file but Ogg"),
    "24_bit": (encode(NOISE, RATE_HZ, "PCM_24"), "is a WAV file of 24-bit PCM"),
    "8_bit": (encode(NOISE, RATE_HZ, "PCM_U8"), "is a WAV file of 8-bit PCM"),
    "24_bit_extensible": (encode(NOISE, RATE_HZ, "PCM_24", "WAVEX"), "of 24-bit PCM"),
    "float": (encode(NOISE, RATE_HZ, "FLOAT"), "is a WAV file of floating point"),
    "mu_law": (encode(NOISE, RATE_HZ, "ULAW"), "is a WAV file of mu-law"),
    "adpcm": (encode(NOISE[:, 0], RATE_HZ, "IMA_ADPCM"), "is a WAV file of ADPCM"),
    "cut_in_the_format": (GOOD[:30], "ends before its samples begin"),
    "cut_before_the_samples": (GOOD[:38], "ends before its samples begin"),
    "cut_in_the_samples": (GOOD[:1_044], "promises 20000 bytes of samples and 1000 are there"),
    "no_samples": (encode(NOISE[:0], RATE_HZ), "is a WAV file without samples"),
    "no_format": (GOOD[:12] + GOOD[36:], "does not say its format"),
    "no_rate": (encode(NOISE, 200), "is a WAV file of 200 Hz, outside 1000 to 768000"),
    "no_channels": (GOOD[:22] + b"\0\0" + GOOD[24:], "is a WAV file of 0 channels"),
}


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
def decode(contents: Any) -> tuple[Any, Any]:
    return decode_clips(contents, RATE_HZ, lambda x: fit_length(x, LENGTH, "end", "start"), LENGTH)


class WavTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters((name, content) for name, content in FILES.items())
    def test_reads_what_soundfile_reads(self, content: bytes) -> None:
        waveform, rate_hz = decode_wav(content)
        self.assertEqual(rate_hz, RATE_HZ)
        self.assertAllClose(waveform, read(content), rtol=0.0, atol=1e-7)

    @parameterized.parameters(0x7FFFF000, 0xFFFFFFFF)
    def test_a_stream_of_unknown_length_is_read_to_its_end(self, length: int) -> None:
        streamed = GOOD[:40] + struct.pack("<I", length) + GOOD[44:]
        self.assertAllClose(decode_wav(streamed)[0], read(GOOD), rtol=0.0, atol=1e-7)

    def test_half_a_sample_at_the_end_is_left_out(self) -> None:
        odd = GOOD[:40] + struct.pack("<I", len(GOOD) - 44 + 3) + GOOD[44:] + b"abc"
        self.assertAllClose(decode_wav(odd)[0], read(GOOD), rtol=0.0, atol=1e-7)

    @parameterized.named_parameters((name, *case) for name, case in BAD.items())
    def test_says_what_it_is_and_what_to_do(self, content: bytes, reason: str) -> None:
        with self.assertRaises(tf.errors.InvalidArgumentError) as caught:
            decode(tf.constant([GOOD, content]))
        self.assertIn("clip 1 ", str(caught.exception))
        self.assertIn(reason, str(caught.exception))
        self.assertIn("; send WAV with 16-bit PCM, of any sample rate", str(caught.exception))

    def test_rates_and_lengths_in_one_batch(self) -> None:
        clips = [
            encode(NOISE, RATE_HZ),
            encode(NOISE[:, 0], 44_100),
            encode(NOISE[:1], 8_000),
            encode(np.tile(NOISE, (9, 1)), 48_000),
        ]
        waveforms, valid = decode(tf.constant(clips))
        self.assertAllEqual(valid, [5_000, 1_814, 2, LENGTH])
        self.assertEqual(waveforms.shape, (4, LENGTH))
        for content, waveform in zip(clips, waveforms, strict=True):
            self.assertAllEqual(decode(tf.constant([content]))[0][0], waveform)

    def test_no_clip_at_all(self) -> None:
        waveforms, valid = decode(tf.constant([], tf.string))
        self.assertEqual((waveforms.shape, valid.shape), ((0, LENGTH), (0,)))

    def test_what_lies_far_behind_is_not_resampled_and_not_missed(self) -> None:
        clip = tf.constant([encode(np.tile(NOISE, (30, 1)), 44_100)])

        def fit(waveform: Any) -> tuple[Any, Any]:
            return fit_length(waveform, LENGTH, "end", "start")

        whole, part = (decode_clips(clip, RATE_HZ, fit, longest)[0] for longest in (None, LENGTH))
        self.assertAllClose(part, whole, rtol=0.0, atol=1e-6)  # measured: 6e-8


if __name__ == "__main__":
    tf.test.main()
