"""A folder of three classes and its shards, written once for a whole test class."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import tensorflow as tf

from esc_tf.config import AudioConfig, Esc50DataConfig, ShardsDataConfig
from esc_tf.data.sharding import write_shards
from tests.data.folder import write_folder

RATE_HZ = 8000
AUDIO = AudioConfig(sample_rate_hz=RATE_HZ, duration_s=0.15)
FOLDS, CLIPS_PER_FOLD = 3, 12


def write_quietly(config, folder: Path, **options) -> tuple[dict, str]:
    """Write shards; return the index and what was reported."""
    lines: list[str] = []
    index = write_shards(config, AUDIO, 0, folder, progress=False, report=lines.append, **options)
    return index, "\n".join(lines)


class ShardsTestCase(tf.test.TestCase):
    """A test with ``self.shards``, a copy of its own of a folder of 3 folds x 4 shards."""

    original: Path

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.original = Path(tempfile.mkdtemp()).resolve()
        cls.addClassCleanup(shutil.rmtree, cls.original)
        write_folder(cls.original / "set", rate_hz=RATE_HZ, folds=FOLDS, clips=4)
        cls.index, _ = write_quietly(cls.files(), cls.original / "shards", num_shards=4)

    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name).resolve()
        self.shards = self.root / "shards"
        shutil.copytree(self.original / "shards", self.shards)

    @classmethod
    def files(cls, **options) -> Esc50DataConfig:
        """The files that the shards were made of."""
        cache = str(cls.original / "cache")
        root = options.pop("root", str(cls.original / "set"))
        return Esc50DataConfig(name="esc50", root=root, cache_dir=cache, **options)

    def config(self, **options) -> ShardsDataConfig:
        return ShardsDataConfig(name="shards", root=str(self.shards), **options)
