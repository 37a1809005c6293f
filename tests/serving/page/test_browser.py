"""The page in a real browser, with fake models: what a user can do, see, hear of and reach."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from starlette.applications import Starlette

from serving.errors import ServingError
from serving.page.sound import PageLimits
from serving.page_api import page_routes
from serving.settings import ServerSettings
from tests.serving.page import fakes
from tests.serving.page.browser import Page, open_browser
from tests.serving.page.serving_thread import serve
from tests.serving.page.sounds import encode, tone

RATE_HZ = 16_000
READY = "!document.getElementById('file').disabled"
DONE = "document.getElementById('status').textContent.startsWith('Done')"
TEXT = "document.getElementById('{}').textContent"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    three = np.concatenate([tone(hz, 2.0, RATE_HZ) for hz in (200, 1_000, 3_000)])
    (folder / "three sounds.wav").write_bytes(encode(three, RATE_HZ))
    (folder / "hum.flac").write_bytes(encode(tone(200, 0.6, RATE_HZ), RATE_HZ, "FLAC"))
    # What the fake microphone hears again and again.
    (folder / "whistle.wav").write_bytes(encode(tone(3_000, 2.0, 48_000), 48_000))
    (folder / "nothing.wav").write_bytes(b"nothing")
    (folder / "large.wav").write_bytes(bytes(300_000))
    return folder


@pytest.fixture(scope="module")
def busy() -> list[int]:
    """How many more times the server says that it is busy."""
    return [0]


@pytest.fixture(scope="module")
def address(busy: list[int]) -> Iterator[str]:
    def be_busy(name: str, inputs: object) -> None:
        if name == "labels" and busy[0]:
            busy[0] -= 1
            raise ServingError("UNAVAILABLE", "The queue is full", 0)

    model = fakes.sound_model(2)
    model.on_run = be_busy
    manager = fakes.FakeManager(
        {
            "bands": [model, fakes.sound_model(1, without=["activations"])],
            "half_plus_two": [fakes.number_model()],
        }
    )
    limits = PageLimits(max_upload_bytes=250_000)
    with serve(Starlette(routes=page_routes(manager, ServerSettings(), limits))) as found:
        yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Page]:
    microphone = f"--use-file-for-fake-audio-capture={folder / 'whistle.wav'}"
    with open_browser(tmp_path_factory.mktemp("profile"), [microphone]) as page:
        yield page


@pytest.fixture
def page(browser: Page, address: str) -> Iterator[Page]:
    """The page, just opened; at the end, no complaints and no requests to anywhere else."""
    browser.requests.clear()
    browser.complaints.clear()
    browser.open(address)
    browser.wait_for(READY)
    yield browser
    assert {item for item in browser.requests if not is_local(item, address)} == set()
    assert browser.complaints == []


def is_local(url: str, address: str) -> bool:
    # blob: and data: come from the page itself, the latter as the player's own icons.
    return url.startswith((f"{address}/", "data:", f"blob:{address}/"))


def read_text(page: Page, name: str) -> str:
    return page.run(TEXT.format(name))


def read_bars(page: Page) -> dict[str, str]:
    script = (
        "Object.fromEntries([...document.querySelectorAll('#bars li')].map("
        "(item) => [item.children[0].textContent, item.children[1].textContent]))"
    )
    return page.run(script)


def analyse(page: Page, path: Path) -> None:
    page.choose_file("#file", path)
    page.wait_for(DONE)


def count_colours(page: Page, selector: str) -> int:
    """How many different pixels a canvas shows."""
    return page.run(
        f"(() => {{ const c = document.querySelector({json.dumps(selector)});"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "return new Set(new Uint32Array(d.buffer)).size; })()"
    )


def test_a_long_sound_from_file_to_features(page: Page, folder: Path) -> None:
    assert "3 kinds of sound, listens at 8 kHz" in read_text(page, "model-facts")
    analyse(page, folder / "three sounds.wav")
    assert read_text(page, "sound-name") == "three sounds.wav"
    assert read_text(page, "sound-facts").startswith("6.00 s · 16 kHz · mono · WAV")
    # Pictures show something: a canvas of one colour is empty.
    assert count_colours(page, "#wave") > 1
    assert count_colours(page, "#mel") > 20
    assert page.run("document.querySelectorAll('.lane canvas').length") == 3
    assert page.run("document.querySelectorAll('#channels canvas').length") == 8
    # Bars follow the position, which is moved with the keyboard.
    page.run("document.getElementById('position').focus()")
    page.press("Home")
    assert list(read_bars(page)) == ["low hum", "middle tone", "high whistle"]
    assert float(read_bars(page)["low hum"].removesuffix(" %")) > 99
    page.run("(() => { const p = document.getElementById('position'); p.value = 3; "
             "p.dispatchEvent(new Event('input')); })()")  # fmt: skip
    assert next(iter(read_bars(page))) == "middle tone"
    spoken = page.run("document.getElementById('position').getAttribute('aria-valuetext')")
    assert spoken.startswith("3.0 of 6.0 seconds, middle tone 100 %")
    # … and with the mouse, in any of the pictures.
    page.run("(() => { const r = document.getElementById('mel-plot').getBoundingClientRect();"
             "document.getElementById('mel-plot').dispatchEvent(new MouseEvent('click', "
             "{ clientX: r.left + 0.9 * r.width, bubbles: true })); })()")  # fmt: skip
    assert next(iter(read_bars(page))) == "high whistle"
    # Features of that moment, on request.
    assert page.run("!document.getElementById('features-here').hidden")
    page.run("document.getElementById('features-here').click()")
    page.wait_for(f"{TEXT.format('status')}.startsWith('Features from 5.00 s')")
    assert read_text(page, "features-facts").startswith("From 5.0 to 6.0 s")
    assert page.run("document.getElementById('features-here').hidden")
    # One layer alone, and the numbers.
    page.run("(() => { const s = document.getElementById('layer'); s.value = 'embedding'; "
             "s.dispatchEvent(new Event('change')); })()")  # fmt: skip
    assert page.run("document.querySelectorAll('#channels li').length") == 5
    rows = page.run("document.querySelectorAll('#table tbody tr').length")
    assert rows == 11


def test_the_sound_can_be_played(page: Page, folder: Path) -> None:
    analyse(page, folder / "three sounds.wav")
    page.wait_for("document.getElementById('player').readyState >= 2")
    assert page.run("document.getElementById('player').duration") == pytest.approx(6.0, abs=0.01)
    start = page.run("document.getElementById('player').currentTime")
    assert start == pytest.approx(page.run("Number(document.getElementById('position').value)"))
    page.run("document.getElementById('player').play()")
    page.wait_for(f"document.getElementById('player').currentTime > {start} + 0.3")
    page.run("document.getElementById('player').pause()")
    page.wait_for(f"Number(document.getElementById('position').value) > {start} + 0.2")


def test_a_short_sound_has_no_timeline(page: Page, folder: Path) -> None:
    analyse(page, folder / "hum.flac")
    assert page.run("document.getElementById('timeline').hidden")
    assert read_text(page, "scores-when") == "In the whole sound."
    assert next(iter(read_bars(page))) == "low hum"
    assert read_text(page, "status").startswith("Done: low hum, 100")


def test_a_file_can_be_dropped_anywhere(page: Page, folder: Path) -> None:
    content = (folder / "hum.flac").read_bytes()
    page.run(
        f"(() => {{ const data = new DataTransfer();"
        f"data.items.add(new File([new Uint8Array({list(content)})], 'dropped.flac'));"
        "for (const kind of ['dragover', 'drop']) document.querySelector('footer').dispatchEvent("
        "new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true })); })()"
    )
    page.wait_for(DONE)
    assert read_text(page, "sound-name") == "dropped.flac"


def test_the_microphone_is_recorded_and_heard(page: Page) -> None:
    page.run("document.getElementById('record').focus()")
    page.press("Enter")
    page.wait_for("!document.getElementById('recording').hidden")
    page.wait_for(f"{TEXT.format('clock')} === '0:02'")
    assert page.run("document.activeElement.id") == "stop"
    page.press("Enter")
    page.wait_for(DONE)
    assert read_text(page, "sound-name") == "Recording.wav"
    assert "mono · WAV, Signed 16 bit PCM" in read_text(page, "sound-facts")
    assert next(iter(read_bars(page))) == "high whistle"
    assert page.run("document.getElementById('recording').hidden")


def test_a_recording_can_be_thrown_away(page: Page) -> None:
    page.run("document.getElementById('record').click()")
    page.wait_for("!document.getElementById('recording').hidden")
    page.run("document.getElementById('discard').click()")
    assert page.run("document.getElementById('recording').hidden")
    assert page.run("document.getElementById('results').hidden")


def test_models_are_chosen_and_others_are_explained(page: Page, folder: Path) -> None:
    options = "[...document.getElementById('model').options].map((item) => item.text)"
    assert page.run(options) == ["bands, version 2", "bands, version 1"]
    assert read_text(page, "unusable-title") == "1 model cannot be used here"
    assert "half_plus_two, version 3: It does not take sound" in read_text(page, "unusable-list")
    analyse(page, folder / "hum.flac")
    page.run("(() => { const s = document.getElementById('model'); s.selectedIndex = 1; "
             "s.dispatchEvent(new Event('change')); })()")  # fmt: skip
    page.wait_for(f"{TEXT.format('features-facts')}.startsWith('This model gives none')")
    page.wait_for(DONE)
    assert any("version=1" in url for url in page.requests)


def test_what_goes_wrong_is_said(
    browser: Page, address: str, folder: Path, busy: list[int]
) -> None:
    browser.open(address)
    browser.wait_for(READY)
    problem = "!document.getElementById('problem').hidden"
    browser.choose_file("#file", folder / "nothing.wav")
    browser.wait_for(problem)
    assert read_text(browser, "problem").startswith("This is no sound file that can be read")
    browser.choose_file("#file", folder / "large.wav")
    browser.wait_for(f"{TEXT.format('problem')}.includes('large.wav is larger than')")
    # A server that is busy is asked again, and the problem before is forgotten.
    busy[0] = 2
    analyse(browser, folder / "hum.flac")
    assert busy == [0]
    assert browser.run("document.getElementById('problem').hidden")


def test_every_control_has_a_name_and_the_keyboard_reaches_it(page: Page, folder: Path) -> None:
    analyse(page, folder / "three sounds.wav")
    nodes = page.accessibility_tree()
    roles = {"button", "combobox", "slider", "textbox", "link", "image", "img", "list", "status"}
    unnamed = [
        node
        for node in nodes
        if node["role"]["value"] in roles - {"list", "status"}
        and not node.get("name", {}).get("value")
    ]
    assert unnamed == []
    headings = [n["name"]["value"] for n in nodes if n["role"]["value"] == "heading"]
    assert headings[0] == "Sound classifier"
    assert {"What the model hears", "Over time", "Most active hidden features"} <= set(headings)
    assert {"status", "main", "banner", "contentinfo"} <= {n["role"]["value"] for n in nodes}
    reached: list[str] = []
    page.run("document.activeElement.blur()")
    page.run("document.querySelector('.skip').focus()")
    for _ in range(20):
        page.press("Tab")
        reached.append(page.run("document.activeElement.id || document.activeElement.tagName"))
    wanted = ["model", "file", "record", "player", "position", "layer"]
    assert [name for name in dict.fromkeys(reached) if name in wanted] == wanted


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_its_ground(page: Page, folder: Path, dark: bool) -> None:
    """At least 4.5 to 1, WCAG 2.2's level AA, from the colours that the browser computes."""
    page.resize(1280, 900, dark)
    analyse(page, folder / "three sounds.wav")
    found: list[list[Any]] = page.run(CONTRASTS)
    assert len(found) > 40
    assert [item for item in found if item[0] < 4.5] == []


