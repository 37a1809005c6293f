"""The command ``front-end`` on runs with and without phases, and on what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from esc_tf.config import Experiment
from esc_tf.interpret import __main__ as command
from esc_tf.tasks.classifier import Classifier, build_classifier
from esc_tf.training.run_directory import RunDirectory
from tests.frontends.learned import TINY_LEARNED, move_weights
from tests.tiny import tiny_experiment

CLASSES = 10
PHASES = ("phase_0_backbone", "phase_1_front_end", "phase_2_everything")


def write_run(folder: Path, experiment: Experiment, front_end_seed: int | None) -> Classifier:
    """A run directory as far as the command reads it; the front end has moved unless None."""
    keras.utils.set_random_seed(0)
    model = build_classifier(experiment, [f"class {index}" for index in range(CLASSES)])
    if front_end_seed is not None:
        move_weights(model.front_end, front_end_seed)
    run = RunDirectory(folder)
    run.path.mkdir(parents=True)
    run.write_resolved(experiment, {})
    run.write_model(model.save)
    return model


def build(cache: Path, name: str) -> Experiment:
    return tiny_experiment(str(cache), front_end=TINY_LEARNED.get(name, {"name": name}))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def in_phases(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, Classifier]:
    """The analysis of a run in phases, and the last phase's model."""
    folder = tmp_path_factory.mktemp("runs") / "icebreaker"
    experiment = build(cache, "mel_init")
    write_run(folder, experiment, None)
    write_run(folder / PHASES[0], build(cache, "log_mel"), None)
    write_run(folder / PHASES[1], experiment, 1)
    model = write_run(folder / PHASES[2], experiment, 2)
    out = folder / "front_end"
    out.mkdir()
    (out / "front_end.json").write_text("an older one")
    arguments = ["front-end", "--run-dir", str(folder), "--clips", "3"]
    assert command.main(arguments) == 2
    assert (out / "front_end.json").read_text() == "an older one"
    assert command.main([*arguments, "--force"]) == 0
    return out, model


