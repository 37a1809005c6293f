"""The package's own model becomes a SavedModel once, in the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from esc_tf.errors import EscTfError
from serving.shipped_model import find_cache_folder, prepare_saved_model
from tests.export.models import LABELS, build_tiny


def test_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESC_TF_CACHE", str(tmp_path))
    assert find_cache_folder() == tmp_path / "serving"
    monkeypatch.delenv("ESC_TF_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert find_cache_folder() == tmp_path / "esc_tf" / "serving"


def test_it_is_written_once_with_its_activations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESC_TF_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "model.keras"
    model = build_tiny()
    model.save(file)
    said: list[str] = []
    folder = prepare_saved_model("tiny", file, said.append)
    assert prepare_saved_model("tiny", file, said.append) == folder
    assert len(said) == 1
    assert folder.parent == tmp_path / "cache" / "serving"
    assert [path.name for path in folder.iterdir()] == ["1"]
    signatures = tf.saved_model.load(str(folder / "1")).signatures
    waveform = np.random.default_rng(0).normal(0, 0.1, (1, 4000)).astype(np.float32)
    outputs = signatures["activations"](waveform=tf.constant(waveform))
    assert outputs["probabilities"].shape == (1, len(LABELS))
    assert set(model.activation_names) <= set(outputs)


def test_a_model_that_cannot_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESC_TF_CACHE", str(tmp_path))
    file = tmp_path / "model.keras"
    file.write_bytes(b"no model")
    with pytest.raises(EscTfError, match="could not be written"):
        prepare_saved_model("broken", file, lambda line: None)
    assert list(tmp_path.rglob("saved_model.pb")) == []
