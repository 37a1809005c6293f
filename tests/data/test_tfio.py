"""Decoding in the graph by tensorflow-io: as soundfile and soxr do it, or refused in a sentence.

``make test-tfio`` runs the whole of it in an environment of its own; elsewhere the refusal alone.
"""

from __future__ import annotations

import importlib.util
import sys
import unittest
from unittest import mock

import numpy as np
import soundfile
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.audio.reading import read_clip
from esc_tf.config import AudioConfig, FolderDataConfig
from esc_tf.data import tfio_decoding
from esc_tf.data.batches import build_dataset, load_waveform
from esc_tf.data.clips import load_clips
from esc_tf.data.tfio_decoding import count_margins, import_tfio
from esc_tf.errors import DataError, RequestError
from tests.data.folder import FolderTestCase

IS_THERE = importlib.util.find_spec("tensorflow_io") is not None and tf.__version__.startswith(
    tfio_decoding.TENSORFLOW_VERSIONS
)
needs_tfio = unittest.skipUnless(IS_THERE, "needs tensorflow-io: make test-tfio")

# File name -> rate, format, subtype, channels.
KINDS = {
    "a/wav16.wav": (16000, "WAV", "PCM_16", 1),
    "a/wav16_low.wav": (8000, "WAV", "PCM_16", 1),
    "a/wav24.wav": (44100, "WAV", "PCM_24", 2),
    "a/wav8.wav": (16000, "WAV", "PCM_U8", 1),
    "a/float.wav": (48000, "WAV", "FLOAT", 1),
    "b/flac16.flac": (22050, "FLAC", "PCM_16", 2),
    "b/flac24.flac": (44100, "FLAC", "PCM_24", 1),
    "b/flac8.flac": (16000, "FLAC", "PCM_S8", 1),
    "b/vorbis.ogg": (44100, "OGG", "VORBIS", 1),
    "b/vorbis_2.ogg": (16000, "OGG", "VORBIS", 2),
}


def smooth_noise(rng: np.random.Generator, num_samples: int, channels: int, band: float):
    """Noise below ``band``, a fraction of the rate, ``(samples, channels)``, fading at its ends."""
    spectrum = np.fft.rfft(rng.normal(size=(num_samples, channels)), axis=0)
    spectrum[np.fft.rfftfreq(num_samples) > band] = 0.0
    noise = np.fft.irfft(spectrum, num_samples, axis=0) * np.hanning(num_samples)[:, np.newaxis]
    return 0.5 * noise / np.max(np.abs(noise))