def read(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    facts = json.loads((folder / "front_end.json").read_text(encoding="utf-8"))
    with np.load(folder / "arrays.npz") as arrays:
        return facts, dict(arrays)


def test_a_run_in_phases(in_phases: tuple[Path, Classifier], cache: Path) -> None:
    out, model = in_phases
    facts, arrays = read(out)
    assert [phase["name"] for phase in facts["phases"]] == ["backbone", "front_end", "everything"]
    assert facts["start"] == "start"
    # The numbers are those of the last phase's weights against a fresh mel spectrogram.
    fresh = build_classifier(build(cache, "mel_init"), ["a", "b"]).front_end
    kernel, bank = model.front_end.get_weights()
    start_kernel, start_bank = fresh.get_weights()
    pairs = [np.concatenate([item[:, :129], item[:, 129:]]) for item in (kernel, start_kernel)]
    expected = np.linalg.norm(pairs[0] - pairs[1], axis=0) / np.linalg.norm(pairs[1], axis=0)
    assert facts["kernels"]["relative_change"] == pytest.approx(expected.tolist(), rel=1e-5)
    bank = np.maximum(bank, 0.0)  # weights below zero do not count
    expected = np.linalg.norm(bank - start_bank, axis=0) / np.linalg.norm(start_bank, axis=0)
    assert facts["bands"]["bank_relative_change"] == pytest.approx(expected.tolist(), rel=1e-5)
    assert len(facts["bands"]["centre_shift_hz"]) == 24
    # Features of three clips at the start, which is the first phase's mel, and after every phase.
    features = [arrays[name] for name in sorted(arrays) if name.startswith("features_")]
    assert [item.shape for item in features] == [(3, 32, 24)] * 4
    np.testing.assert_allclose(features[0], features[1], atol=1e-3)
    assert facts["features"]["compared_with"] == "start"
    assert len(facts["features"]["clips"]) == 3
    told = facts["features"]["phases"]
    assert list(told) == ["start", "backbone", "front_end", "everything"]
    for (name, of_clips), values in zip(told.items(), features, strict=True):
        for row, entry in enumerate(of_clips):
            assert entry["mean"] == pytest.approx(float(values[row].mean()), rel=1e-5), name
            expected = np.corrcoef(features[0][row].ravel(), values[row].ravel())[0, 1]
            assert entry["correlation"] == pytest.approx(expected, rel=1e-5), name
    assert told["everything"][0]["correlation"] < 0.99 < told["backbone"][0]["correlation"]


def test_figures_are_pictures_and_the_page_holds_them(in_phases: tuple[Path, Classifier]) -> None:
    out, _ = in_phases
    names = {path.name for path in out.glob("*.png")}
    assert names == {
        "kernels.png", "spectra.png", "kernel_movement.png", "mel_curves.png", "band_movement.png",
        "tones.png", "features.png",
    }  # fmt: skip
    for name in names:
        with Image.open(out / name) as picture:
            assert picture.width > 300
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 20
    page = (out / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == len(names)
    assert "http://" not in page
    assert "https://" not in page


@pytest.mark.parametrize("name", ["heurinet", "mstnet"])
def test_a_run_without_phases_whose_start_is_not_stored(
    name: str, tmp_path: Path, cache: Path
) -> None:
    model = write_run(tmp_path / "run", build(cache, name), 1)
    assert command.main(["front-end", "--run-dir", str(tmp_path / "run")]) == 0
    facts, arrays = read(tmp_path / "run" / "front_end")
    assert facts["start"] is None
    assert "relative_change" not in facts["kernels"]
    assert "bands" not in facts
    kernel = model.front_end.conv_1.get_weights()[0][:, 0].T
    np.testing.assert_allclose(arrays["kernels"], kernel, rtol=1e-6)
    assert "is not stored" in (tmp_path / "run" / "front_end" / "index.html").read_text()


def test_other_front_ends_are_compared_with_their_first_phase(tmp_path: Path, cache: Path) -> None:
    experiment = build(cache, "mstnet")
    write_run(tmp_path / "run", experiment, None)
    first = write_run(tmp_path / "run" / "phase_0_forcing", experiment, 1)
    last = write_run(tmp_path / "run" / "phase_1_everything", experiment, 2)
    assert command.main(["front-end", "--run-dir", str(tmp_path / "run")]) == 0
    facts, _ = read(tmp_path / "run" / "front_end")
    assert facts["start"] == "forcing"
    before, after = (model.front_end.conv_1.get_weights()[0][:, 0] for model in (first, last))
    expected = np.linalg.norm(after - before, axis=0) / np.linalg.norm(before, axis=0)
    assert facts["kernels"]["relative_change"] == pytest.approx(expected.tolist(), rel=1e-5)
    assert (tmp_path / "run" / "front_end" / "kernel_movement.png").is_file()


def test_without_the_data_the_rest_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = tiny_experiment(
        str(tmp_path / "cache"),
        front_end=TINY_LEARNED["mel_init"],
        data={"name": "folder", "root": str(tmp_path / "gone")},
    )
    write_run(tmp_path / "run", experiment, 1)
    assert command.main(["front-end", "--run-dir", str(tmp_path / "run")]) == 0
    assert "without features of clips:" in capsys.readouterr().out
    facts, _ = read(tmp_path / "run" / "front_end")
    assert "gone" in facts["clips_missing"]
    assert "bands" in facts


def test_what_is_refused(tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "run", build(cache, "log_mel"), None)
    for arguments, sentence in (
        (["--run-dir", str(tmp_path / "run")], "(LogMelSpectrogram) has no weights"),
        (["--run-dir", str(tmp_path / "none")], str(tmp_path / "none")),
        (["--run-dir", str(tmp_path / "run"), "--clips", "0"], "--clips must be 1 or more"),
        (["--run-dir", str(tmp_path / "run"), "--data-root", "x"], "--data-root: the run used"),
    ):
        assert command.main(["front-end", *arguments]) == 2
        err = capsys.readouterr().err
        assert sentence in err
        assert err.count("\n") == 1
    assert not (tmp_path / "run" / "front_end").exists()
