"""The model that comes with the package: found whole, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from esc_tf import shipped
from esc_tf.errors import RequestError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("model.keras", "model.tflite", "labels.txt", "config.yaml"):
        (tmp_path / name).write_bytes(b"something")
    (tmp_path / "model_card.json").write_text(json.dumps({"name": "ours"}))
    return tmp_path


def test_all_files_are_found(folder: Path) -> None:
    found = shipped.find_shipped(folder)
    assert found.name == "ours"
    files = (
        found.keras_file,
        found.tflite_file,
        found.card_file,
        found.labels_file,
        found.config_file,
    )
    assert len(set(files)) == 5
    assert all(file.is_file() and file.parent == folder for file in files)


def test_what_is_missing_is_named(folder: Path) -> None:
    (folder / "model.tflite").unlink()
    (folder / "labels.txt").unlink()
    with pytest.raises(RequestError, match=r"lacks model.tflite, labels.txt\); name a model"):
        shipped.find_shipped(folder)


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_damaged_card_is_named(folder: Path, content: str) -> None:
    (folder / "model_card.json").write_text(content)
    with pytest.raises(RequestError, match="model_card.json: damaged"):
        shipped.find_shipped(folder)
