"""The explorer's file: one page of its own, the clips it holds, what it says of the reading."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from esc_tf.interpretation.explorer import write_explorer
from esc_tf.interpretation.explorer_data import order_clips
from esc_tf.interpretation.reading import ReadClip, Reading
from tests.evaluation.report.reading import Page
from tests.interpretation.reading_with_sounds import write_reading_with_sounds


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    return write_reading_with_sounds(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def source(reading: Reading) -> str:
    path = write_explorer(reading, reading.folder / "index.html")
    assert path == reading.folder / "index.html"
    return path.read_text(encoding="utf-8")


def read_facts(source: str) -> dict[str, Any]:
    (found,) = re.findall(r'<script type="application/json" id="facts">(.*?)</script>', source)
    return json.loads(found)


def list_clips(path: Path) -> list[str]:
    return [clip["id"] for clip in read_facts(path.read_text(encoding="utf-8"))["clips"]]


def test_it_is_whole_html_and_needs_nothing_else(source: str) -> None:
    page = Page(source)
    assert page.problems == []
    assert {reference for reference in page.find_references() if reference[:1] != "#"} == set()
    assert re.findall(r"@[A-Z]+@", source) == []
    for word in ("http:", "https:", "@import", "fetch(", "XMLHttpRequest", "import("):
        assert word not in source, word
    (policy,) = (meta["content"] for meta in page.find("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")


def test_it_says_where_it_comes_from(source: str) -> None:
    page = Page(source)
    for text in ("models/tones & <noise>.keras", "0123abcd", "data/tones", "8000 Hz", "UTC",
                 "block_1, block/2 out", "ln(1 + m)", "24 bands", "n_fft", "tensorflow",
                 "block_1 explains more than chance.", "shuffled in time"):  # fmt: skip
        assert text in page.text, text
    assert 0.7512 in page.numbers and 0.0625 in page.numbers
    assert re.search(r"7\s*\|?\s*data", page.text) or "seed 7" in page.text
    assert "holds 6 of the clips, of 3 classes" in page.text


def test_names_that_look_like_html_stay_text(source: str) -> None:
    assert "<noise>" not in source and "low <b>" not in source
    assert {clip["true"] for clip in read_facts(source)["clips"]} == {"low <b>", "middle", "high"}


def make_clip(name: str, true: str, predicted: str, probability: float | None, **more: Any) -> Any:
    return ReadClip(name, "", 1, name, true, predicted, probability, **more)


def test_the_surest_right_and_the_surest_wrong_come_first() -> None:
    clips = [
        make_clip("a0", "a", "a", 0.6),
        make_clip("a1", "a", "a", 0.9),
        make_clip("a2", "a", "b", 0.5),
        make_clip("a3", "a", "b", 0.7),
        make_clip("b0", "b", "b", 0.8),
        make_clip("b1", "b", "b", 0.99, is_silent=True),
        make_clip("c0", "c", "a", 0.3),
    ]
    assert order_clips(clips, 1) == [1, 4, 6]
    assert order_clips(clips, 2) == [1, 4, 6, 3]
    assert order_clips(clips, 9) == [1, 4, 6, 3, 0, 2]
    unknown = [make_clip("a", "a", "", None), make_clip("b", "a", "", None)]
    assert order_clips(unknown, 2) == [0, 1]


def test_its_size_is_bounded(reading: Reading, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    write_explorer(reading, path)
    whole = path.stat().st_size
    assert list_clips(path) == ["clip 2", "clip 5", "clip 3", "clip 6", "clip 1", "clip 4"]
    write_explorer(reading, path, max_bytes=whole * 4 // 5)
    assert 0.5 * whole < path.stat().st_size <= whole * 4 // 5
    # The first of each class stay.
    assert {"clip 5", "clip 6", "clip 1"} <= set(list_clips(path)) < {f"clip {n}" for n in range(7)}
    write_explorer(reading, path, max_bytes=1)
    assert list_clips(path) == ["clip 5"]
    write_explorer(reading, path, max_clips_per_class=1)
    assert list_clips(path) == ["clip 5", "clip 6", "clip 1"]
    assert [file.name for file in tmp_path.iterdir()] == ["index.html"]


def test_missing_audio_leaves_the_pictures(tmp_path: Path) -> None:
    reading = write_reading_with_sounds(tmp_path)
    Path(reading.clips[5].path).unlink()
    path = write_explorer(reading, tmp_path / "index.html")
    clips = {clip["id"]: clip for clip in read_facts(path.read_text(encoding="utf-8"))["clips"]}
    assert "5.wav" in clips["clip 5"]["missing_sound"]
    assert clips["clip 2"]["missing_sound"] is None
    assert "num_samples" not in clips["clip 5"] and clips["clip 2"]["num_samples"] == 6000


def find_colours(style: str) -> list[dict[str, str]]:
    """The variables of the light and of the dark theme."""
    return [dict(re.findall(r"--([\w-]+): (#\w{6})", block))
            for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)]  # fmt: skip


def compute_contrast(first: str, second: str) -> float:
    """WCAG 2's ratio of two colours."""

    def luminance(colour: str) -> float:
        shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_can_be_told_apart(source: str) -> None:
    themes = find_colours(source)
    assert len(themes) == 2
    for theme in themes:
        for text in ("ink", "muted", "accent"):
            for ground in ("page", "card", "row"):
                assert compute_contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
        assert compute_contrast(theme["ink"], theme["notice"]) >= 4.5
        assert compute_contrast(theme["on-accent"], theme["accent"]) >= 4.5
        for mark in ("control", "accent", "cursor"):
            assert compute_contrast(theme[mark], theme["card"]) >= 3.0, mark
        assert compute_contrast(theme["cursor"], theme["fill"]) >= 3.0
