"""The benchmark of .tflite files: what it hears, how it cuts, and what it shows."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile

from benchmarks import on_device
from export import tflite
from tests.serving.tflite_files import NUM_SAMPLES, RATE_HZ, build_model, convert

litert = pytest.importorskip(
    "ai_edge_litert.interpreter", reason="needs the LiteRT interpreter: ai-edge-litert"
)


@pytest.fixture(scope="module")
def model():
    return build_model()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    """As an export leaves it."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "tflite").mkdir()
    (folder / "tflite" / "tiny_float32.tflite").write_bytes(convert(model))
    return folder


def test_the_front_end_is_cut_off(model, folder) -> None:
    content = (folder / "tflite" / "tiny_float32.tflite").read_bytes()
    front_end = on_device.cut_behind(content, "features")
    assert len(front_end) < len(content)
    waveform = 0.1 * np.random.default_rng(0).standard_normal((1, NUM_SAMPLES)).astype(np.float32)
    interpreter = litert.Interpreter(model_content=front_end)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], waveform)
    interpreter.invoke()
    (output,) = interpreter.get_output_details()
    features = interpreter.get_tensor(output["index"])
    # In dB; measured 1e-4.
    np.testing.assert_allclose(features, model.front_end(waveform), rtol=0.0, atol=1e-3)
    assert on_device.cut_behind(content, "nothing of this name") is None


def test_other_files_hear_the_same_clip_in_windows_of_theirs() -> None:
    rate_hz, clip = on_device.read_clip(None)
    windows = on_device.cut_windows(clip, rate_hz, 16_000, 15_600)
    assert windows.shape == (6, 15_600)  # 80,000 samples
    assert not windows[-1, 2000:].any() and windows[-1, :2000].any()
    assert on_device.cut_windows(clip, rate_hz, rate_hz, len(clip)).shape == (1, 160_000)
    assert on_device.cut_windows(clip, rate_hz, 16_000, 1).shape == (1, 80_000)


def test_a_clip_of_a_file(tmp_path) -> None:
    soundfile.write(tmp_path / "sound.wav", np.full((3000, 2), 0.25), 1000)
    rate_hz, clip = on_device.read_clip(tmp_path / "sound.wav")
    assert rate_hz == 1000 and clip.shape == (5000,)
    np.testing.assert_allclose(clip[:3000], 0.25, atol=1e-4)
    assert not clip[3000:].any()


def test_times_a_folder_of_an_export(folder, capsys) -> None:
    arguments = [str(folder), "--rounds", "1", "--threads", "1", "2", "--json"]
    assert on_device.main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["part"] for row in result["rows"]] == ["whole", "front end", "network"]
    whole, front_end, network = result["rows"]
    assert whole["bytes"] == (folder / "tflite" / "tiny_float32.tflite").stat().st_size
    assert whole["runs"] == 10  # of half a second
    assert result["machine"]["cores"] >= 1
    for threads in ("1", "2"):
        times = [row["threads"][threads] for row in (whole, front_end, network)]
        assert 0.0 < times[1]["fastest_ms"] <= times[1]["median_ms"]
        assert times[0]["median_ms"] == pytest.approx(sum(t["median_ms"] for t in times[1:]))


def test_converts_a_model_to_formats(model, tmp_path, capsys) -> None:
    model.save(tmp_path / "tiny.keras")
    kinds = ["float32", "int8_backbone"]  # each takes seconds
    with mock.patch.object(tflite, "KINDS", kinds):
        arguments = [str(tmp_path / "tiny.keras"), "--rounds", "1", "--threads", "1"]
        assert on_device.main(arguments) == 0
    out = capsys.readouterr().out
    shown = [line for line in out.splitlines() if line.startswith("tiny")]
    assert [line.split()[0] for line in shown] == [f"tiny_{kind}" for kind in kinds] + 3 * ["tiny"]
    for line, computation in zip(shown[2:], ["rfft", "dft_conv", "factored_dft"], strict=True):
        assert f" front end by {computation} " in line
    assert out.count("network") == 1  # features are the input of the second one


def test_without_a_file_it_is_an_untrained_mn04(model, capsys) -> None:
    name, untrained = on_device.build_untrained()
    assert "block15" in untrained.activation_names and len(untrained.label_names) == 50
    # It takes a minute to convert, so that here the small model stands for it.
    with (
        mock.patch.object(tflite, "KINDS", ["float32"]),
        mock.patch.object(on_device, "build_untrained", return_value=(name, model)),
    ):
        assert on_device.main(["--rounds", "1", "--threads", "1"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert any(line.startswith("mn04_untrained_float32 ") for line in shown)


def test_what_cannot_be_timed_is_said_in_one_line(folder, tmp_path, capsys) -> None:
    bare = tmp_path / "bare.tflite"
    content = (folder / "tflite" / "tiny_float32.tflite").read_bytes()
    bare.write_bytes(content[: content.rindex(b"PK\x03\x04")])  # without labels
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")
    for arguments, message in (
        ([str(tmp_path / "missing.tflite")], "no .tflite file; name a file, or a folder"),
        ([str(broken)], "broken: LiteRT cannot load it"),
        ([str(bare)], "bare: does not tell its sample rate; add it: FILE.tflite@16000"),
        ([str(folder), "--clip", str(tmp_path / "missing.wav")], "cannot be read"),
    ):
        assert on_device.main([*arguments, "--rounds", "1"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert on_device.main([f"{bare}@{RATE_HZ}", "--rounds", "1", "--threads", "1"]) == 0
