"""Where the sounds come from, and which of them train, validate and test."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from esc_tf.config.section import Section
from esc_tf.errors import ConfigError

# The file in a folder of shards that describes it.
SHARD_INDEX = "index.json"

ClassList = Annotated[list[str], Field(min_length=2)]
ClassSelection = Literal["all", "esc10", "esc19"] | ClassList
ListOrAll = Literal["all"] | ClassList
Fold = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]

_SELECTION_SIZES = {"esc10": 10, "esc19": 19}


def _count_classes(selection: str | list[str], all_classes: int) -> int:
    if isinstance(selection, str):
        return _SELECTION_SIZES.get(selection, all_classes)
    return len(selection)


class SplitConfig(Section):
    """What every data set has: its split.

    ``test_fold`` is held out (null: train on everything). ``validation`` is a fold number, a
    fraction of the remaining clips (drawn by class, recordings kept together) or null.
    ``read_patience_s`` is how long, in seconds, a training tries again to read data that it cannot
    read, on a share that is away for a while, before it stops.
    """

    read_patience_s: Annotated[float, Field(ge=0.0)] = 30.0
    test_fold: Fold | None = 5
    validation: Fraction | Fold | None = 0.2
    on_leak: Literal["fail", "drop"] = "fail"


class DecodedConfig(SplitConfig):
    """What every data set has whose clips are decoded or generated here.

    ``max_duration_s`` is the longest accepted file in seconds. ``cache_dir`` holds decoded audio
    (null: ``$ESC_TF_CACHE`` or the user's cache folder).
    """

    on_bad_file: Literal["fail", "skip"] = "fail"
    max_duration_s: Annotated[float, Field(gt=0.0)] = 600.0
    cache_dir: str | None = None


class FilesConfig(DecodedConfig):
    """What every data set has that lies in audio files below ``root``.

    ``decoder`` ``soundfile`` decodes each file once, into the cache; ``tfio`` decodes and resamples
    it in the graph, again in every epoch, with nothing cached (needs tensorflow-io, which loads
    with TensorFlow 2.16 and 2.17).
    """

    root: str
    decoder: Literal["soundfile", "tfio"] = "soundfile"


class Esc50DataConfig(FilesConfig):
    """A folder in ESC-50's layout: ``audio/`` and ``meta/esc50.csv``."""

    name: Literal["esc50"]
    classes: ClassSelection = "all"

    @property
    def num_classes(self) -> int:
        """Number of classes, known without looking at the data."""
        return _count_classes(self.classes, 50)


class UrbanSound8KDataConfig(FilesConfig):
    """A folder in UrbanSound8K's layout: ``audio/foldN/`` and ``metadata/UrbanSound8K.csv``."""

    name: Literal["urbansound8k"]
    classes: ListOrAll = "all"
    test_fold: Fold | None = 10

    @property
    def num_classes(self) -> int:
        """Number of classes, known without looking at the data."""
        return _count_classes(self.classes, 10)


class FolderDataConfig(FilesConfig):
    """A folder with one folder of audio files a class, divided into folds here.

    ``num_folds`` folds with as equal shares of each class as the recordings allow. Files of one
    recording stay in one fold: ``source_pattern`` is a regular expression, searched in the file's
    name, whose one group is the recording (``^([^-]+)-``: what stands before the first dash);
    null: each file is a recording of its own. ``fold_seed`` decides the folds, so that runs with
    different seeds share their folds.
    """

    name: Literal["folder"]
    classes: ListOrAll = "all"
    num_folds: Annotated[int, Field(ge=2, le=100)] = 5
    fold_seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    source_pattern: str | None = None

    @field_validator("source_pattern")
    @classmethod
    def _check_pattern(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        try:
            num_groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"is no regular expression ({error})") from None
        if num_groups != 1:
            raise ValueError(f"must have one group, the recording, not {num_groups}")
        return pattern

    @property
    def num_classes(self) -> int:
        """Number of classes: of the list, else of the folders that are there.

        Raises:
            ConfigError: neither is known.
        """
        if self.classes != "all":
            return len(self.classes)
        try:
            return len(list_class_folders(Path(self.root).expanduser()))
        except OSError as error:
            raise ConfigError(
                f"data.root: {self.root} cannot be read ({error.strerror}), so the classes are not "
                "known; name a folder with one folder a class, or list them in data.classes"
            ) from None


class ShardsDataConfig(SplitConfig):
    """A folder that ``python -m esc_tf.data shard`` wrote.

    ``parallel_reads`` shards are read at once. Training clips are shuffled among
    ``shuffle_window`` neighbours, beside the order of the shards; the window is held in memory
    twice (a clip of 5 s at 44.1 kHz takes 441 kB as int16). ``local_shards``: shards may be absent
    from this machine if they are those that other workers train on.
    """

    name: Literal["shards"]
    root: str
    parallel_reads: Annotated[int, Field(ge=1, le=256)] = 8
    shuffle_window: Annotated[int, Field(ge=1)] = 256
    local_shards: bool = False

    @property
    def num_classes(self) -> int:
        """Number of classes, as the index has it.

        Raises:
            ConfigError: the index cannot be read.
        """
        path = Path(self.root).expanduser() / SHARD_INDEX
        try:
            return len(json.loads(path.read_text(encoding="utf-8"))["label_names"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = getattr(error, "strerror", None) or "not an index of shards"
            raise ConfigError(
                f"data.root: {path} cannot be read ({reason}), so the classes are not known; name "
                "a folder that python -m esc_tf.data shard wrote"
            ) from None


class SyntheticDataConfig(DecodedConfig):
    """Ten classes of generated sounds in five folds; nothing to download."""

    name: Literal["synthetic"]
    classes: ClassSelection = "all"
    clips_per_class_and_fold: Annotated[int, Field(ge=1, le=10000)] = 8

    @property
    def num_classes(self) -> int:
        """Number of classes, known without making a sound."""
        return _count_classes(self.classes, 10)


AnyDataConfig = (
    Esc50DataConfig
    | UrbanSound8KDataConfig
    | FolderDataConfig
    | ShardsDataConfig
    | SyntheticDataConfig
)
DataConfig = Annotated[AnyDataConfig, Field(discriminator="name")]


def list_class_folders(root: Path) -> list[str]:
    """Names of the folders in ``root``, sorted, hidden ones left out.

    Raises:
        OSError: ``root`` is not a folder that can be read.
    """
    return sorted(
        item.name for item in root.iterdir() if item.is_dir() and not item.name.startswith(".")
    )
