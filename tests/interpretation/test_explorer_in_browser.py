"""The explorer in a real browser: what is chosen is drawn, is heard, and is what Python has."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import soundfile

from esc_tf.interpretation.explorer import write_explorer
from esc_tf.interpretation.reading import Reading
from esc_tf.interpretation.sounds import ClipFeatures
from tests.interpretation.reading_with_sounds import RATE_HZ, write_reading_with_sounds
from tests.serving.page.browser import Page, open_browser

READY = "document.getElementById('sound-facts').textContent !== ''"
FIRST_CLIP = 2  # "high" is the first class, and clip 5 is surer, but clips are listed by id


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


@pytest.fixture(scope="module")
def reading(folder: Path) -> Reading:
    reading = write_reading_with_sounds(folder)
    write_explorer(reading, folder / "index.html")
    return reading


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(browser: Page, reading: Reading, folder: Path) -> Iterator[Page]:
    """The page, just opened; at the end no complaints, and nothing was asked of anybody else."""
    address = open_explorer(browser, folder / "index.html")
    yield browser
    # Icons of the players are data:, sounds are blob:.
    elsewhere = [url for url in browser.requests if not url.startswith((address, "data:", "blob:"))]
    assert elsewhere == [] and browser.complaints == []


def open_explorer(browser: Page, path: Path, width: int = 1280) -> str:
    browser.requests.clear()
    browser.complaints.clear()
    browser.open(path.as_uri(), width=width)
    browser.wait_for(READY)
    return path.as_uri()


def read_text(page: Page, name: str) -> str:
    return page.run(f"document.getElementById('{name}').textContent")


def choose(page: Page, name: str, option: str) -> None:
    """Choose in a list the option that shows a text, as a user does."""
    found = page.run(
        f"(() => {{ const s = document.getElementById('{name}');"
        f"const o = [...s.options].find((o) => o.text.includes({json.dumps(option)}));"
        "if (!o) return false; s.value = o.value; s.dispatchEvent(new Event('change'));"
        "return true; })()"
    )
    assert found, f"{name} has no {option}"


def settle(page: Page) -> None:
    """Wait for the sounds of what was chosen last: the note goes at once, and comes with them."""
    page.run("new Promise((resolve) => setTimeout(resolve))")
    page.wait_for(READY)


def choose_feature(page: Page, feature: int) -> None:
    page.run(f"document.querySelector('#features input[type=radio][value=\"{feature}\"]').click()")
    settle(page)


def read_picture(page: Page, name: str) -> np.ndarray:
    """Pixels of a canvas, ``(bins, frames, 3)`` with the lowest frequency first."""
    found = page.run(
        f"(() => {{ const c = document.getElementById('{name}');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height);"
        "return [d.width, d.height, btoa(String.fromCharCode(...d.data))]; })()"
    )
    width, height, pixels = found
    values = np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(height, width, 4)
    return values[::-1, :, :3].astype(int)


def colour(values: np.ndarray, largest: float) -> np.ndarray:
    places = np.round(255 * np.sqrt(np.clip(values / largest, 0, 1))).astype(int)
    return np.round(255 * mpl.colormaps["viridis"](places)[..., :3]).astype(int)


def assert_shows(page: Page, name: str, values: np.ndarray, largest: float) -> None:
    shown, expected = read_picture(page, name), colour(values, largest)
    assert shown.shape == expected.shape
    # Half precision moves a value to the neighbouring colour at most, which is 3 of 255 apart.
    assert np.abs(shown - expected).max() <= 3
    assert (shown == expected).all(axis=-1).mean() > 0.97


def test_pictures_are_those_of_the_reading(page: Page, reading: Reading) -> None:
    features = ClipFeatures(reading, FIRST_CLIP, "block_1", "nmf")
    v = np.asarray(reading.spectrogram(FIRST_CLIP))
    w, h = features.filters, features.activations
    assert_shows(page, "spectrogram", v, v.max())
    assert_shows(page, "reconstruction", w @ h, v.max())
    error = np.linalg.norm(v - w @ h) / np.linalg.norm(v)
    assert f"{error:.3f}." in read_text(page, "whole-facts")
    choose_feature(page, 1)
    assert_shows(page, "part", np.outer(w[:, 1], h[1]), v.max())
    assert read_text(page, "feature-title") == "Feature 1 of block_1"
    peak_hz = reading.frequencies_hz[w[:, 1].argmax()]
    assert f"pattern largest at {peak_hz:.0f} Hz" in read_text(page, "feature-facts")
    assert f"{features.shares[1]:.0%}".replace("%", " %") in read_text(page, "feature-facts")
    assert f"0 to {w[:, 1].max():.3g}" in read_text(page, "pattern-caption")
    assert f"0 to {h[1].max():.3g}" in read_text(page, "course-caption")
    top_s = reading.frame_times_s[h[1].argmax()]
    label = page.run("document.getElementById('course').getAttribute('aria-label')")
    assert f"largest at {top_s:.2f} s" in label


def measure_curve(page: Page, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Share of opaque pixels in each column of a canvas, and in each row from the bottom up."""
    script = (
        f"(() => {{ const c = document.getElementById('{name}');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "const x = new Array(c.width).fill(0); const y = new Array(c.height).fill(0);"
        "for (let i = 0; i < c.width * c.height; i += 1) if (d[4 * i + 3] > 127) {"
        "x[i % c.width] += 1 / c.height; y[Math.floor(i / c.width)] += 1 / c.width; }"
        "return [x, y]; })()"
    )
    columns, rows = page.run(script)
    return np.array(columns), np.array(rows[::-1])


