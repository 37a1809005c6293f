"""Timelines as files: the table, JSON and the figure, and when they may be written."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from esc_tf.errors import RequestError
from esc_tf.evaluation.timeline import figure, results
from esc_tf.evaluation.timeline.timeline import Timeline
from esc_tf.evaluation.timeline.windows import count_windows

RATE_HZ = 100


def make_timeline(
    scores: np.ndarray | None = None,
    *,
    duration_s: float = 3.5,
    window_s: float = 2.0,
    hop_s: float = 1.0,
    label_names: tuple[str, ...] = ("dog", "Crying, sobbing", "$rain$"),
) -> Timeline:
    timeline = Timeline(
        label_names,
        sample_rate_hz=RATE_HZ,
        window_samples=int(window_s * RATE_HZ),
        hop_samples=int(hop_s * RATE_HZ),
    )
    timeline.num_samples = int(duration_s * RATE_HZ)
    num_windows = count_windows(timeline.num_samples, timeline.window_samples, timeline.hop_samples)
    if scores is None:
        scores = np.random.default_rng(0).uniform(size=(num_windows, len(label_names)))
    assert len(scores) == num_windows
    timeline.append(scores)
    return timeline


THREE = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.8, 0.3, 0.25]])


@pytest.fixture
def timeline() -> Iterator[Timeline]:
    with make_timeline(THREE) as made:
        yield made


# --- tables


def test_csv_has_a_row_a_window(timeline: Timeline, tmp_path: Path) -> None:
    results.write_results(timeline, tmp_path / "r", "r.wav", 0.3)
    with (tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["start_s", "end_s", "dog", "Crying, sobbing", "$rain$"]
    assert [row[:2] for row in rows] == [["0.000", "2.000"], ["1.000", "3.000"], ["2.000", "3.500"]]
    np.testing.assert_allclose(np.array(rows, float)[:, 2:], THREE, atol=1e-6)


def test_json_says_what_was_heard(timeline: Timeline, tmp_path: Path) -> None:
    timeline.problem = "r.wav: truncated"
    results.write_results(timeline, tmp_path / "r", "some/r.wav", 0.3)
    content = json.loads((tmp_path / "r.json").read_text())
    windows = content.pop("windows")
    assert content == {
        "file": "some/r.wav",
        "duration_s": 3.5,
        "window_s": 2.0,
        "hop_s": 1.0,
        "num_windows": 3,
        "padded_to_s": None,
        "last_window_padded_from_s": 1.5,
        "other_threshold": None,
        "num_other": 0,
        "problem": "r.wav: truncated",
        "label_names": ["dog", "Crying, sobbing", "$rain$"],
    }
    assert [(window["start_s"], window["end_s"]) for window in windows] == [
        (0, 2),
        (1, 3),
        (2, 3.5),
    ]
    np.testing.assert_allclose([window["probabilities"] for window in windows], THREE, atol=1e-6)


def test_many_windows_come_back_in_order() -> None:
    scores = np.random.default_rng(0).uniform(size=(5000, 3)).astype(np.float32)
    with make_timeline(scores, duration_s=5001.0) as timeline:
        np.testing.assert_array_equal(np.concatenate(list(timeline.read_scores(70))), scores)
        assert sum(1 for _ in timeline.read_rows()) == 5000


def test_the_summary_names_who_leads(timeline: Timeline) -> None:
    timeline.input_samples = 10 * RATE_HZ
    summary = results.summarize(timeline, "r.wav", 2, {"csv": "r.csv"})
    assert [item["label"] for item in summary["classes"]] == ["dog", "Crying, sobbing"]
    dog = summary["classes"][0]
    assert dog["share_led"] == pytest.approx(2 / 3)
    assert (dog["highest"], dog["highest_at_s"]) == (pytest.approx(0.9), 1.0)
    text = results.format_summary(summary)
    assert text.splitlines()[0] == (
        "r.wav: 0:03.5 in 3 windows of 2 s every 1 s, each padded to 10 s; the last holds 1.5 s "
        "and is padded"
    )
    assert "  leads  66.7% of the time  highest 0.90 at 0:01      dog\n" in text
    assert text.endswith("wrote r.csv")


# --- where the files go


def test_two_recordings_never_share_a_file(tmp_path: Path) -> None:
    paths = [Path("a/dog.wav"), Path("b/dog.flac"), Path("rain.wav")]
    with pytest.raises(RequestError, match=r"a/dog.wav and b/dog.flac would both write .*dog.csv"):
        results.plan_results(paths, tmp_path, replace=True)


def test_what_is_there_is_replaced_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "dog.csv").write_text("breeds")
    with pytest.raises(RequestError, match=r"dog.csv is there already; add --force"):
        results.plan_results([Path("dog.wav")], tmp_path, replace=False)
    assert results.plan_results([Path("dog.wav")], tmp_path, replace=True) == [tmp_path / "dog"]
    assert results.plan_results([Path("cat.wav")], tmp_path, replace=False) == [tmp_path / "cat"]


def test_a_failure_leaves_what_was_there(
    timeline: Timeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r.csv").write_text("old")
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        results.write_results(timeline, tmp_path / "r", "r.wav", 0.3)
    assert (tmp_path / "r.csv").read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["r.csv"]


# --- the figure


def draw(
    timeline: Timeline, path: Path, monkeypatch: pytest.MonkeyPatch, threshold: float = 0.3
) -> Figure:
    """Write the figure and return it as matplotlib has drawn it."""
    kept: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, *arguments: object, **options: object) -> None:
        kept.append(self)
        save(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    figure.write_figure(timeline, path, "r.wav", threshold)
    return kept[0]


def test_the_figure_shows_the_classes_that_matter(
    timeline: Timeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes = draw(timeline, tmp_path / "r.png", monkeypatch).axes[0]
    # $rain$ never leads and stays below the threshold.
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["dog", "Crying, sobbing"]
    (mesh,) = axes.collections[:1]
    np.testing.assert_allclose(mesh.get_array(), THREE[:, :2].T, atol=1e-6)
    # Each window is drawn around its middle; the ends reach to the ends of the recording.
    edges = mesh.get_coordinates()[0, :, 0]
    np.testing.assert_allclose(edges, [0.0, 1.5, 2.5, 3.5])
    places = [text.get_text() for text in axes.child_axes[0].get_yticklabels()]
    assert places == ["0.90 at 0:01", "0.70 at 0:02"]
    assert axes.get_title(loc="left") == "r.wav: 0:03.5, windows of 2 s every 1 s"
    with Image.open(tmp_path / "r.png") as image:
        assert image.format == "PNG"
        assert np.asarray(image.convert("L")).std() > 5


def test_a_lower_threshold_shows_more(
    timeline: Timeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes = draw(timeline, tmp_path / "r.png", monkeypatch, threshold=0.2).axes[0]
    assert axes.get_yticklabels()[-1].get_text() == "$rain$"


def test_gaps_between_windows_stay_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with make_timeline(THREE, duration_s=14.0, window_s=2.0, hop_s=6.0) as timeline:
        axes = draw(timeline, tmp_path / "r.png", monkeypatch).axes[0]
    mesh = axes.collections[0]
    np.testing.assert_allclose(mesh.get_coordinates()[0, :, 0], [0, 2, 6, 8, 12, 14])
    values = np.ma.filled(mesh.get_array(), np.nan)
    np.testing.assert_allclose(values[:, ::2], THREE[:, :2].T, atol=1e-6)
    assert np.isnan(values[:, 1::2]).all()


def test_a_long_recording_keeps_its_short_sounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = np.full((10_800, 30), 0.01, np.float32)
    scores[:, 0] = 0.2
    scores[7777, 17] = 0.95
    scores[np.arange(1, 30) * 100, np.arange(1, 30)] = 0.5
    names = tuple(f"class {index}" for index in range(30))
    with make_timeline(scores, duration_s=10_801.0, label_names=names) as timeline:
        axes = draw(timeline, tmp_path / "r.png", monkeypatch).axes[0]
    values = axes.collections[0].get_array()
    assert values.shape == (figure.MOST_ROWS, 982)  # 11 windows a column
    rows = [text.get_text() for text in axes.get_yticklabels()]
    assert rows[:2] == ["class 0", "class 17"]
    assert values[1, 7777 // 11] == pytest.approx(0.95)
    assert "20 of the 30 classes" in axes.get_title(loc="left")
    assert "each column the highest of 11" in axes.get_title(loc="left")


@pytest.mark.parametrize(
    ("duration_s", "first", "last", "unit"),
    [
        (0.3, "0", "0.3", "s"),
        (3.0, "0", "3", "s"),
        (47.0, "0", "45", "s"),
        (900.0, "0:00", "14:00", "min:s"),
        (10_800.0, "0:00", "3:00", "h:min"),
        (864_000.0, "0:00", "240:00", "h:min"),
    ],
)
def test_times_are_legible(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    duration_s: float,
    first: str,
    last: str,
    unit: str,
) -> None:
    hop_s = max(duration_s / 50, 0.01)
    with make_timeline(duration_s=duration_s, window_s=hop_s, hop_s=hop_s) as timeline:
        axes = draw(timeline, tmp_path / "r.png", monkeypatch).axes[0]
    names = [text.get_text() for text in axes.get_xticklabels()]
    assert (names[0], names[-1], axes.get_xlabel()) == (first, last, f"time ({unit})")
    assert 3 <= len(names) <= 11
