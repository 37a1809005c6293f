"""Published checkpoints: where their files are, and the set-up that each was trained with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from esc_tf.config.model import (
    MOBILENET_V3_HEAD_UNITS,
    MOBILENET_V3_WIDTHS,
    round_channels,
)

NUM_AUDIOSET_CLASSES = 527
# Official names of AudioSet's label list, where it lies beside a checkpoint.
LABEL_FILE_NAMES = ("class_labels_indices.csv", "audioset_class_labels_indices.csv")


@dataclass(frozen=True)
class Variant:
    """One network as it was published: sections of a configuration, and how its file is read.

    Args:
        table: which table of ``esc_tf.models.checkpoints.tables`` names its tensors.
        model: the ``model`` section.
        front_end: the ``front_end`` section.
        audio: the ``audio`` section.
        output: ``sigmoid`` for any number of labels a clip, ``softmax`` for one.
        num_classes: classes of the published file; files of other numbers are read as well.
    """

    table: str
    model: dict[str, Any]
    front_end: dict[str, Any]
    audio: dict[str, Any]
    output: str
    num_classes: int


@dataclass(frozen=True)
class PublishedFile:
    """A file that can be fetched.

    Args:
        url: official place.
        file_name: what it is called there.
        origin: who made it.
        licence: under which it was published.
        sha256: its digest; None: not known, nobody has published one.
        num_bytes: its size; None: not known.
        model: the architecture's name in a configuration; None: the file holds no weights.
        variant: key of ``VARIANTS[model]``.
        num_classes: classes, or labels.
        mean_average_precision: on AudioSet's evaluation set, in percent, as published.
    """

    url: str
    file_name: str
    origin: str
    licence: str
    sha256: str | None = None
    num_bytes: int | None = None
    model: str | None = None
    variant: str | None = None
    num_classes: int = NUM_AUDIOSET_CLASSES
    mean_average_precision: float | None = field(default=None)


# The sections below are those of configs/front_end and configs/model, which are not installed with
# the package; a test holds that they say the same. AudioSet's clips last 10 s, and shorter ones
# were filled up with silence behind them.
_AUDIOSET_AUDIO = {"sample_rate_hz": 32000, "duration_s": 10.0, "pad": "silence", "crop": "start"}
_EFFICIENTAT_FRONT_END: dict[str, Any] = {
    "name": "log_mel",
    "pre_emphasis": 0.97,
    "n_fft": 1024,
    "win_length": 800,
    "hop_length": 320,
    "window": "hann_symmetric",
    "center": True,
    "pad_mode": "reflect",
    "n_mels": 128,
    "fmin_hz": 0.0,
    "fmax_hz": 15000.0,
    "mel_scale": "kaldi",
    "mel_norm": None,
    "compression": "log",
    "floor": 1e-5,
    "normalization": "affine",
    "affine_offset": 4.5,
    "affine_scale": 5.0,
}
_PANNS_FRONT_END: dict[str, Any] = {
    "name": "log_mel",
    "n_fft": 1024,
    "hop_length": 320,
    "window": "hann",
    "center": True,
    "pad_mode": "reflect",
    "n_mels": 64,
    "fmin_hz": 50.0,
    "fmax_hz": 14000.0,
    "mel_scale": "slaney",
    "mel_norm": "slaney",
    "compression": "db",
    "floor": 1e-10,
    "top_db": None,
    "normalization": "none",
}
_TFNET_AUDIO = {"sample_rate_hz": 44100, "duration_s": 5.0, "pad": "end", "crop": "start"}
_TFNET_FRONT_END: dict[str, Any] = {
    "name": "log_mel",
    "n_fft": 1764,
    "hop_length": 882,
    "window": "hann_symmetric",
    "center": True,
    "pad_mode": "reflect",
    "n_mels": 40,
    "fmin_hz": 50.0,
    "fmax_hz": 11025.0,
    "mel_scale": "slaney",
    "mel_norm": "slaney",
    "compression": "db",
    "floor": 1e-10,
    "top_db": None,
    "normalization": "min_max",
    "num_frames": 250,
}


def _mobilenet_v3(
    width: float, kind: str = "mlp", front_end: Any = None, **options: Any
) -> Variant:
    head: dict[str, Any] = {"kind": kind}
    if kind == "mlp":
        head |= {
            "hidden_units": [round_channels(MOBILENET_V3_HEAD_UNITS * width)],
            "activation": "hard_swish",
            "dropout": 0.2,
        }
    return Variant(
        table="efficientat",
        model={"name": "mobilenet_v3", "width": width, **options, "head": head},
        front_end=_EFFICIENTAT_FRONT_END | (front_end or {}),
        audio=_AUDIOSET_AUDIO,
        output="sigmoid",
        num_classes=NUM_AUDIOSET_CLASSES,
    )


# "hop_15" is a hop of 15 ms, 480 samples at 32 kHz; "s2211" are the strides of blocks 2, 4, 7, 13.
_MOBILENET_V3: dict[str, Variant] = {
    **{name: _mobilenet_v3(width) for name, width in MOBILENET_V3_WIDTHS.items()},
    **{
        f"{name}_fc": _mobilenet_v3(width, "fully_convolutional")
        for name, width in MOBILENET_V3_WIDTHS.items()
    },
    **{
        f"{name}_attention": _mobilenet_v3(width, "attention")
        for name, width in MOBILENET_V3_WIDTHS.items()
    },
    "mn10_fc_s2221": _mobilenet_v3(1.0, "fully_convolutional", strides=[2, 2, 2, 1]),
    "mn10_fc_s2211": _mobilenet_v3(1.0, "fully_convolutional", strides=[2, 2, 1, 1]),
    **{
        f"mn10_hop_{hop_ms}": _mobilenet_v3(1.0, front_end={"hop_length": 32 * hop_ms})
        for hop_ms in (5, 15, 20, 25)
    },
    **{
        f"mn10_mels_{n_mels}": _mobilenet_v3(1.0, front_end={"n_mels": n_mels})
        for n_mels in (40, 64, 256)
    },
}

VARIANTS: dict[str, dict[str, Variant]] = {
    "mobilenet_v3": _MOBILENET_V3,
    "cnn10": {
        "panns": Variant(
            table="panns",
            model={"name": "cnn10"},
            front_end=_PANNS_FRONT_END,
            audio=_AUDIOSET_AUDIO,
            output="sigmoid",
            num_classes=NUM_AUDIOSET_CLASSES,
        ),
        "tfnet": Variant(
            table="tfnet_cnn10",
            model={
                "name": "cnn10",
                "input_norm": False,
                "time_pooling": "max",
                "embedding_units": None,
                "block_dropout": 0.0,
                "embedding_dropout": 0.0,
                "head": {"dropout": 0.0},
            },
            front_end=_TFNET_FRONT_END,
            audio=_TFNET_AUDIO,
            output="softmax",
            num_classes=50,
        ),
    },
    "tfnet": {
        "tfnet": Variant(
            table="tfnet",
            model={"name": "tfnet"},
            front_end=_TFNET_FRONT_END,
            audio=_TFNET_AUDIO,
            output="softmax",
            num_classes=50,
        ),
    },
}

_EFFICIENTAT = "EfficientAT, Schmid et al. 2023"
_EFFICIENTAT_RELEASE = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/"
_PANNS_RECORD = "https://zenodo.org/record/3987831/files/"


def _efficientat_file(name: str, variant: str, precision: float, **known: Any) -> PublishedFile:
    file_name = f"{name}_mAP_{round(10 * precision)}.pt"
    return PublishedFile(
        url=_EFFICIENTAT_RELEASE + quote(file_name),
        file_name=file_name,
        origin=_EFFICIENTAT,
        licence="MIT",
        model="mobilenet_v3",
        variant=variant,
        mean_average_precision=precision,
        **known,
    )


PUBLISHED: dict[str, PublishedFile] = {
    "mn01_as": _efficientat_file("mn01_as", "mn01", 29.8),
    "mn02_as": _efficientat_file("mn02_as", "mn02", 37.8),
    "mn04_as": _efficientat_file(
        "mn04_as",
        "mn04",
        43.2,
        sha256="899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c",
        num_bytes=4066513,
    ),
    "mn05_as": _efficientat_file("mn05_as", "mn05", 44.3),
    "mn10_as": _efficientat_file("mn10_as", "mn10", 47.1),
    "mn20_as": _efficientat_file("mn20_as", "mn20", 47.8),
    "mn30_as": _efficientat_file("mn30_as", "mn30", 48.2),
    "mn40_as": _efficientat_file("mn40_as", "mn40", 48.4),
    "mn40_as_no_im_pre": _efficientat_file("mn40_as_no_im_pre", "mn40", 48.3),
    "mn40_as_ext": _efficientat_file("mn40_as_ext", "mn40", 48.7),
    "mn10_as_hop_5": _efficientat_file("mn10_as_hop_5", "mn10_hop_5", 47.5),
    "mn10_as_hop_15": _efficientat_file("mn10_as_hop_15", "mn10_hop_15", 46.3),
    "mn10_as_hop_20": _efficientat_file("mn10_as_hop_20", "mn10_hop_20", 45.6),
    "mn10_as_hop_25": _efficientat_file("mn10_as_hop_25", "mn10_hop_25", 44.7),
    "mn10_as_mels_40": _efficientat_file("mn10_as_mels_40", "mn10_mels_40", 45.3),
    "mn10_as_mels_64": _efficientat_file("mn10_as_mels_64", "mn10_mels_64", 46.1),
    "mn10_as_mels_256": _efficientat_file("mn10_as_mels_256", "mn10_mels_256", 47.4),
    "mn10_as_fc": _efficientat_file("mn10_as_fc", "mn10_fc", 46.5),
    "mn10_as_fc_s2221": _efficientat_file("mn10_as_fc_s2221", "mn10_fc_s2221", 46.6),
    "mn10_as_fc_s2211": _efficientat_file("mn10_as_fc_s2211", "mn10_fc_s2211", 46.6),
    "cnn10_panns": PublishedFile(
        url=_PANNS_RECORD + quote("Cnn10_mAP=0.380.pth") + "?download=1",
        file_name="Cnn10_mAP=0.380.pth",
        origin="PANNs, Kong et al. 2020",
        licence="MIT",
        model="cnn10",
        variant="panns",
        mean_average_precision=38.0,
    ),
    "audioset_labels": PublishedFile(
        url="https://raw.githubusercontent.com/fschmid56/EfficientAT/main/metadata/"
        + LABEL_FILE_NAMES[0],
        file_name=LABEL_FILE_NAMES[0],
        origin="AudioSet, Google",
        licence="CC BY 4.0",
        sha256="cdd1049833c4b86127c2773ac0d14a2754b6a6d0d1798002ed5c66e699708429",
        num_bytes=14675,
    ),
}