def test_curves_follow_activation_and_pattern(page: Page, reading: Reading) -> None:
    choose_feature(page, 0)
    features = ClipFeatures(reading, FIRST_CLIP, "block_1", "nmf")
    columns, _ = measure_curve(page, "course")
    _, rows = measure_curve(page, "pattern")  # stands upright: low frequencies at the bottom
    for drawn, values in ((columns, features.activations[0]), (rows, features.filters[:, 0])):
        places = np.linspace(0.5, len(values) - 0.5, len(drawn)).astype(int)
        assert np.corrcoef(drawn, values[places])[0, 1] > 0.95


def test_choices_lead_to_what_they_say(page: Page, reading: Reading) -> None:
    assert read_text(page, "verdict") == "block_1 explains more than chance."
    choose(page, "class", "middle")
    settle(page)
    options = page.run("[...document.getElementById('clip').options].map((o) => o.text)")
    assert options == ["clip 1", "clip 4, heard as high"]
    choose(page, "clip", "clip 4")
    choose(page, "layer", "block/2 out (20 features)")
    choose(page, "method", "mel basis")
    page.wait_for("document.getElementById('clip-facts').textContent.includes('hears high')")
    settle(page)
    assert "middle; the model hears high (70 %); fold 1." in read_text(page, "clip-facts")
    features = ClipFeatures(reading, 4, "block/2 out", "mel_basis")
    v = np.asarray(reading.spectrogram(4))
    assert_shows(page, "spectrogram", v, v.max())
    assert_shows(page, "reconstruction", features.filters @ features.activations, v.max())
    # The features come by their share, and the first is chosen.
    listed = "[...document.querySelectorAll('#features tr')].map((row) => +row.dataset.feature)"
    ranked = np.argsort(-features.shares).tolist()
    assert page.run(listed) == ranked[:12]
    assert read_text(page, "feature-title") == f"Feature {ranked[0]} of block/2 out"
    page.run("document.getElementById('all').click()")
    page.wait_for("document.querySelectorAll('#features tr').length === 20")
    choose(page, "order", "by number")
    page.wait_for(f"JSON.stringify({listed}) === '{json.dumps(list(range(20))).replace(' ', '')}'")
    page.run("document.getElementById('next').click()")
    settle(page)
    assert read_text(page, "feature-title").startswith(f"Feature {ranked[0] + 1} of")


def test_statistics_of_the_class(page: Page) -> None:
    choose(page, "class", "low <b>")
    page.wait_for("document.getElementById('clip-facts').textContent.startsWith('low')")
    settle(page)
    script = (
        "Object.fromEntries([...document.querySelectorAll('#features tr')].map((row) => "
        "[row.dataset.feature, row.querySelector('.statistic').textContent]))"
    )
    # Significant and of one sign, of unknown sign, and not significant.
    assert page.run(script) == {"0": "+1.00 *", "1": "−1.00", "2": "−1.00"}
    choose(page, "layer", "block/2 out")
    settle(page)
    assert page.run("[...document.querySelectorAll('.statistic')].every((e) => e.hidden)")


