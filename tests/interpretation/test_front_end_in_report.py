"""What a front end has learned, in the report of its run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from esc_tf import report
from esc_tf.config import Experiment
from esc_tf.tasks.classifier import load_classifier
from esc_tf.training.experiment import train_experiment
from esc_tf.training.run_directory import RunDirectory
from tests.evaluation.report.reading import Page, decode_image
from tests.frontends.learned import TINY_LEARNED
from tests.tiny import tiny_experiment

# Kernels, spectra and how far kernels have moved; curves of bands and how far those have; answers
# to tones; features.
NUM_FIGURES = 7


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return tiny_experiment(
        str(tmp_path_factory.mktemp("cache")),
        front_end=TINY_LEARNED["mel_init"],
        recipe={"epochs": 1},
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, experiment: Experiment) -> RunDirectory:
    run = RunDirectory(tmp_path_factory.mktemp("runs") / "learned")
    train_experiment(experiment, run, report=lambda line: None)
    return run


def test_it_is_a_section_with_all_figures(run: RunDirectory) -> None:
    report.report_finished_run(run)
    page = Page((run.path / "report" / "index.html").read_text(encoding="utf-8"))
    assert page.problems == []
    assert page.anchors[-2:] == ["front-end", "origin"]
    text = page.text[page.text.rindex("What the front end has learned") :]
    kernel = load_classifier(run.path).front_end.get_weights()[0]
    # Of each frequency a cosine and a sine.
    assert f"{kernel.shape[1] // 2} kernels of {kernel.shape[0]} samples" in text
    pictures = [item for item in page.find("img") if item.get("class") == "figure"]
    assert len(pictures) == NUM_FIGURES
    for item in pictures:
        assert item["alt"]
        assert np.unique(decode_image(item["src"])).size > 20
    # All of it is in the page: nothing else is written beside it.
    assert [path.name for path in (run.path / "report").iterdir()] == ["index.html"]


def test_a_phase_that_cannot_be_read_leaves_the_rest(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    phase = run.path / "phase_0_backbone"
    phase.mkdir()
    (phase / "model.keras").write_bytes(b"no model")
    try:
        assert report.main([str(run.path), "--out", str(tmp_path)]) == 0
    finally:
        (phase / "model.keras").unlink()
        phase.rmdir()
    page = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert page.anchors[-3:] == ["maps", "front-end", "origin"]
    assert "Not shown: " in page.text
    assert str(phase) in page.text
    assert [item for item in page.find("img") if item.get("class") == "figure"] == []
