"""The page of a whole server, with a published model and a recording, in a real browser."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import tensorflow as tf

from esc_tf.audio import read_clip, resample
from esc_tf.tasks import Classifier
from esc_tf.tasks.conversion import convert_checkpoint
from export.saved_model import write_saved_model
from tests.serving.page.browser import open_browser
from tests.serving.server_process import ServerProcess
from tests.shared_files import shared_path

BARS = (
    "[...document.querySelectorAll('#bars li')].map("
    "(item) => [item.children[0].textContent, item.children[1].textContent])"
)


@pytest.fixture(scope="module")
def model() -> Classifier:
    with shared_path("checkpoints/audioset_class_labels_indices.csv").open(
        encoding="utf-8"
    ) as file:
        labels = [row["display_name"] for row in csv.DictReader(file)]
    return convert_checkpoint(
        shared_path("checkpoints/mn04_as_mAP_432.pt"),
        "mobilenet_v3",
        "mn04",
        duration_s=5.0,
        label_names=labels,
    ).classifier


@pytest.fixture(scope="module")
def server(model: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("mn04")
    write_saved_model(model, folder, ("features", "block5", "block15"))
    with ServerProcess("--model_name=mn04", f"--model_base_path={folder}") as running:
        yield running


def test_a_recording_is_named_as_the_model_names_it(
    server: ServerProcess, model: Classifier, tmp_path: Path
) -> None:
    clip_file = shared_path("esc10/audio/1-100032-A-0.ogg")
    with open_browser(tmp_path) as page:
        address = f"http://127.0.0.1:{server.port}"
        page.open(f"{address}/")
        page.wait_for("!document.getElementById('file').disabled")
        page.choose_file("#file", clip_file)
        page.wait_for("document.getElementById('status').textContent.startsWith('Done')")
        bars = dict(page.run(BARS))
        only_window = page.run("document.getElementById('timeline').hidden")
        layers = page.run("[...document.getElementById('layer').options].map((item) => item.value)")
        page.wait_for("document.getElementById('player').readyState >= 2")
        assert page.complaints == []
        hosts = {urlsplit(url).netloc for url in page.requests if url.startswith("http")}
        assert hosts == {urlsplit(address).netloc}
    rate_hz = model.audio["sample_rate_hz"]
    waveform = resample(read_clip(clip_file), rate_hz).waveform[: 5 * rate_hz]
    outputs = model(tf.constant(waveform[np.newaxis]))
    probabilities = np.asarray(outputs["probabilities"])[0]
    best = np.argsort(-probabilities)[:5]
    assert "Dog" in bars
    assert list(bars) == [model.label_names[index] for index in best]
    assert only_window
    shown = [float(text.removesuffix(" %")) for text in bars.values()]
    # Percent with one decimal; two ways to resample and to compute.
    assert shown == pytest.approx((100 * probabilities[best]).tolist(), abs=0.11)
    assert layers == ["", "block5", "block15"]
