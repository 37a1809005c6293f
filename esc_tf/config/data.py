"""Where the sounds come from, and which of them train, validate and test."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from esc_tf.config.section import Section

ClassSelection = Literal["all", "esc10", "esc19"] | Annotated[list[str], Field(min_length=2)]
Fold = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]

_SELECTION_SIZES = {"esc10": 10, "esc19": 19}


def _count_classes(selection: str | list[str], all_classes: int) -> int:
    if isinstance(selection, str):
        return _SELECTION_SIZES.get(selection, all_classes)
    return len(selection)


class AudioConfig(Section):
    """The one waveform format of an experiment.

    ``duration_s`` is the length that every clip is padded or cropped to. ``pad`` says where a
    shorter clip lies (``end``: zeros behind it, ``center``: zeros on both sides, ``repeat``: the
    clip again and again); ``crop`` which part of a longer one is kept (``random`` draws a part
    in training and takes the centre otherwise).
    """

    sample_rate_hz: Annotated[int, Field(ge=2000, le=384000)] = 44100
    duration_s: Annotated[float, Field(gt=0.0, le=600.0)] = 5.0
    pad: Literal["end", "center", "repeat"] = "end"
    crop: Literal["start", "center", "random"] = "start"


class SplitConfig(Section):
    """What every data set has: its split, its handling of bad clips and its cache.

    ``test_fold`` is held out (null: train on everything). ``validation`` is a fold number, a
    fraction of the remaining clips (drawn by class, recordings kept together) or null.
    ``cache_dir`` holds decoded audio (null: ``$ESC_TF_CACHE`` or the user's cache folder).
    """

    test_fold: Fold | None = 5
    validation: Fraction | Fold | None = 0.2
    on_bad_file: Literal["fail", "skip"] = "fail"
    on_leak: Literal["fail", "drop"] = "fail"
    max_duration_s: Annotated[float, Field(gt=0.0)] = 600.0
    cache_dir: str | None = None


class Esc50DataConfig(SplitConfig):
    """A folder in ESC-50's layout: ``audio/`` and ``meta/esc50.csv``."""

    name: Literal["esc50"]
    root: str
    classes: ClassSelection = "all"

    @property
    def num_classes(self) -> int:
        """Number of classes, known without looking at the data."""
        return _count_classes(self.classes, 50)


class SyntheticDataConfig(SplitConfig):
    """Ten classes of generated sounds in five folds; nothing to download."""

    name: Literal["synthetic"]
    classes: ClassSelection = "all"
    clips_per_class_and_fold: Annotated[int, Field(ge=1, le=10000)] = 8

    @property
    def num_classes(self) -> int:
        """Number of classes, known without making a sound."""
        return _count_classes(self.classes, 10)


DataConfig = Annotated[Esc50DataConfig | SyntheticDataConfig, Field(discriminator="name")]
