"""Sounds inside a page sound like those that were put in."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.evaluation.report.audio_snippets import encode_audio
from tests.evaluation.report.reading import correlate, decode_audio


def make_chirp(rate_hz: int, duration_s: float = 1.0) -> np.ndarray:
    time_s = np.arange(int(rate_hz * duration_s)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * (0.02 + 0.05 * time_s) * rate_hz * time_s)).astype(np.float32)


class AudioSnippetsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((8000, "ogg"), (44100, "ogg"), (4000, "flac"), (250000, "flac"))
    def test_what_comes_out_is_what_went_in(self, rate_hz: int, kind: str) -> None:
        chirp = make_chirp(rate_hz, 0.5)
        uri = encode_audio(chirp, rate_hz)
        self.assertStartsWith(uri, f"data:audio/{kind};base64,")
        decoded, decoded_rate_hz = decode_audio(uri)
        self.assertEqual(decoded_rate_hz, rate_hz)
        self.assertLen(decoded, len(chirp))
        # Measured: 0.998 and more for Vorbis.
        self.assertGreater(correlate(decoded, chirp), 0.99)
        self.assertAllClose(np.std(decoded), np.std(chirp), rtol=0.05)

    def test_what_is_too_loud_is_turned_down(self) -> None:
        loud = 4.0 * make_chirp(16000)
        decoded, _ = decode_audio(encode_audio(loud, 16000))
        self.assertLess(np.abs(decoded).max(), 1.0)
        self.assertGreater(correlate(decoded, loud), 0.99)

    def test_a_long_sound_does_not_overflow_the_encoder(self) -> None:
        # 200 s in one write end the process in libsndfile 1.2.
        noise = np.random.default_rng(0).normal(0.0, 0.1, 200 * 8000).astype(np.float32)
        decoded, _ = decode_audio(encode_audio(noise, 8000))
        self.assertLen(decoded, len(noise))

    def test_silence(self) -> None:
        decoded, _ = decode_audio(encode_audio(np.zeros(8000, np.float32), 16000))
        self.assertAllEqual(decoded, np.zeros(8000))


if __name__ == "__main__":
    tf.test.main()
