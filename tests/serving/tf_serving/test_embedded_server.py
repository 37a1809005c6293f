"""The same files drive the embedded server: configuration, client and page, on a real model."""

from __future__ import annotations

import http.client
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from esc_tf.audio import Clip, resample
from export.saved_model import write_saved_model
from serving.client import ServingClient, main
from tests.export.models import LABELS, build_tiny
from tests.serving.server_process import ServerProcess
from tests.serving.tf_serving.test_deployment import FOLDER

RATE_HZ = 8_000


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the container has under /models."""
    folder = tmp_path_factory.mktemp("models")
    write_saved_model(build_tiny(), folder / "default", ("features", "block1", "block2"))
    return folder


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    text = (FOLDER / "models.config").read_text("utf-8")
    assert '"/models/default"' in text
    config = tmp_path_factory.mktemp("config") / "models.config"
    # All that changes is where the container's root lies.
    config.write_text(text.replace('"/models/', f'"{models}/'))
    with ServerProcess(
        f"--model_config_file={config}",
        "--enable_batching=true",
        f"--batching_parameters_file={FOLDER / 'batching.config'}",
        f"--monitoring_config_file={FOLDER / 'monitoring.config'}",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def signatures(models: Path) -> Any:
    return tf.saved_model.load(str(models / "default" / "1")).signatures


def make_sound(num_samples: int, rate_hz: int = RATE_HZ) -> tuple[np.ndarray, bytes]:
    waveform = np.random.default_rng(0).normal(0.0, 0.1, num_samples).astype(np.float32)
    steps = np.round(waveform * 32768).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, steps, rate_hz, format="WAV")
    return (steps / 32768).astype(np.float32), file.getvalue()


def ask(server: ServerProcess, method: str, path: str, body: bytes | None = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    try:
        headers = {"Content-Type": "application/octet-stream"}
        connection.request(method, path, body, headers if body is not None else {})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        return response.read()
    finally:
        connection.close()


def test_the_model_of_models_config_is_served_and_watched(server: ServerProcess) -> None:
    status = json.loads(ask(server, "GET", "/v1/models/default"))
    (version,) = status["model_version_status"]
    assert (version["version"], version["state"]) == ("1", "AVAILABLE")
    metrics = ask(server, "GET", "/monitoring/prometheus/metrics").decode()
    assert "# TYPE :tensorflow:serving:request_latency histogram" in metrics


def test_the_client_gives_what_the_signature_gives(
    server: ServerProcess, signatures: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{server.port}"
    _, wav = make_sound(44_100, 44_100)
    path = tmp_path / "sound.wav"
    path.write_bytes(wav)
    expected = signatures["wav_bytes"](wav_bytes=tf.constant([wav]))["probabilities"][0].numpy()
    with ServingClient(url) as client:
        scores = client.classify_file(path)
    assert {score.label for score in scores} == set(LABELS)
    found = {score.label: np.float32(score.probability) for score in scores}
    assert [found[label] for label in LABELS] == expected.tolist()
    assert main([url, str(path), "--json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["labels"][0] == {"label": scores[0].label, "probability": scores[0].probability}


def test_the_client_sends_floats_to_the_default_signature(
    server: ServerProcess, signatures: Any, tmp_path: Path
) -> None:
    waveform, wav = make_sound(4_000)
    path = tmp_path / "sound.wav"
    path.write_bytes(wav)
    url = f"http://127.0.0.1:{server.port}/v1/models/default/versions/1"
    with ServingClient(url, signature="serving_default", sample_rate_hz=RATE_HZ) as client:
        scores = client.classify_file(path)
    outputs = signatures["serving_default"](waveform=tf.constant(waveform[np.newaxis]))
    found = {score.label: np.float32(score.probability) for score in scores}
    assert [found[label] for label in LABELS] == outputs["probabilities"][0].numpy().tolist()


def test_the_page_shows_what_the_signatures_give(server: ServerProcess, signatures: Any) -> None:
    (model,) = json.loads(ask(server, "GET", "/page/models"))["models"]
    assert (model["name"], model["usable"], model["has_features"]) == ("default", True, True)
    assert (model["sample_rate_hz"], model["window_s"]) == (RATE_HZ, 0.5)
    waveform, wav = make_sound(16_000, 16_000)
    lines = ask(server, "POST", "/page/analyse?model=default", wav).splitlines()
    items = {item["kind"]: item for item in map(json.loads, lines)}
    assert items.keys() == {"sound", "progress", "scores", "features"}
    heard = resample(Clip(waveform, 16_000), RATE_HZ).waveform
    scores = items["scores"]
    assert scores["starts_s"] == [0.0, 0.25, 0.5]
    for place, start_s in enumerate(scores["starts_s"]):
        window = heard[round(start_s * RATE_HZ) :][:4_000]
        expected = signatures["serving_default"](waveform=tf.constant(window[np.newaxis]))
        found = {row["label"]: row["probabilities"][place] for row in scores["classes"]}
        assert [found[label] for label in LABELS] == pytest.approx(
            expected["probabilities"][0].numpy().tolist(), abs=2e-5
        )
    features = items["features"]
    window = heard[round(features["start_s"] * RATE_HZ) :][:4_000]
    pair = np.stack([window, np.zeros_like(window)])
    outputs = signatures["activations"](waveform=tf.constant(pair))
    assert [layer["name"] for layer in features["layers"]] == ["block1", "block2"]
    for layer in features["layers"]:
        values, silence = outputs[layer["name"]].numpy()
        activity = np.maximum(values - silence, 0.0).mean(axis=(0, 1))
        best = layer["channels"][0]
        assert best["index"] == int(activity.argmax())
        assert best["activity"] == pytest.approx(activity.max(), abs=1e-4)
