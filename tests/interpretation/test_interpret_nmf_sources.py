"""The command nmf says the same of a model in all its forms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from esc_tf.config import LogMelConfig
from esc_tf.interpret import __main__ as command
from esc_tf.interpretation.model_facts import read_model_card
from esc_tf.interpretation.reading import Reading
from esc_tf.tasks.classifier import load_classifier
from tests.export.models import LABELS
from tests.interpretation.four_sources import serve_bundle, write_forms
from tests.trained_tones import call, write_tones

LAYER = "se2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All forms of the tiny model, tones, and the settings of its front end."""
    found = write_forms(tmp_path_factory.mktemp("forms"))
    write_tones(found / "tones", (1, 2), LABELS)
    settings = load_classifier(found / "tiny.keras").front_end.settings.model_dump(mode="json")
    (found / "front_end.yaml").write_text(yaml.safe_dump({"front_end": settings}))
    return found


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with serve_bundle(folder / "bundle") as found:
        yield found


def read(folder: Path, model: str, *more: str) -> tuple[int, str]:
    code, _, problems = call(
        command, "nmf", "--model", model, "--data", str(folder / "tones"), "--layer", LAYER,
        "--transform", "linear_no_bias_softplus", "--epochs", "5", "--no-figures", *more,
    )  # fmt: skip
    return code, problems


def test_all_forms_say_the_same(folder: Path, address: str, tmp_path: Path) -> None:
    bundle = folder / "bundle"
    known = ("--front-end", str(folder / "front_end.yaml"))
    readings = {}
    for name, asked in {
        "keras": (str(folder / "tiny.keras"),),
        "saved_model": (str(bundle / "saved_model"), *known),
        "tflite": (str(bundle / "tflite" / "tiny.tflite"), *known),
        "rest": (address, "--card", str(bundle / "model_card.json"), *known),
    }.items():
        code, problems = read(folder, *asked, "--out", str(tmp_path / name))
        assert code == 0, problems
        readings[name] = Reading.open(tmp_path / name)
    first = readings.pop("keras")
    assert first.facts["model_digest"] is not None
    for name, other in readings.items():
        assert [clip.predicted for clip in other.clips] == [clip.predicted for clip in first.clips]
        np.testing.assert_array_equal(other.spectrogram(5), first.spectrogram(5))
        loudest = float(np.max(first.activations(LAYER)))
        np.testing.assert_allclose(
            other.activations(LAYER), first.activations(LAYER), atol=1e-4 * loudest
        )
        for ours, theirs in zip(first.scores, other.scores, strict=True):
            assert ours["method"] == theirs["method"]
            assert theirs["error"] == pytest.approx(ours["error"], abs=1e-4), name
    assert readings["rest"].facts["model_digest"] is None


def test_a_card_without_a_front_end_asks_for_one(folder: Path, tmp_path: Path) -> None:
    code, problems = read(
        folder, str(folder / "bundle" / "tflite" / "tiny.tflite"), "--out", str(tmp_path / "out")
    )
    assert code == 2 and "--front-end" in problems
    assert not any(tmp_path.iterdir())


def test_the_card_of_a_run_has_its_front_end(folder: Path, tmp_path: Path) -> None:
    card = json.loads((folder / "bundle" / "model_card.json").read_text())
    wanted = LogMelConfig(name="log_mel", n_fft=512, n_mels=40)
    for settings, found in ((wanted.model_dump(mode="json"), wanted), ({"name": "mstnet"}, None)):
        card["training"]["front_end"] = settings
        (tmp_path / "card.json").write_text(json.dumps(card))
        assert read_model_card(tmp_path / "card.json").front_end == found
