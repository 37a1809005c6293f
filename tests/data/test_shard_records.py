"""One clip in a shard: what int16 keeps and what it loses."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.data.records import Record
from esc_tf.data.shard_records import (
    decode_waveform,
    encode_waveform,
    parse_waveform,
    serialize_clip,
)

RECORD = Record("dog/ä.wav", 1, "dog", 3, "17")


def there_and_back(waveform: np.ndarray, encoding: str) -> np.ndarray:
    return parse_waveform(serialize_clip(RECORD, waveform, 8000, encoding), encoding).numpy()


class ShardRecordTest(tf.test.TestCase, parameterized.TestCase):
    def test_float32_keeps_every_bit(self):
        waveform = np.random.default_rng(0).normal(size=999).astype(np.float32)
        np.testing.assert_array_equal(there_and_back(waveform, "float32"), waveform)

    def test_int16_keeps_every_bit_of_16_bit_files(self):
        steps = np.random.default_rng(0).integers(-32768, 32768, 5000)
        steps[:2] = -32768, 32767
        waveform = (steps / 32768).astype(np.float32)
        np.testing.assert_array_equal(there_and_back(waveform, "int16"), waveform)
        np.testing.assert_array_equal(there_and_back(waveform[:0] + 0, "float32"), waveform[:0])

    @parameterized.parameters(1.0, 7.5, 1e-5)
    def test_int16_is_exact_to_half_a_step_of_the_peak(self, peak):
        waveform = np.random.default_rng(0).uniform(-1, 1, 5000).astype(np.float32)
        waveform *= np.float32(peak / np.max(np.abs(waveform)))
        error = np.max(np.abs(there_and_back(waveform, "int16") - waveform))
        # 1/65534 = 1.526e-5 of the peak; the rest is the rounding of float32.
        self.assertLess(error, 1.535e-5 * peak)
        self.assertGreater(error, 1e-5 * peak)

    def test_int16_noise_lies_98_db_below_a_sine(self):
        sine = np.sin(2 * np.pi * 0.01234567 * np.arange(100_000)).astype(np.float32)
        error = there_and_back(sine, "int16") - sine
        ratio_db = 10 * np.log10(np.mean(sine**2) / np.mean(error**2))
        self.assertAllClose(ratio_db, 98.1, atol=0.2)

    def test_silence_stays_silent(self):
        np.testing.assert_array_equal(there_and_back(np.zeros(10, np.float32), "int16"), 0.0)

    def test_decoding_runs_in_a_graph(self):
        samples, scale = encode_waveform(np.array([0.5, -0.25], np.float32), "int16")
        decoded = tf.function(lambda: decode_waveform(tf.constant(samples), scale, "int16"))()
        self.assertAllEqual(decoded, [0.5, -0.25])

    def test_a_record_says_all_about_its_clip(self):
        example = tf.train.Example.FromString(
            serialize_clip(RECORD, np.zeros(4, np.float32), 8000, "int16")
        )
        feature = example.features.feature
        self.assertEqual(feature["clip_id"].bytes_list.value[0].decode(), "dog/ä.wav")
        self.assertEqual(feature["source_id"].bytes_list.value[0], b"17")
        self.assertEqual(feature["label_name"].bytes_list.value[0], b"dog")
        numbers = {name: feature[name].int64_list.value[0] for name in ("fold", "label_id")}
        self.assertEqual(numbers, {"fold": 3, "label_id": 1})
        self.assertEqual(feature["sample_rate_hz"].int64_list.value[0], 8000)


if __name__ == "__main__":
    tf.test.main()