CONTRASTS = """(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const results = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
    if (element.closest('#mel-ticks') || element.closest('noscript')) continue;
    const pair = [parse(getComputedStyle(element).color), ground(element)].map(light).sort((a, b) => b - a);
    results.push([(pair[0] + 0.05) / (pair[1] + 0.05), walker.currentNode.textContent.trim()]);
  }
  return results;
})()"""  # noqa: E501


def test_a_phone_of_320_pixels_needs_no_sideways_scrolling(page: Page, folder: Path) -> None:
    page.resize(320, 640)
    analyse(page, folder / "three sounds.wav")
    assert page.run("document.documentElement.scrollWidth") == 320
    wide = page.run(
        "[...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() "
        "&& !e.closest('.scroll, .visually-hidden, .ticks, .skip')"
        "&& e.getBoundingClientRect().right > 320.5).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert wide == []
    small = page.run(
        "[...document.querySelectorAll('button, select, label.button')].filter((e) => "
        "e.checkVisibility() && e.getBoundingClientRect().height < 36).map((e) => e.id)"
    )
    assert small == []


def test_addresses_are_the_server_own(page: Page, address: str, folder: Path) -> None:
    analyse(page, folder / "hum.flac")
    hosts = {urlsplit(url).netloc for url in page.requests if url.startswith("http")}
    assert hosts == {urlsplit(address).netloc}
    # The policy forbids what the page does not do anyway.
    refused = page.run("fetch('http://localhost:9/x').then(() => 'sent', () => 'refused')")
    assert refused == "refused"
    assert any("Content Security Policy" in text for text in page.complaints)
    page.complaints.clear()
    page.requests[:] = [url for url in page.requests if "localhost:9" not in url]
