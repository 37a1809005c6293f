"""Audio files decoded and resampled in the graph by tensorflow-io, with nothing cached.

Its native operations load with TensorFlow 2.16 and 2.17. Files are looked at once, for their format
and length, and decoded anew whenever they are read.

Agreement with soundfile and soxr, which fill the cache: decoding is the same to 2e-7 (WAV and FLAC
bit by bit); resampling is the same to 7e-5 of the signal, 83 dB, up to 80 % of the lower of the two
half rates, where the filters part. tensorflow-io's resampler delays its output by half its filter
and leaves that much out at the end; both are made good here.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import soundfile
import tensorflow as tf

from esc_tf.audio.containers import find_truncation
from esc_tf.data.graph_errors import pass_if
from esc_tf.data.pipeline import Batch, ClipPipeline
from esc_tf.data.records import BadClip, CachedClip, EncodedClip, Record
from esc_tf.errors import DataError, RequestError

TENSORFLOW_VERSIONS = ("2.16", "2.17")
_REMEDY = (
    "set data.decoder to soundfile, or use an environment made with pip install 'esc_tf[tfio]'"
)
# Taps of the resampler's filter at equal rates.
_FILTER_TAPS = 64


@dataclass(frozen=True)
class _Codec:
    """How one kind of file is decoded: full scale ±1 is ``(value - offset) / full_scale``."""

    function: str
    dtype: str | None
    offset: float = 0.0
    full_scale: float = 1.0


CODECS = {
    "WAV/PCM_U8": _Codec("decode_wav", "uint8", 128.0, 128.0),
    "WAV/PCM_16": _Codec("decode_wav", "int16", 0.0, 2.0**15),
    "WAV/PCM_24": _Codec("decode_wav", "int32", 0.0, 2.0**31),
    "WAV/FLOAT": _Codec("decode_wav", "float32"),
    "FLAC/PCM_S8": _Codec("decode_flac", "uint8", 128.0, 128.0),
    "FLAC/PCM_16": _Codec("decode_flac", "int16", 0.0, 2.0**15),
    "FLAC/PCM_24": _Codec("decode_flac", "int32", 0.0, 2.0**31),
    "OGG/VORBIS": _Codec("decode_vorbis", None),
}

# Its reader stumbles over the byte that fills up samples of one or three bytes to an even size.
_ODD_SIZES_FAIL = ("WAV/PCM_U8", "WAV/PCM_24")


def import_tfio() -> ModuleType:
    """Import tensorflow-io and make sure that its operations load.

    Raises:
        RequestError: TensorFlow is another version than it is built for, or it is not installed,
            or does not load.
    """
    version = tf.__version__
    if not version.startswith(tuple(f"{known}." for known in TENSORFLOW_VERSIONS)):
        raise RequestError(
            f"data.decoder: tfio needs TensorFlow {' or '.join(TENSORFLOW_VERSIONS)}, since "
            f"tensorflow-io loads with no other, and this is {version}; {_REMEDY}"
        )
    try:
        import tensorflow_io as tfio

        tfio.audio.resample(tf.zeros((8, 1)), 2, 1)
    except ImportError:
        raise RequestError(
            f"data.decoder: tfio needs tensorflow-io, which is not installed; {_REMEDY}"
        ) from None
    except (NotImplementedError, tf.errors.OpError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RequestError(
            f"data.decoder: tensorflow-io does not load here ({reason}); {_REMEDY}"
        ) from None
    return tfio


def scan_files(
    records: Sequence[Record], sample_rate_hz: int, max_duration_s: float
) -> tuple[list[EncodedClip], list[BadClip]]:
    """Look at every file's header, without decoding it.

    Args:
        records: all of them files.
        sample_rate_hz: the experiment's rate.
        max_duration_s: longer files are bad.

    Returns:
        The good clips and the bad ones, each in the order of ``records``. A clip's digest is that
        of its file.
    """
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        found = list(pool.map(lambda item: _scan(item, sample_rate_hz, max_duration_s), records))
    good = [item for item in found if isinstance(item, EncodedClip)]
    return good, [item for item in found if isinstance(item, BadClip)]


def _scan(record: Record, sample_rate_hz: int, max_duration_s: float) -> EncodedClip | BadClip:
    assert record.path is not None
    path = record.path
    again = "copy or export it again"
    try:
        content = path.read_bytes()
        with path.open("rb") as file:
            truncation = find_truncation(file, len(content))
        if truncation:
            return BadClip(record, f"{path}: truncated, {truncation}; {again}")
        info = soundfile.info(str(path))
    except OSError as error:
        return BadClip(record, f"{path}: cannot be read ({error.strerror}); check the disk")
    except soundfile.SoundFileError:
        return BadClip(record, f"{path}: not audio that can be decoded; {again} as WAV or FLAC")
    codec = f"{info.format.replace('WAVEX', 'WAV')}/{info.subtype}"
    if codec not in CODECS:
        return BadClip(
            record,
            f"{path}: tensorflow-io does not decode {codec} (only {', '.join(CODECS)}); set "
            "data.decoder to soundfile",
        )
    if codec in _ODD_SIZES_FAIL and info.frames * info.channels % 2:
        return BadClip(
            record,
            f"{path}: tensorflow-io does not decode WAV files of an odd number of bytes; set "
            "data.decoder to soundfile",
        )
    # Half a sample counts as one, as soxr has it.
    num_samples = (2 * info.frames * sample_rate_hz + info.samplerate) // (2 * info.samplerate)
    if num_samples < 1:
        return BadClip(record, f"{path}: holds no samples; {again}")
    if info.duration > max_duration_s:
        return BadClip(
            record,
            f"{path}: too long, {info.duration:.6g} s where at most {max_duration_s:g} s are "
            "accepted; cut it or raise data.max_duration_s",
        )
    digest = hashlib.blake2b(content, digest_size=32).hexdigest()
    return EncodedClip(record, path, num_samples, digest, info.samplerate, codec)


class DecodingPipeline(ClipPipeline):
    """Batches of clips that are decoded in the graph; arguments as for `ClipPipeline`.

    Raises:
        DataError: as for `ClipPipeline`.
        RequestError: tensorflow-io does not load here.
    """

    def __init__(self, clips: Sequence[CachedClip], **options: Any) -> None:
        super().__init__(clips, **options)
        encoded = [clip for clip in clips if isinstance(clip, EncodedClip)]
        if len(encoded) != len(clips):
            raise DataError("clips of files and of the cache cannot be mixed in one pipeline")
        self._tfio = import_tfio()
        self._rate_hz = self._audio.sample_rate_hz
        self._codecs = sorted({clip.codec for clip in encoded})
        self._codec_ids = tf.constant([self._codecs.index(clip.codec) for clip in encoded])
        self._rates_hz = tf.constant([clip.sample_rate_hz for clip in encoded], tf.int64)
        self._lengths = tf.constant([clip.num_samples for clip in encoded], tf.int32)
        # Columns: samples of silence before, behind, and samples to cut off the result's start.
        margins = [count_margins(clip.sample_rate_hz, self._rate_hz) for clip in encoded]
        self._margins = tf.constant(np.array(margins, np.int32))

    def _read(self, item: Batch) -> tf.Tensor:
        position = item["position"]
        path = tf.gather(self._paths, position)
        content = tf.io.read_file(path)
        decoders = [lambda codec=codec: self._decode(content, codec) for codec in self._codecs]
        waveform = tf.switch_case(tf.gather(self._codec_ids, position), decoders)
        rate_hz, wanted = tf.gather(self._rates_hz, position), tf.gather(self._lengths, position)
        waveform = tf.cond(
            tf.equal(rate_hz, self._rate_hz),
            lambda: waveform,
            lambda: self._resample(waveform, rate_hz, tf.gather(self._margins, position), wanted),
        )
        is_good = tf.logical_and(
            tf.equal(tf.size(waveform), wanted), tf.reduce_all(tf.math.is_finite(waveform))
        )
        message = ": damaged, or has samples that are no numbers; copy or export it again"
        return pass_if(waveform, is_good, path, message)

    def _decode(self, content: tf.Tensor, name: str) -> tf.Tensor:
        codec = CODECS[name]
        options = {} if codec.dtype is None else {"dtype": tf.as_dtype(codec.dtype)}
        samples = getattr(self._tfio.audio, codec.function)(content, **options)
        waveform = tf.reduce_mean(tf.cast(samples, tf.float32), axis=1)
        return (waveform - codec.offset) / codec.full_scale

    def _resample(
        self, waveform: tf.Tensor, rate_hz: tf.Tensor, margins: tf.Tensor, wanted: tf.Tensor
    ) -> tf.Tensor:
        padded = tf.pad(waveform, [[margins[0], margins[1]]])
        result = self._tfio.audio.resample(padded[:, tf.newaxis], rate_hz, self._rate_hz)[:, 0]
        return result[margins[2] : margins[2] + wanted]


def count_margins(rate_in_hz: int, rate_out_hz: int) -> tuple[int, int, int]:
    """Silence that makes the resampler's delay a whole number of samples, and that delay.

    The resampler (Speex's) delays by half its filter, whose length grows with the ratio of the
    rates when it goes down. Silence before the clip makes that delay a whole number of samples at
    both rates.

    Returns:
        Samples at ``rate_in_hz`` to put before the clip and behind it, and samples at
        ``rate_out_hz`` to cut off the start of the result.
    """
    divisor = math.gcd(rate_in_hz, rate_out_hz)
    step_in, step_out = rate_in_hz // divisor, rate_out_hz // divisor
    taps = _FILTER_TAPS
    if rate_in_hz > rate_out_hz:
        taps = taps * rate_in_hz // rate_out_hz
        taps = (taps + 7) // 8 * 8
    delay = taps // 2
    before = -delay % step_in
    return before, delay + 2 * step_in, (before + delay) // step_in * step_out
