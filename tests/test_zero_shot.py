"""A published model applied as it is: tags, label maps, short clips, windows of any length."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pytest
import soundfile

from esc_tf import evaluate, predict
from esc_tf.config import build_experiment
from esc_tf.config.loading import merge, read_config_file
from esc_tf.evaluation.heard_clips import SHORTEST_INPUT_S
from esc_tf.frames import count_samples
from esc_tf.models.factory import MODELS
from esc_tf.tasks.classifier import build_classifier
from esc_tf.tasks.conversion import convert_checkpoint
from tests.shared_files import shared_path
from tests.trained_tones import call

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
_FRONT_ENDS = {
    "mobilenet_v3": "efficientat",
    "cnn10": "panns",
    "tfnet": "tfnet",
    "mobilenet_student": "student",
}
LABEL_MAP = str(CONFIGS / "label_map" / "esc10_audioset.yaml")


@pytest.fixture(scope="module")
def mn04(tmp_path_factory: pytest.TempPathFactory) -> str:
    """EfficientAT's mn04 as a file of this package."""
    checkpoint = shared_path("checkpoints/mn04_as_mAP_432.pt")
    table = shared_path("checkpoints/audioset_class_labels_indices.csv")
    with table.open(encoding="utf-8", newline="") as file:
        names = [row["display_name"] for row in csv.DictReader(file)]
    conversion = convert_checkpoint(checkpoint, "mobilenet_v3", "mn04", label_names=names)
    path = tmp_path_factory.mktemp("mn04") / "mn04.keras"
    conversion.classifier.save(path)
    return str(path)


def clips_of(label: str, most: int) -> list[Path]:
    root = shared_path("esc10")
    with (root / "meta" / "esc50.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["category"] == label]
    return [root / "audio" / row["filename"] for row in rows[:most]]


# Measured: 97.19 % of the clips of 5 s as they are, 95.63 % padded to the 10 s of AudioSet's clips.
@pytest.mark.parametrize("duration_s", ["5", "10"])
def test_esc10_is_told_from_audiosets_labels_alone(
    mn04: str, tmp_path_factory: pytest.TempPathFactory, duration_s: str
) -> None:
    arguments = ("--data-root", str(shared_path("esc10")), "--label-map", LABEL_MAP, "--json")
    cache = {"ESC_TF_CACHE": str(tmp_path_factory.getbasetemp() / "decoded")}
    with mock.patch.dict(os.environ, cache):
        code, out, _ = call(evaluate, "--model", mn04, *arguments, "--duration", duration_s)
    metrics = json.loads(out)
    assert (code, metrics["num_clips"], metrics["num_classes"]) == (0, 320, 10)
    assert metrics["accuracy"] >= 0.95
    assert metrics["skipped_files"] == []


def test_tags_are_printed(mn04: str) -> None:
    files = clips_of("rooster", 4)
    code, out, _ = call(predict, "--model", mn04, *map(str, files), "--json", "--top-k", "3")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["file"] for line in lines] == list(map(str, files))
    for line in lines:
        tags = {item["label"] for item in line["predictions"]}
        assert tags & {"Chicken, rooster", "Crowing, cock-a-doodle-doo"}
        assert line["padded_to_s"] == 10.0


def test_short_clips_are_heard_as_in_training(mn04: str, tmp_path: Path) -> None:
    """A second of a rooster is a rooster still, and what was padded is told."""
    (path,) = clips_of("rooster", 1)
    sound, rate_hz = soundfile.read(path)
    loudest = int(np.abs(sound).argmax())
    for duration_s in (0.3, 1.0):
        num_samples = int(duration_s * rate_hz)
        start = min(max(loudest - num_samples // 2, 0), len(sound) - num_samples)
        soundfile.write(tmp_path / f"{duration_s}.wav", sound[start : start + num_samples], rate_hz)
    code, out, _ = call(predict, "--model", mn04, str(tmp_path), "--label-map", LABEL_MAP)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == f"{tmp_path}/0.3.wav (padded from 0.3 s to 10 s with silence)"
    assert lines[6] == f"{tmp_path}/1.0.wav (padded from 1 s to 10 s with silence)"
    assert lines[7].endswith("rooster")


def test_a_recording_is_told_apart_in_time(mn04: str, tmp_path: Path) -> None:
    labels = ("rooster", "chainsaw", "crying_baby")
    parts = []
    for label in labels:
        sound, rate_hz = soundfile.read(clips_of(label, 1)[0])
        parts.append(sound[: 5 * rate_hz])
    soundfile.write(tmp_path / "three.flac", np.concatenate(parts), rate_hz)
    code, out, _ = call(
        predict,
        *("--model", mn04, str(tmp_path / "three.flac"), "--label-map", LABEL_MAP),
        *("--window", "5", "--hop", "1", "--out", str(tmp_path), "--json"),
    )
    assert code == 0
    summary = json.loads(out)
    assert (summary["num_windows"], summary["padded_to_s"]) == (11, None)
    content = json.loads((tmp_path / "three.json").read_text())
    for index, label in enumerate(labels):
        window = content["windows"][5 * index]
        assert (window["start_s"], window["end_s"]) == (5 * index, 5 * index + 5)
        assert content["label_names"][int(np.argmax(window["probabilities"]))] == label


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("se_cnn", "piczak_net")])
def test_the_shortest_input_is_taken_by_every_architecture(name: str) -> None:
    model_file = {"mobilenet_v3": "mn04"}.get(name, name)
    raw = merge(
        read_config_file(CONFIGS / "front_end" / f"{_FRONT_ENDS[name]}_log_mel.yaml"),
        read_config_file(CONFIGS / "model" / f"{model_file}.yaml"),
    )
    rest = {"name": "short", "data": {"name": "synthetic"}, "front_end": {"num_frames": None}}
    model = build_classifier(build_experiment(merge(raw, rest)), ["a", "b"])
    assert model.any_length
    num_samples = count_samples(SHORTEST_INPUT_S, model.audio["sample_rate_hz"])
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1, num_samples)).astype(np.float32)
    outputs = model({"waveform": noise, "num_samples": np.array([num_samples], np.int32)})
    assert np.isfinite(keras.ops.convert_to_numpy(outputs["probabilities"])).all()