def test_sounds_play_and_a_line_follows(page: Page) -> None:
    for name in ("input-sound", "part-sound", "rest-sound"):
        page.wait_for(f"document.getElementById('{name}').duration > 0.74")
        page.run(f"document.getElementById('{name}').play()")
        page.wait_for(f"document.getElementById('{name}').currentTime > 0.1")
        assert page.run("document.querySelector('.cursor').style.visibility") == "visible"
    page.wait_for("document.getElementById('rest-sound').ended")
    # One sound at a time.
    page.run("document.getElementById('input-sound').loop = true")
    for name in ("input-sound", "part-sound"):
        page.run(f"document.getElementById('{name}').play()")
    page.wait_for("document.getElementById('input-sound').paused")


def fetch_sound(page: Page, name: str) -> np.ndarray:
    """Samples of a player, as it gets them."""
    script = (
        f"fetch(document.getElementById('{name}').src).then((r) => r.arrayBuffer()).then("
        "(b) => btoa([...new Uint8Array(b)].map((v) => String.fromCharCode(v)).join('')))"
    )
    content = base64.b64decode(page.run(script))
    info = soundfile.info(io.BytesIO(content))
    assert (info.samplerate, info.channels, info.subtype) == (RATE_HZ, 1, "PCM_16")
    return soundfile.read(io.BytesIO(content))[0]


def compute_error_db(heard: np.ndarray, expected: np.ndarray) -> float:
    return 10 * np.log10(np.square(heard - expected).sum() / np.square(expected).sum())


@pytest.mark.parametrize(
    "front_end",
    [
        {},
        {"n_fft": 300, "win_length": 201, "hop_length": 100, "window": "hann_symmetric"},
        {"n_fft": 221, "hop_length": 55, "center": False},
        {"n_fft": 256, "hop_length": 100, "pre_emphasis": 0.97, "pad_mode": "reflect"},
    ],
)
def test_sounds_are_those_that_python_makes(browser: Page, tmp_path: Path, front_end: Any) -> None:
    reading = write_reading_with_sounds(tmp_path, front_end)
    path = write_explorer(reading, tmp_path / "index.html")
    # The page's policy forbids every request, also the test's for the player's own sound.
    browser.call("Page.setBypassCSP", enabled=True)
    try:
        open_explorer(browser, path)
        features = ClipFeatures(reading, FIRST_CLIP, "block_1", "nmf")
        clip = features.waveform
        np.testing.assert_allclose(fetch_sound(browser, "input-sound"), clip, atol=0.51 / 32768)
        for feature in range(3):
            choose_feature(browser, feature)
            expected = features.rebuild(feature)
            # Half precision and 16 bits; measured -73 to -89 dB.
            heard = fetch_sound(browser, "part-sound")
            assert compute_error_db(heard, expected) < -60.0
            rest = fetch_sound(browser, "rest-sound")
            assert compute_error_db(rest, clip - expected) < -60.0
        choose(browser, "layer", "block/2 out")
        settle(browser)
        others = ClipFeatures(reading, FIRST_CLIP, "block/2 out", "nmf")
        first, second = np.argsort(-others.shares)[:2].tolist()
        browser.run(f"document.querySelector('tr[data-feature=\"{second}\"] "
                    "input[type=checkbox]').click()")  # fmt: skip
        settle(browser)
        expected = others.rebuild([first, second])
        assert compute_error_db(fetch_sound(browser, "part-sound"), expected) < -60.0
        assert read_text(browser, "part-name") == f"Features {min(first, second)} + " + str(
            max(first, second)
        )
        browser.run("document.getElementById('is-raised').click()")
        settle(browser)
        raised = fetch_sound(browser, "part-sound")
        assert np.abs(raised).max() == pytest.approx(np.abs(clip).max(), abs=1e-4)
        gain = np.abs(clip).max() / np.abs(expected).max()
        assert compute_error_db(raised, gain * expected) < -60.0
        command = read_text(browser, "command")
        assert command.endswith(
            "--clip 'clip 2' --layer 'block/2 out' --method nmf --feature "
            f"{min(first, second)} {max(first, second)} --out sound.wav"
        )
        # Features of another layer are others.
        choose(browser, "layer", "block_1")
        settle(browser)
        assert read_text(browser, "part-name") == f"Feature {features.shares.argmax()}"
        assert browser.complaints == []
    finally:
        browser.call("Page.setBypassCSP", enabled=False)


