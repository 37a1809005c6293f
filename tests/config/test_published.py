"""What is said of published checkpoints agrees with itself and with the configuration files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esc_tf.config import build_experiment
from esc_tf.config.loading import read_config_file
from esc_tf.config.model import MOBILENET_V3_WIDTHS
from esc_tf.config.published import PUBLISHED, VARIANTS, Variant

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = {
    ("mobilenet_v3", "mn10"): ("mobilenet_v3", "efficientat_log_mel"),
    ("mobilenet_v3", "mn04"): ("mn04", "efficientat_log_mel"),
    ("mobilenet_v3", "mn10_fc"): ("mn10_fc", "efficientat_log_mel"),
    ("mobilenet_v3", "mn10_attention"): ("mn10_attention", "efficientat_log_mel"),
    ("cnn10", "panns"): ("cnn10", "panns_log_mel"),
    ("cnn10", "tfnet"): ("cnn10_tfnet", "tfnet_log_mel"),
    ("tfnet", "tfnet"): ("tfnet", "tfnet_log_mel"),
}


def build(variant: Variant, **sections: Any) -> Any:
    raw = {
        "name": "test",
        "data": {"name": "synthetic"},
        "audio": variant.audio,
        "model": variant.model,
        "front_end": variant.front_end,
    }
    return build_experiment(raw | sections)


@pytest.mark.parametrize(("model", "variant"), FILES)
def test_variants_are_the_configuration_files(model: str, variant: str) -> None:
    model_file, front_end_file = FILES[model, variant]
    found = build(VARIANTS[model][variant])
    front_end = read_config_file(CONFIGS / "front_end" / f"{front_end_file}.yaml")
    expected = build(
        VARIANTS[model][variant],
        model=read_config_file(CONFIGS / "model" / f"{model_file}.yaml")["model"],
        front_end=front_end["front_end"],
    )
    assert found.model == expected.model
    assert found.front_end == expected.front_end
    assert found.audio.sample_rate_hz == front_end["audio"]["sample_rate_hz"]


@pytest.mark.parametrize(
    ("model", "variant"),
    [(model, variant) for model, variants in VARIANTS.items() for variant in variants],
)
def test_every_variant_is_a_sound_configuration(model: str, variant: str) -> None:
    experiment = build(VARIANTS[model][variant])
    assert experiment.model.name == model
    assert VARIANTS[model][variant].output in ("sigmoid", "softmax")


def test_variants_of_mobilenet_v3() -> None:
    variants = VARIANTS["mobilenet_v3"]
    for name, width in MOBILENET_V3_WIDTHS.items():
        for suffix, kind in (("", "mlp"), ("_fc", "fully_convolutional"), ("_attention",) * 2):
            model = build(variants[name + suffix]).model
            assert (model.width, model.head.kind) == (width, kind.removeprefix("_"))
    # 15 ms at 32 kHz.
    assert variants["mn10_hop_15"].front_end["hop_length"] == 480
    assert variants["mn10_mels_256"].front_end["n_mels"] == 256
    assert build(variants["mn10_fc_s2211"]).model.strides == (2, 2, 1, 1)
    assert variants["mn10"].front_end["hop_length"] == 320


def test_published_files() -> None:
    assert {"mn04_as", "mn10_as", "mn40_as_ext", "cnn10_panns", "audioset_labels"} <= set(PUBLISHED)
    for name, published in PUBLISHED.items():
        assert published.url.startswith("https://"), name
        assert published.licence and published.origin, name
        if published.model is None:
            assert published.variant is None
            continue
        variant = VARIANTS[published.model][str(published.variant)]
        assert variant.num_classes == published.num_classes == 527
        precision = published.mean_average_precision
        assert precision is not None and 25 < precision < 50
    release = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/"
    assert PUBLISHED["mn04_as"].url == release + "mn04_as_mAP_432.pt"
    assert PUBLISHED["mn40_as_ext"].url == release + "mn40_as_ext_mAP_487.pt"
    assert PUBLISHED["cnn10_panns"].url == (
        "https://zenodo.org/record/3987831/files/Cnn10_mAP%3D0.380.pth?download=1"
    )
