"""The command `listen`: files that are the sounds, sums, and what it says when it cannot."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from esc_tf.interpret.__main__ import main
from esc_tf.interpretation.reading import Reading
from esc_tf.interpretation.sounds import ClipFeatures
from tests.interpretation.reading_with_sounds import RATE_HZ, write_reading_with_sounds

STEP = 1 / 32768


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    write_reading_with_sounds(folder)
    return folder


def listen(planted: Path, *arguments: str) -> int:
    return main(["listen", str(planted / "reading"), *arguments])


def read(path: Path) -> np.ndarray:
    waveform, rate_hz = soundfile.read(path)
    assert rate_hz == RATE_HZ
    return waveform


CHOICE = ("--clip", "clip 2", "--layer", "block_1", "--method", "nmf")


def test_one_feature_and_several(planted: Path, tmp_path: Path, capsys) -> None:
    features = ClipFeatures(Reading.open(planted / "reading"), 2, "block_1", "nmf")
    assert listen(planted, *CHOICE, "--feature", "2", "--out", str(tmp_path / "new/2.wav")) == 0
    assert listen(planted, *CHOICE, "--feature", "0", "2", "--out", str(tmp_path / "b.WAV")) == 0
    for path, chosen in ((tmp_path / "new/2.wav", [2]), (tmp_path / "b.WAV", [0, 2])):
        expected = np.sum([features.rebuild(feature) for feature in chosen], axis=0)
        np.testing.assert_allclose(read(path), expected, rtol=0, atol=0.51 * STEP)
    said = capsys.readouterr().out
    assert f"2.wav: {features.shares[2]:.1%} of the reconstruction, -" in said
    assert "dB of the clip's energy" in said and "times" not in said


def test_loud_has_the_peak_of_the_clip(planted: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "loud.wav"
    assert listen(planted, *CHOICE, "--feature", "0", "--loud", "--out", str(out)) == 0
    features = ClipFeatures(Reading.open(planted / "reading"), 2, "block_1", "nmf")
    assert np.abs(read(out)).max() == pytest.approx(np.abs(features.waveform).max(), abs=STEP)
    expected = features.rebuild(0)
    assert np.corrcoef(read(out), expected)[0, 1] > 0.999
    assert "all samples times" in capsys.readouterr().out


def test_all_sum_to_the_clip(planted: Path, tmp_path: Path) -> None:
    out = tmp_path / "all"
    choice = ("--clip", "clip 2", "--layer", "block/2 out", "--method", "mel_basis")
    assert listen(planted, *choice, "--all", "--out", str(out)) == 0
    facts = json.loads((out / "sounds.json").read_text())
    files = [sound["file"] for sound in facts["sounds"]]
    assert files == [f"feature_{feature:02d}.wav" for feature in range(20)]
    assert {path.name for path in out.iterdir()} == {*files, "clip.wav", "sounds.json"}
    total = np.sum([read(out / file) for file in files], axis=0)
    assert np.abs(total - read(out / "clip.wav")).max() <= 21 * 0.5 * STEP + 1e-6
    assert facts["gain"] == 1.0
    assert sum(sound["share"] for sound in facts["sounds"]) == pytest.approx(1.0)
    # A second time nothing happens but with --force.
    (out / "clip.wav").unlink()
    assert listen(planted, *choice, "--all", "--out", str(out)) == 2
    assert not (out / "clip.wav").exists()
    assert listen(planted, *choice, "--all", "--out", str(out), "--force") == 0
    assert (out / "clip.wav").exists() and [path.name for path in tmp_path.iterdir()] == ["all"]


def test_a_clip_beyond_full_scale_is_turned_down_as_a_whole(tmp_path: Path, capsys) -> None:
    reading = write_reading_with_sounds(tmp_path)
    path = Path(reading.clips[2].path)
    loud = 2.0 * soundfile.read(path)[0]  # peak 1.6
    soundfile.write(path, loud, RATE_HZ, subtype="FLOAT")
    out = tmp_path / "all"
    assert listen(tmp_path, *CHOICE, "--all", "--out", str(out)) == 0
    gain = json.loads((out / "sounds.json").read_text())["gain"]
    assert 0.5 < gain < 0.63 and f"times {gain:.4g}" in capsys.readouterr().out
    np.testing.assert_allclose(read(out / "clip.wav"), gain * loud, rtol=0, atol=0.51 * STEP)
    total = np.sum([read(out / f"feature_{feature:02d}.wav") for feature in range(3)], axis=0)
    assert np.abs(total - read(out / "clip.wav")).max() <= 2.01 * STEP


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--clip": "clip 9"}, "holds no clip 'clip 9'"),
        ({"--layer": "block_2"}, "did you mean 'block_1'"),
        ({"--layer": None}, "name one by --layer: block_1, block/2 out"),
        ({"--method": None}, "name one by --method: nmf, mel_basis"),
        ({"--method": "nfm"}, "did you mean 'nmf'"),
        ({"--feature": "3"}, "no feature 3; they are numbered 0 to 2"),
        ({"--out": "sound.mp3"}, "name a file that ends with .wav"),
        ({"--out": "there.wav"}, "there.wav: is there already; replace it with --force"),
        ({"--out": "folder.wav"}, "folder.wav: is a folder"),
        ({"--feature": None, "--all": "", "--out": "papers"}, "does not hold sounds of features"),
        ({"--feature": None, "--all": "", "--loud": ""}, "--loud changes levels"),
        ({"--feature": None}, "one of the arguments --feature --all is required"),
    ],
)
def test_wrong_requests(planted, tmp_path, capsys, monkeypatch, change, message) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.wav").write_bytes(b"mine")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "letter.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    wanted = {"--clip": "clip 2", "--layer": "block_1", "--method": "nmf", "--feature": "1",
              "--out": "new.wav"}  # fmt: skip
    wanted.update(change)
    arguments = [word for item in wanted.items() if item[1] is not None for word in item if word]
    assert listen(planted, *arguments) == 2
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.wav").read_bytes() == b"mine"


def test_a_folder_that_is_no_reading(tmp_path: Path, capsys) -> None:
    assert main(["listen", str(tmp_path), *CHOICE, "--all", "--out", str(tmp_path / "all")]) == 2
    assert "name a folder that `python -m esc_tf.interpret nmf` wrote" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_as_a_program(tmp_path: Path) -> None:
    """A reading whose audio has gone, told by a real process in one line."""
    write_reading_with_sounds(tmp_path)
    shutil.rmtree(tmp_path / "audio")
    command = [sys.executable, "-m", "esc_tf.interpret", "listen", str(tmp_path / "reading")]
    command += [*CHOICE, "--all", "--out", str(tmp_path / "all")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "2.wav" in line
    assert {path.name for path in tmp_path.iterdir()} == {"reading"}
