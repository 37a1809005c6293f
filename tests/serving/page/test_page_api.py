"""The page's routes: files and their headers, uploads, errors, and what is given back."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

import serving.page
from serving.errors import ServingError
from serving.page.sound import PageLimits
from serving.page_api import UPLOAD_TYPE, page_routes
from serving.settings import ServerSettings
from tests.serving.page import fakes
from tests.serving.page.serving_thread import serve
from tests.serving.page.sounds import encode, tone

FOLDER = Path(serving.page.__file__).parent
SOUND = encode(np.concatenate([tone(200, 2.0, 16_000), tone(3_000, 2.0, 16_000)]), 16_000)
HEADERS = {"Content-Type": UPLOAD_TYPE}


def make_manager() -> fakes.FakeManager:
    models = {
        "bands": [fakes.sound_model(1), fakes.sound_model(2)],
        "plain": [fakes.sound_model(without=["activations"])],
        "numbers": [fakes.number_model()],
        "broken": [],
    }
    return fakes.FakeManager(models)


@pytest.fixture
def manager() -> fakes.FakeManager:
    return make_manager()


@pytest.fixture
def client(manager: fakes.FakeManager) -> Iterator[TestClient]:
    with connect(manager) as found:
        yield found


def connect(
    manager: fakes.FakeManager, limits: PageLimits | None = None, **settings: Any
) -> TestClient:
    routes = page_routes(manager, ServerSettings(**settings), limits)
    return TestClient(Starlette(routes=routes), raise_server_exceptions=False)


def analyse(client: TestClient, content: bytes = SOUND, model: str = "bands") -> Any:
    return client.post(f"/page/analyse?model={model}", content=content, headers=HEADERS)


def read_lines(response: Any) -> list[dict]:
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


# --- files


def test_every_file_is_served_as_it_is_and_nothing_is_inline(client: TestClient) -> None:
    files = {path.name for path in FOLDER.iterdir() if path.suffix in (".html", ".js", ".css")}
    assert len(files) == 7
    types = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
    for name in files:
        response = client.get("/" if name == "index.html" else f"/page/{name}")
        assert response.status_code == 200
        assert response.content == (FOLDER / name).read_bytes()
        assert response.headers["content-type"] == f"{types[Path(name).suffix]}; charset=utf-8"
        assert response.headers["x-content-type-options"] == "nosniff"
        again = client.get(response.url, headers={"If-None-Match": response.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    page = (FOLDER / "index.html").read_text("utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)


def test_nothing_comes_from_elsewhere() -> None:
    for path in FOLDER.iterdir():
        if path.suffix in (".html", ".js", ".css"):
            found = re.findall(r"(?:https?:)?//[\w.]+\.\w+\S*", path.read_text("utf-8"))
            allowed = {"http://www.w3.org/2000/svg'"}  # a name, which nothing is loaded from
            assert {item for item in found if not item.startswith(tuple(allowed))} == set(), path


@pytest.mark.parametrize("path", ["/", "/page/page.js", "/page/models", "/page/analyse"])
def test_the_policy_is_strict_everywhere(client: TestClient, path: str) -> None:
    method = "POST" if path.endswith("analyse") else "GET"
    policy = client.request(method, path).headers["content-security-policy"]
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in policy and "http" not in policy and "*" not in policy


@pytest.mark.parametrize(
    "path",
    [
        "/page/../page_api.py",
        "/page/%2e%2e/page_api.py",
        "/page/sound.py",
        "/page//etc/passwd",
        "/page/",
    ],
)
def test_no_path_of_a_request_is_a_path_of_the_disk(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


# --- models


def test_models_with_the_reasons_of_those_that_cannot_be_used(client: TestClient) -> None:
    answer = client.get("/page/models").json()
    models = {(model["name"], model["version"]): model for model in answer["models"]}
    assert list(models) == [
        ("bands", 2),
        ("bands", 1),
        ("plain", 1),
        ("numbers", 3),
        ("broken", None),
    ]
    assert models["bands", 2] == {
        "name": "bands",
        "version": 2,
        "usable": True,
        "sample_rate_hz": 8_000,
        "window_s": 1.0,
        "has_features": True,
        "num_labels": 3,
    }
    assert models["plain", 1]["has_features"] is False
    assert "does not take sound" in models["numbers", 3]["reason"]
    assert models["broken", None]["reason"] == "saved_model.pb is damaged"
    assert answer["limits"]["max_upload_bytes"] == 64 << 20
    with connect(make_manager(), max_request_bytes=1_000) as small:
        assert small.get("/page/models").json()["limits"]["max_upload_bytes"] == 1_000


# --- analysis


def test_a_sound_is_analysed_line_by_line(client: TestClient, manager: fakes.FakeManager) -> None:
    lines = read_lines(analyse(client))
    assert [line["kind"] for line in lines] == ["sound", "progress", "scores", "features"]
    first = {row["label"]: row["probabilities"][0] for row in lines[2]["classes"]}
    assert first["low hum"] > 0.99
    assert manager.num_leases == 0


def test_versions_are_chosen_by_number(client: TestClient) -> None:
    url = "/page/analyse?model=bands&version="
    assert client.post(url + "1", content=SOUND, headers=HEADERS).status_code == 200
    assert client.post(url + "7", content=SOUND, headers=HEADERS).status_code == 404
    answer = client.post(url + "one", content=SOUND, headers=HEADERS)
    assert (answer.status_code, answer.json()) == (400, {"error": "version must be a number."})


def test_features_on_request(client: TestClient, manager: fakes.FakeManager) -> None:
    url = "/page/features?model=bands&start_s="
    answer = client.post(url + "2.5", content=SOUND, headers=HEADERS)
    assert answer.status_code == 200
    assert (answer.json()["start_s"], answer.json()["end_s"]) == (2.5, 3.5)
    assert len(answer.json()["layers"]) == 3
    for start_s, status in [("99", 422), ("nan", 400), ("1e999", 400), ("x", 400)]:
        assert client.post(url + start_s, content=SOUND, headers=HEADERS).status_code == status
    plain = client.post("/page/features?model=plain", content=SOUND, headers=HEADERS)
    assert (plain.status_code, "no hidden features" in plain.json()["error"]) == (422, True)
    assert manager.num_leases == 0


# --- what goes wrong


@pytest.mark.parametrize(
    ("model", "content", "status", "message"),
    [
        ("bands", b"nothing", 422, "This is no sound file"),
        ("bands", b"", 422, "The file is empty"),
        ("numbers", SOUND, 422, "It does not take sound"),
        ("none", SOUND, 404, "Servable not found"),
        ("", SOUND, 404, "Servable not found"),
    ],
)
def test_refusals_have_a_status_and_a_sentence(
    client: TestClient,
    manager: fakes.FakeManager,
    model: str,
    content: bytes,
    status: int,
    message: str,
) -> None:
    answer = analyse(client, content, model)
    assert answer.status_code == status
    assert message in answer.json()["error"]
    assert manager.num_leases == 0
    assert analyse(client).status_code == 200  # the place is free again


def test_a_page_of_another_origin_cannot_send_sounds(client: TestClient) -> None:
    """Browsers send these types anywhere without asking; the one that is wanted they do not."""
    for kind in ("text/plain", "multipart/form-data", "application/x-www-form-urlencoded", ""):
        answer = client.post(
            "/page/analyse?model=bands", content=SOUND, headers={"Content-Type": kind}
        )
        assert answer.status_code == 415
    assert client.options("/page/analyse").status_code == 405


def test_too_large_a_file_is_refused() -> None:
    with connect(make_manager(), PageLimits(max_upload_bytes=len(SOUND) - 1)) as client:
        answer = analyse(client)
        assert answer.status_code == 413
        assert "larger than" in answer.json()["error"]
    with connect(make_manager(), PageLimits(max_upload_bytes=len(SOUND))) as client:
        assert analyse(client).status_code == 200


def test_a_failure_on_the_way_is_told_in_the_last_line(manager: fakes.FakeManager) -> None:
    calls: list[str] = []

    def fail_late(name: str, inputs: object) -> None:
        calls.append(name)
        if calls.count("serving_default") == 1:
            raise ServingError("RESOURCE_EXHAUSTED", "out of memory")

    model = fakes.sound_model()
    model.on_run = fail_late
    manager = fakes.FakeManager({"bands": [model]})
    with connect(manager) as client:
        lines = read_lines(analyse(client))
    assert lines[0]["kind"] == "sound"
    assert lines[-1] == {"kind": "error", "error": "out of memory"}
    assert manager.num_leases == 0


def test_no_more_sounds_at_a_time_than_allowed() -> None:
    reached, go_on = threading.Event(), threading.Event()
    model = fakes.sound_model()

    def wait(name: str, inputs: object) -> None:
        if name == "serving_default":
            reached.set()
            assert go_on.wait(60)

    model.on_run = wait
    manager = fakes.FakeManager({"bands": [model]})
    with connect(manager, PageLimits(max_requests=1), retry_after_s=3) as client:
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(analyse(client)))
        thread.start()
        assert reached.wait(60)
        busy = analyse(client)
        assert (busy.status_code, busy.headers["retry-after"]) == (503, "3")
        assert manager.num_leases == 1
        go_on.set()
        thread.join(60)
        assert read_lines(answers[0])[-1]["kind"] == "features"
        assert analyse(client).status_code == 200
    assert manager.num_leases == 0


def test_what_a_client_that_leaves_held_is_given_back() -> None:
    reached, go_on, gone = threading.Event(), threading.Event(), threading.Event()
    model = fakes.sound_model()

    def wait(name: str, inputs: object) -> None:
        if name == "serving_default" and not go_on.is_set():
            reached.set()
            assert go_on.wait(60)

    class Manager(fakes.FakeManager):
        @contextlib.contextmanager
        def lease(self, *arguments: Any, **options: Any) -> Iterator[fakes.FakeServable]:
            try:
                with super().lease(*arguments, **options) as servable:
                    yield servable
            finally:
                gone.set()

    model.on_run = wait
    long = encode(np.tile(tone(200, 2.0, 16_000), 20), 16_000)
    manager = Manager({"bands": [model]})
    app = Starlette(routes=page_routes(manager, ServerSettings(), PageLimits(max_requests=1)))
    with serve(app) as address:
        place = urlsplit(address)
        assert place.hostname and place.port
        with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
            head = (
                f"POST /page/analyse?model=bands HTTP/1.1\r\nHost: x\r\nContent-Type: {UPLOAD_TYPE}"
            )
            connection.sendall(f"{head}\r\nContent-Length: {len(long)}\r\n\r\n".encode() + long)
            assert connection.recv(1).startswith(b"H")
            assert reached.wait(60)
        go_on.set()
        assert gone.wait(60)
        assert manager.num_leases == 0
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", "/page/features?model=bands", SOUND, HEADERS)
            assert connection.getresponse().status == 200


def test_mutated_sounds_never_fail_the_server(
    client: TestClient, manager: fakes.FakeManager
) -> None:
    rng = np.random.default_rng(1)
    sounds = [tone(440, 0.3, 16_000), np.zeros(1, np.float32)]
    contents = [encode(sound, 16_000, kind) for sound in sounds for kind in ("WAV", "FLAC", "OGG")]
    statuses = []
    for round_ in range(120):
        content = bytearray(contents[round_ % len(contents)])
        for place in rng.integers(0, min(len(content), 60), 3):
            content[place] = rng.integers(0, 256)
        answer = analyse(client, bytes(content[: rng.integers(1, len(content) + 1)]))
        statuses.append(answer.status_code)
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert lines[-1]["kind"] == "features" if answer.status_code == 200 else lines[0]["error"]
    assert set(statuses) == {200, 422}
    assert manager.num_leases == 0
