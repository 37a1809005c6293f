"""The command nmf on a tiny model: a whole reading, parts of the data, and every wrong request."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile

from esc_tf.audio import read_clip
from esc_tf.errors import RequestError
from esc_tf.interpret import __main__ as command
from esc_tf.interpretation import activation_sources, read_layers
from esc_tf.interpretation.reading import Reading
from esc_tf.tasks.classifier import load_classifier
from tests.export.models import LABELS, break_weight, build_tiny
from tests.trained_tones import RATE_HZ, call, write_tones

SILENT = "2-silent-A-0.wav"
QUICK = ("--epochs", "3", "--iterations", "20", "--shuffles", "2")
LAYERS = ("block1", "se2")
BROKEN = "se2_dense2"  # a gate, since a ReLU makes 0 of NaN


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tiny.keras``, and ``tones`` in ESC-50's layout: 12 clips in folds 1 and 2, 1 silent."""
    found = tmp_path_factory.mktemp("nmf")
    build_tiny().save(found / "tiny.keras")
    write_tones(found / "tones", (1, 2), LABELS)
    soundfile.write(found / "tones" / "audio" / SILENT, np.zeros(RATE_HZ // 2), RATE_HZ)
    with (found / "tones" / "meta" / "esc50.csv").open("a", newline="") as file:
        csv.writer(file).writerow([SILENT, 2, 0, LABELS[0], False, "silent", "A"])
    return found


def read(
    folder: Path, out: Path, *more: str, model: str = "tiny.keras", has_figures: bool = False
) -> tuple[int, str, str]:
    return call(
        command, "nmf", "--model", str(folder / model), "--data", str(folder / "tones"),
        "--out", str(out), *QUICK, *([] if has_figures else ["--no-figures"]), *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(folder: Path) -> tuple[Reading, str]:
    """The reading of two layers over all clips, and what the command said."""
    code, said, problems = read(folder, folder / "readings" / "whole", "--layer", *LAYERS)
    assert code == 0, problems
    return Reading.open(folder / "readings" / "whole"), said


def join(reading: Reading, parts: np.ndarray) -> np.ndarray:
    """``(clips, size, frames)`` → ``(size, all frames)`` of clips that are not silent."""
    heard = [row for row, clip in enumerate(reading.clips) if not clip.is_silent]
    return np.concatenate([parts[row] for row in heard], axis=1)


def test_clips_are_told_as_the_model_hears_them(folder: Path, whole: tuple[Reading, str]) -> None:
    reading, _ = whole
    assert len(reading.clips) == 13
    assert [clip.clip_id for clip in reading.clips if clip.is_silent] == [SILENT]
    model = load_classifier(folder / "tiny.keras")
    heard = np.stack([read_clip(Path(clip.path)).waveform for clip in reading.clips])
    probabilities = np.asarray(model.predict_on_batch({"waveform": heard})["probabilities"])
    assert [clip.predicted for clip in reading.clips] == [
        LABELS[best] for best in probabilities.argmax(axis=1)
    ]
    np.testing.assert_allclose(
        [clip.probability for clip in reading.clips], probabilities.max(axis=1), atol=1e-5
    )
    np.testing.assert_array_equal(reading.waveform(3), heard[3])
    features = np.asarray(model.extract_features(heard))[..., 0]
    for row in range(len(heard) - 1):
        found = reading.spectrogram(row).T
        assert found.shape == features[row].shape
        # Both rise with the power, one by a logarithm of it and the other by one of its root.
        assert np.corrcoef(np.argsort(found, axis=None), np.argsort(features[row], axis=None))[
            0, 1
        ] == pytest.approx(1.0, abs=1e-3)


def test_scores_are_those_of_the_files(whole: tuple[Reading, str]) -> None:
    reading, said = whole
    assert reading.layers == LAYERS
    assert reading.methods == (
        "nmf", "linear_no_bias_softplus", "mel_constrained_linear", "mel_basis"
    )  # fmt: skip
    v = join(reading, np.stack([reading.spectrogram(row) for row in range(13)]))
    seen = 0
    for row in reading.scores:
        layer, method = row["layer"], row["method"]
        if row["control"] != "none":
            assert len(row["errors"]) == 2 and row["error"] > 0
            continue
        if method == "plain_nmf":
            w, flat = reading.plain_nmf(layer)
            h = join(reading, flat.reshape(len(flat), 13, -1).transpose(1, 0, 2))
        else:
            w, h = reading.filters(layer, method), join(reading, reading.activations(layer))
            assert row["rank"] == len(h)
        error = np.linalg.norm(v - w @ h) / np.linalg.norm(v)
        assert row["error"] == pytest.approx(error, rel=1e-4)
        assert f"{row['error']:.4f}" in said
        seen += 1
    assert seen == 10
    for layer in LAYERS:
        assert reading.verdicts[layer] in said
        effect = np.array(reading.discriminative[layer]["effect"])
        assert effect.shape == (3, reading.activations(layer).shape[1])
        assert reading.discriminative[layer]["folds"] == [1, 2]
    history = reading.history("se2", "mel_basis")
    assert history is not None and history.epochs.tolist() == [0, 3]
    np.testing.assert_array_equal(history.filters[-1], reading.filters("se2", "mel_basis"))
    assert reading.facts["discriminability"]["tested"] == "leave one of 2 folds out"


def test_nothing_else_is_left(folder: Path, whole: tuple[Reading, str]) -> None:
    reading, _ = whole
    assert sorted(path.name for path in reading.folder.iterdir()) == [
        "layers", "reading.json", "spectrograms.npy"
    ]  # fmt: skip
    assert len(reading.facts["model_digest"]) == 64


def test_the_same_seed_gives_the_same_numbers(
    folder: Path, tmp_path: Path, whole: tuple[Reading, str]
) -> None:
    code, _, problems = read(
        folder, tmp_path / "again", "--layer", "block1", "--transform", "linear_no_bias_softplus"
    )
    assert code == 0, problems
    before = [
        row
        for row in whole[0].scores
        if row["layer"] == "block1" and not row["method"].startswith("mel")
    ]
    assert Reading.open(tmp_path / "again").scores == before


def test_one_clip(folder: Path, tmp_path: Path, whole: tuple[Reading, str]) -> None:
    clip_id = whole[0].clips[4].clip_id
    code, said, problems = read(
        folder, tmp_path / "one", "--layer", "block1", "--clip", clip_id, "--transform", "nmf"
    )
    assert code == 0, problems
    reading = Reading.open(tmp_path / "one")
    assert [clip.clip_id for clip in reading.clips] == [clip_id]
    np.testing.assert_array_equal(reading.spectrogram(0), whole[0].spectrogram(4))
    assert {row["control"] for row in reading.scores} == {"none", "shuffled_time"}
    assert reading.methods == ("nmf",)
    assert reading.discriminative["block1"]["classes"] == []
    assert all(row["accuracy"] is None for row in reading.scores)
    assert "accuracy:" not in said


def test_some_clips_of_some_classes_and_some_frames_with_figures(
    folder: Path, tmp_path: Path
) -> None:
    code, _, problems = read(
        folder, tmp_path / "some", "--layer", "block1", "--class", "low", "high", "--clips", "2",
        "--folds", "1", "2", "--max-frames", "40", "--transform", "mel_basis", "--pooling", "max",
        has_figures=True,
    )  # fmt: skip
    assert code == 0, problems
    reading = Reading.open(tmp_path / "some")
    # Evenly over the folds.
    assert [(clip.true, clip.fold) for clip in reading.clips] == [
        ("low", 1), ("high", 1), ("low", 2), ("high", 2)
    ]  # fmt: skip
    assert reading.facts["fitted"]["frames_of_each"] == 10
    assert reading.methods == ("nmf", "mel_basis")
    figures = {path.name for path in (reading.folder / "figures").iterdir()}
    assert {"explained.png", "block1-patterns.png", "block1-training-mel_basis.png"} <= figures
    page = (reading.folder / "index.html").read_text(encoding="utf-8")
    assert "block1" in page and reading.clips[0].clip_id in page


def test_negative_values_split_and_another_front_end(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "coarse.yaml").write_text(
        "front_end: {name: log_mel, n_fft: 512, hop_length: 256, n_mels: 12}\nname: ignored\n"
    )
    code, _, problems = read(
        folder, tmp_path / "split", "--layer", "features", "--negative", "split",
        "--front-end", str(tmp_path / "coarse.yaml"), "--transform", "nmf",
    )  # fmt: skip
    assert code == 0, problems
    reading = Reading.open(tmp_path / "split")
    assert reading.spectrogram(0).shape == (12, 16)
    assert reading.activations("features").shape == (13, 2, 16)


def test_a_reading_is_replaced_only_if_told(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "readings" / "whole", tmp_path / "old")
    asked = ("--layer", "block1", "--clips", "1", "--transform", "nmf")
    code, _, problems = read(folder, tmp_path / "old", *asked)
    assert code == 2 and "--force" in problems
    assert len(Reading.open(tmp_path / "old").clips) == 13
    code, _, problems = read(folder, tmp_path / "old", *asked, "--force")
    assert code == 0, problems
    assert len(Reading.open(tmp_path / "old").clips) == 3


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("--layer", "blok1"), "unknown activation 'blok1'; did you mean 'block1'?"),
        (("--layer", "embedding"), "embedding: has no time axis"),
        (("--layer", "features"), "negative values .* `rectify` or `split`"),
        (("--layer", "block1", "--transform", "mel_base"), "unknown method .* 'mel_basis'"),
        (("--layer", "block1", "--divergence", "euclid"), "unknown divergence 'euclid'"),
        (("--layer", "block1", "--pooling", "median"), "unknown pooling"),
        (("--layer", "block1", "--spectrogram", "log"), "unknown kind of spectrogram"),
        (("--layer", "block1", "--shuffles", "1"), "shuffles must be 2 or more"),
        (("--layer", "block1", "--max-frames", "0"), "must be 1 or more"),
        (("--layer", "block1", "--class", "lo"), "unknown class of the clips 'lo'"),
        (("--layer", "block1", "--clip", "1-10A-A-0.ogg"), "did you mean '1-10A-A-0.wav'"),
        (("--layer", "block1", "--folds", "7"), r"fold 7 does not exist \(there are: 1, 2\)"),
        (("--layer", "block1", "--clips", "0"), "--clips must be 1 or more"),
        (("--layer", "block1", "--clip", SILENT), "all clips are silent"),
        (
            ("--layer", "block1", "--clip", "1-10A-A-0.wav", "--pooling", "bands"),
            "block1: .* features are more than 32 frames",
        ),
        (
            ("--layer", "block1", "--divergence", "itakura_saito", "--clip", "1-10A-A-0.wav",
             "--transform", "nmf", "--front-end", "nowhere.yaml"),
            "nowhere.yaml: cannot be read",
        ),
        (("--layer", "block1", "--data", "nowhere"), "nowhere"),
    ],
)  # fmt: skip
def test_wrong_requests(folder: Path, tmp_path: Path, asked: tuple[str, ...], message: str) -> None:
    code, said, problems = read(folder, tmp_path / "out", *asked)
    assert (code, said) == (2, "")
    errors = [line for line in problems.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in problems
    assert re.search(message, errors[0])
    assert not any(tmp_path.iterdir())


def test_a_broken_model_is_named(folder: Path, tmp_path: Path) -> None:
    break_weight(build_tiny(), BROKEN, everywhere=True).save(folder / "broken.keras")
    code, _, problems = read(folder, tmp_path / "out", "--layer", "se2", model="broken.keras")
    assert code == 1 and "activation 'se2' of clip" in problems and "NaN" in problems
    assert not any(tmp_path.iterdir())


def test_an_interruption_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    with mock.patch.object(read_layers, "judge_layer", side_effect=KeyboardInterrupt):
        code, _, problems = read(
            folder, tmp_path / "out", "--layer", "block1", "--transform", "nmf", "--clips", "1"
        )
    assert code == 130 and "interrupted" in problems
    assert not any(tmp_path.iterdir())


def test_a_server_gets_its_card_and_token(folder: Path, tmp_path: Path) -> None:
    asked = ("--layer", "block1", "--card", "card.json")
    with (
        mock.patch.object(
            activation_sources, "open_source", side_effect=RequestError("seen")
        ) as opened,
        mock.patch.dict("os.environ", {"ESC_TF_SERVING_TOKEN": "secret"}),
    ):
        code, _, problems = read(folder, tmp_path / "out", *asked)
    assert code == 2 and "error: seen" in problems
    opened.assert_called_once_with(str(folder / "tiny.keras"), "card.json", "secret")