def test_keyboard_and_screen_reader(page: Page) -> None:
    choose(page, "layer", "block/2 out")
    settle(page)
    listed = "[...document.querySelectorAll('#features tr')].map((row) => +row.dataset.feature)"
    numbers = page.run(listed)
    page.run("document.querySelector('#features input:checked').focus()")
    page.press("ArrowDown", 2)
    settle(page)
    assert read_text(page, "feature-title") == f"Feature {numbers[2]} of block/2 out"
    focused = "document.activeElement.closest('tr')?.dataset.feature"
    assert page.run(focused) == str(numbers[2])
    roles = {"combobox", "radio", "checkbox", "button", "link", "image", "MenuListPopup"}
    nodes = page.accessibility_tree()
    found = [node for node in nodes if node["role"]["value"] in roles - {"MenuListPopup"}]
    assert {node["role"]["value"] for node in found} >= {"combobox", "radio", "checkbox", "image"}
    unnamed = [node for node in found if not node.get("name", {}).get("value")]
    assert unnamed == []
    names = {node["name"]["value"] for node in found}
    assert {"Layer", "Method that found the patterns", "Class of the clips", "Clip"} <= names


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_is_wider_than_the_window(page: Page, folder: Path, width: int) -> None:
    open_explorer(page, folder / "index.html", width)
    assert page.run("document.documentElement.scrollWidth") <= width
    out = page.run(
        "[...document.querySelectorAll('main *')].filter((e) => !e.closest('.scroll') && "
        "e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert out == []
    small = page.run(
        "[...document.querySelectorAll('select, button, a.button')].filter((e) => e.offsetParent &&"
        "e.getBoundingClientRect().height < 40).map((e) => e.id)"
    )
    assert small == []


def test_a_clip_without_its_sound_is_shown(browser: Page, tmp_path: Path) -> None:
    reading = write_reading_with_sounds(tmp_path)
    Path(reading.clips[FIRST_CLIP].path).unlink()
    path = write_explorer(reading, tmp_path / "index.html")
    browser.complaints.clear()
    browser.open(path.as_uri())
    browser.wait_for("document.getElementById('no-sound').textContent !== ''")
    assert "2.wav" in read_text(browser, "no-sound")
    assert page_hides(browser, "sounds") and not page_hides(browser, "no-sound")
    v = np.asarray(reading.spectrogram(FIRST_CLIP))
    assert_shows(browser, "spectrogram", v, v.max())
    choose(browser, "clip", "clip 5")
    browser.wait_for(READY)
    assert not page_hides(browser, "sounds") and page_hides(browser, "no-sound")
    assert browser.complaints == []


def test_nothing_but_silence(browser: Page, tmp_path: Path) -> None:
    write_reading_with_sounds(tmp_path)
    facts = json.loads((tmp_path / "reading/reading.json").read_text())
    for clip in facts["clips"]:
        clip["is_silent"] = True
        soundfile.write(clip["path"], np.zeros(6000), RATE_HZ)
    (tmp_path / "reading/reading.json").write_text(json.dumps(facts))
    for path in (tmp_path / "reading").rglob("*.npy"):
        np.load(path, mmap_mode="r+")[:] = 0.0
    path = write_explorer(Reading.open(tmp_path / "reading"), tmp_path / "index.html")
    open_explorer(browser, path)
    assert read_text(browser, "whole-facts") == "The spectrogram is 0 everywhere."
    assert read_text(browser, "sound-facts") == "Feature 0: silent. Everything else: silent."
    assert browser.complaints == []


def page_hides(page: Page, name: str) -> bool:
    return page.run(f"document.getElementById('{name}').hidden")


def test_a_damaged_page_says_so(browser: Page, reading: Reading, tmp_path: Path) -> None:
    source = (reading.folder.parent / "index.html").read_text(encoding="utf-8")
    start = source.index('id="clip-2">') + len('id="clip-2">')
    (tmp_path / "index.html").write_text(source[:start] + "AAAA" + source[start + 400 :], "utf-8")
    browser.open((tmp_path / "index.html").as_uri())
    browser.wait_for("!document.getElementById('problem').hidden")
    assert "cannot go on" in read_text(browser, "problem")
