"""The card of a model without a run; that of a run is looked at in test_command."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from export.model_card import CardText, build_model_card, describe_model, digest_file
from export.source import ClipSet, ExportSource
from tests.export.models import LABELS, build_tiny


def test_card_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "imported.keras"
    path.write_bytes(b"weights")
    model = build_tiny(recipe={"loss": "binary_crossentropy"})
    clips = ClipSet(np.zeros((1, 4000), np.float32), np.zeros(1, int), ("a",), "a test", True)
    text = CardText(describe_model(model), author="A. Nonymous", version=3)
    verification = {
        "evaluation": {"clips": 1, "from": "a test", "generated": False},
        "model": {"accuracy": None},
        "formats": {"tflite_int8": {"size_bytes": 9, "agreement": 1.0, "problems": []}},
    }
    card = build_model_card(
        ExportSource(model, path, "imported", clips, clips),
        text,
        4000,
        ("se2",),
        {"tflite_int8": "tflite/imported_int8.tflite"},
        verification,
    )
    assert json.loads(json.dumps(card, allow_nan=False)) == card
    assert card["description"] == (
        "Environmental sounds: 3 classes, any number of classes a clip, from 0.5 s of mono audio "
        "at 8000 Hz."
    )
    assert card["labels"] == list(LABELS)
    assert (card["name"], card["author"], card["licence"]) == ("imported", "A. Nonymous", None)
    assert (card["version"], card["scores"], card["activations"]) == (3, "sigmoid", ["se2"])
    # Two pools of two frames, which are 128 samples at 8 kHz apart.
    grid = card["activation_times"]["se2"]
    assert [grid["first_s"], grid["step_s"]] == pytest.approx([1.5 * 0.016, 4 * 0.016])
    assert card["input"]["channels"] == 1
    assert card["training"] == {"model_sha256": hashlib.sha256(b"weights").hexdigest()}
    assert card["metrics"] == {}
    assert card["files"] == {
        "tflite_int8": {
            "path": "tflite/imported_int8.tflite", "size_bytes": 9, "agreement": 1.0
        }
    }  # fmt: skip


def test_digest_of_more_than_a_block(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(content)
    assert digest_file(tmp_path / "a") == hashlib.sha256(content).hexdigest()
