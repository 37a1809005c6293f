"""Decoded audio on disk: one file a clip, so that nothing is decoded twice.

A file is a header of 64 bytes and the samples as little-endian float32. The header holds a magic
number, the number of samples and a digest of the samples, so that a damaged file is noticed and
decoded again. tf.data reads the samples with `read_cached_waveform`, in TensorFlow ops alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from esc_tf.audio.reading import read_clip
from esc_tf.audio.resampling import resample
from esc_tf.data.records import BadClip, CachedClip, Record
from esc_tf.data.synthetic import GENERATOR_VERSION, generate_clip
from esc_tf.errors import AudioError, DataError
from esc_tf.files import PARTIAL_FILES, write_atomically

# Part of every key: raise it whenever decoding, mixing down or resampling changes.
_DECODER_VERSION = 1
_MAGIC = b"ESCTFf32"
_HEADER = struct.Struct("<8sQ32s16x")
_HEADER_FLOATS = _HEADER.size // 4
_STALE_AFTER_S = 3600.0


def default_cache_dir() -> Path:
    """Return ``$ESC_TF_CACHE``, or the folder ``esc_tf`` in the user's cache folder."""
    if os.environ.get("ESC_TF_CACHE"):
        return Path(os.environ["ESC_TF_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "esc_tf" / "decoded"


def read_waveform(
    path: str | Path, sample_rate_hz: int, max_duration_s: float = 600.0
) -> np.ndarray:
    """Decode one file to ``(samples,)`` float32 at ``sample_rate_hz``; the cache is not used.

    Raises:
        AudioError: the file cannot be used; the message names it, the reason and the remedy.
    """
    clip = read_clip(path, max_duration_s=max_duration_s)
    try:
        return resample(clip, sample_rate_hz).waveform
    except AudioError as error:
        raise AudioError(f"{os.fspath(path)}: {error}") from error


def read_cached_waveform(cache_path: tf.Tensor) -> tf.Tensor:
    """Read the samples ``(samples,)`` float32 of a cache file, in TensorFlow ops."""
    content = tf.io.read_file(cache_path)
    return tf.io.decode_raw(content, tf.float32, little_endian=True)[_HEADER_FLOATS:]


def map_cached_waveform(cache_path: Path) -> np.ndarray:
    """The samples ``(samples,)`` float32 of a cache file, read as they are used.

    Raises:
        DataError: the file is gone.
    """
    try:
        return np.memmap(cache_path, "<f4", "r", offset=_HEADER.size)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{cache_path}: cannot be read ({error}); start again, which decodes it anew"
        ) from None


class DecodedCache:
    """A folder of decoded clips.

    Args:
        folder: where the files lie; None for `default_cache_dir`. Made when needed.

    Raises:
        DataError: the folder cannot be made or written.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = default_cache_dir() if folder is None else Path(folder).expanduser()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise DataError(
                f"data.cache_dir: {self.folder} cannot be written ({error.strerror}); name another "
                "folder there or in ESC_TF_CACHE"
            ) from error
        self._remove_stale_files()

    def fill(
        self,
        records: Sequence[Record],
        sample_rate_hz: int,
        max_duration_s: float = 600.0,
        progress: bool = True,
    ) -> tuple[list[CachedClip], list[BadClip]]:
        """Make every record's waveform ready at one rate; decode only what is not there.

        Args:
            records: files and generated clips.
            sample_rate_hz: the experiment's rate.
            max_duration_s: longer files are bad.
            progress: whether to show a bar on a terminal while decoding.

        Returns:
            The good clips and the bad ones, each in the order of ``records``.

        Raises:
            DataError: the cache folder cannot be written.
        """
        good: list[CachedClip] = []
        bad: list[BadClip] = []
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            found = list(
                pool.map(lambda item: self._find(item, sample_rate_hz, max_duration_s), records)
            )
            missing = [item for item, clip in zip(records, found, strict=True) if clip is None]
            decoded = pool.map(
                lambda item: self._decode(item, sample_rate_hz, max_duration_s), missing
            )
            bar = tqdm(
                decoded,
                total=len(missing),
                desc="decoding",
                unit="clip",
                disable=not (progress and missing and sys.stderr.isatty()),
            )
            try:
                new = dict(zip((id(item) for item in missing), bar, strict=True))
            except BaseException:
                # Without this an interrupt would wait until everything has been decoded.
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        for record, clip in zip(records, found, strict=True):
            outcome = clip if clip is not None else new[id(record)]
            (bad if isinstance(outcome, BadClip) else good).append(outcome)  # type: ignore[arg-type]
        return good, bad

    def _find(
        self, record: Record, sample_rate_hz: int, max_duration_s: float
    ) -> CachedClip | None:
        path = self._cache_path(record, sample_rate_hz)
        if path is None:
            return None
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if len(content) < _HEADER.size:
            return None
        magic, num_samples, digest = _HEADER.unpack_from(content)
        samples = memoryview(content)[_HEADER.size :]
        if magic != _MAGIC or num_samples == 0 or len(samples) != 4 * num_samples:
            return None
        if hashlib.blake2b(samples, digest_size=32).digest() != digest:
            return None
        # Cached under a larger limit: decode it again, which says what is wrong with it.
        if record.path is not None and num_samples > max_duration_s * sample_rate_hz + 1:
            return None
        return CachedClip(record, path, num_samples, digest.hex())

    def _decode(
        self, record: Record, sample_rate_hz: int, max_duration_s: float
    ) -> CachedClip | BadClip:
        if record.synthesis is not None:
            waveform = generate_clip(record.synthesis)
        else:
            try:
                waveform = read_waveform(str(record.path), sample_rate_hz, max_duration_s)
            except AudioError as error:
                return BadClip(record, str(error))
        path = self._cache_path(record, sample_rate_hz)
        if path is None:
            return BadClip(record, f"{record.path}: vanished while it was read; restore it")
        samples = np.ascontiguousarray(waveform, dtype="<f4").tobytes()
        digest = hashlib.blake2b(samples, digest_size=32).digest()
        content = _HEADER.pack(_MAGIC, waveform.size, digest) + samples
        try:
            # Not worth waiting for the disk: a damaged file is noticed and made again.
            write_atomically(
                path, lambda new: new.write_bytes(content), must_survive_power_loss=False
            )
        except OSError as error:
            raise DataError(
                f"data.cache_dir: {path} cannot be written ({error.strerror}); free space or name "
                "another folder"
            ) from error
        return CachedClip(record, path, waveform.size, digest.hex())

    def _cache_path(self, record: Record, sample_rate_hz: int) -> Path | None:
        """Return where the record's waveform lies, or None if the original does not exist."""
        if record.synthesis is not None:
            key = [GENERATOR_VERSION, *vars(record.synthesis).values()]
        else:
            try:
                # Not Path.resolve, which raises RuntimeError for a loop of links.
                original = os.path.realpath(str(record.path))
                status = os.stat(original)
            except (OSError, ValueError):
                return None
            key = [_DECODER_VERSION, original, status.st_size, status.st_mtime_ns, sample_rate_hz]
        name = hashlib.blake2b(json.dumps(key).encode("utf-8", "surrogateescape"), digest_size=20)
        return self.folder / f"{name.hexdigest()}.f32"

    def _remove_stale_files(self) -> None:
        """Remove what killed processes left; recent files may belong to a running one."""
        oldest = time.time() - _STALE_AFTER_S
        for path in self.folder.glob(PARTIAL_FILES):
            try:
                if path.stat().st_mtime < oldest:
                    path.unlink()
            except OSError:
                continue