class TfioTestCase(FolderTestCase):
    rate_hz = 16000

    def config(self, **options) -> FolderDataConfig:
        return FolderDataConfig(
            name="folder",
            root=str(self.root / "set"),
            cache_dir=str(self.root / "cache"),
            num_folds=2,
            **options,
        )

    def audio(self) -> AudioConfig:
        return AudioConfig(sample_rate_hz=self.rate_hz, duration_s=0.6)

    def write(self, kinds=KINDS) -> None:
        rng = np.random.default_rng(0)
        for name, (rate_hz, container, subtype, channels) in kinds.items():
            path = self.root / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            band = 0.4 * min(rate_hz, self.rate_hz) / rate_hz
            noise = smooth_noise(rng, int(0.5 * rate_hz) // 2 * 2 + 8, channels, band)
            soundfile.write(path, noise, rate_hz, format=container, subtype=subtype)


class RefusalTest(TfioTestCase):
    def test_other_versions_of_tensorflow(self):
        for version in ("2.15.1", "2.18.0", "2.21.0", "2.170.0"):
            with (
                mock.patch.object(tf, "__version__", version),
                self.assertRaisesRegex(RequestError, f"TensorFlow 2.16 or 2.17, .* is {version}; "),
            ):
                import_tfio()

    def test_not_installed(self):
        with (
            mock.patch.object(tf, "__version__", "2.17.1"),
            mock.patch.dict(sys.modules, {"tensorflow_io": None}),
            self.assertRaisesRegex(RequestError, "not installed; set data.decoder to soundfile"),
        ):
            import_tfio()

    def test_operations_that_do_not_load(self):
        broken = mock.Mock()
        broken.audio.resample.side_effect = NotImplementedError("unable to open file\nmore")
        with (
            mock.patch.object(tf, "__version__", "2.17.1"),
            mock.patch.dict(sys.modules, {"tensorflow_io": broken}),
            self.assertRaisesRegex(RequestError, r"does not load here \(unable to open file\); "),
        ):
            import_tfio()

    def test_data_is_refused_before_any_file_is_read(self):
        self.write()
        with (
            mock.patch.object(tf, "__version__", "2.21.0"),
            self.assertRaisesRegex(RequestError, "data.decoder: tfio needs TensorFlow"),
        ):
            load_clips(self.config(decoder="tfio"), self.audio(), 0)

    def test_margins_make_the_delay_whole(self):
        # 176 taps: 353 + 88 samples at 44.1 kHz are 160 at 16 kHz; 64 taps: 128 + 32 are 441.
        self.assertEqual(count_margins(44100, 16000), (353, 970, 160))
        self.assertEqual(count_margins(16000, 44100), (128, 352, 441))
        self.assertEqual(count_margins(48000, 16000), (0, 102, 32))


@needs_tfio
class DecodingTest(TfioTestCase, parameterized.TestCase):
    def batch(self, clips):
        (batch,) = build_dataset(
            clips, audio=self.audio(), num_classes=2, batch_size=len(clips), training=False
        )
        return batch

    @parameterized.parameters(16000, 44100, 11025)
    def test_agrees_with_soundfile_and_soxr(self, rate_hz):
        self.rate_hz = rate_hz
        self.write()
        _, ours, bad = load_clips(self.config(decoder="tfio"), self.audio(), 0)
        self.assertEmpty(bad)
        self.assertFalse((self.root / "cache").exists())
        _, theirs, _ = load_clips(self.config(), self.audio(), 0, progress=False)
        self.assertEqual([c.num_samples for c in ours], [c.num_samples for c in theirs])
        found, expected = self.batch(ours), self.batch(theirs)
        for key in ("num_samples", "label", "index"):
            self.assertAllEqual(found[key], expected[key])
        self.assertTrue(np.isfinite(found["waveform"]).all())
        differences = {}
        for row, clip in enumerate(ours):
            a, b = found["waveform"][row].numpy(), expected["waveform"][row].numpy()
            difference = np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2))
            own_rate = read_clip(clip.cache_path).sample_rate_hz == rate_hz
            differences[clip.record.clip_id] = difference
            # Measured: 0 for WAV and FLAC, 8e-8 for Vorbis; 2e-5 to 7e-5 (83 dB) resampled.
            # The rounding of 8 bits is noise at all frequencies, also where the filters part.
            most = 2e-7 if own_rate else 4e-3 if "8" in clip.record.clip_id else 1.2e-4
            self.assertLess(difference, most, clip.record.clip_id)
        self.assertGreater(max(differences.values()), 0.0)

    def test_one_clip_outside_the_graph(self):
        self.write()
        _, clips, _ = load_clips(self.config(decoder="tfio"), self.audio(), 0)
        for clip in clips:
            self.assertLen(load_waveform(clip, 16000), clip.num_samples)

    def test_bad_files_are_named_before_training(self):
        self.write()
        folder = self.root / "set" / "a"
        (folder / "empty.wav").write_bytes(b"")
        (folder / "text.wav").write_text("no sound")
        (folder / "cut.wav").write_bytes((folder / "wav16.wav").read_bytes()[:-100])
        soundfile.write(folder / "double.wav", np.zeros(100), 16000, subtype="DOUBLE")
        soundfile.write(folder / "odd.wav", np.zeros(101), 16000, subtype="PCM_24")
        with self.assertRaises(DataError) as caught:
            load_clips(self.config(decoder="tfio"), self.audio(), 0)
        problems = "\n".join(caught.exception.problems)
        self.assertLen(caught.exception.problems, 6)
        for name, reason in {
            "empty.wav": "not audio",
            "text.wav": "not audio",
            "cut.wav": "truncated",
            "odd.wav": "odd number of bytes",
            "double.wav": "does not decode WAV/DOUBLE",
        }.items():
            self.assertRegex(problems, f"{name}: .*{reason}")

    def test_damage_inside_a_file_is_named_when_it_is_read(self):
        self.write()
        noise = np.full(8000, 0.1, np.float32)
        noise[100] = np.nan
        soundfile.write(self.root / "set" / "a" / "nan.wav", noise, 16000, subtype="FLOAT")
        _, clips, _ = load_clips(self.config(decoder="tfio"), self.audio(), 0)
        with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "nan.wav: damaged, or has"):
            self.batch(clips)


if __name__ == "__main__":
    tf.test.main()
