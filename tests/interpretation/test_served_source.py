"""Activations from a server, against a small one that speaks Serving's REST dialect by hand."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from esc_tf.errors import EscTfError, RequestError
from esc_tf.interpretation.activation_sources import open_source
from esc_tf.interpretation.model_facts import ModelFacts
from esc_tf.interpretation.served_source import ServedSource

FACTS = ModelFacts(sample_rate_hz=8000, num_samples=4)
PATH = "/v1/models/sounds"
OUTPUTS = {"logits": {}, "block1": {}}
Reply = tuple[int, dict[str, str], Any]


class FakeServer:
    """One signature, whose ``block1`` is the waveform as a map of one band and channel."""

    def __init__(self) -> None:
        self.signatures: Any = {"activations": {"outputs": OUTPUTS}}
        self.requests: list[Any] = []
        self.tokens: list[str | None] = []
        #: Replies to predictions that come first.
        self.first: list[Reply] = []

    def answer(self, path: str, body: Any) -> Reply:
        if path == f"{PATH}/metadata":
            signatures = {"signature_def": {"signature_def": self.signatures}}
            return 200, {}, {"metadata": signatures}
        if path != f"{PATH}:predict":
            return 404, {}, {"error": "Could not find any versions of model none"}
        self.requests.append(body)
        if self.first:
            return self.first.pop(0)
        (waveform,) = body["instances"]
        block = [[[value]] for value in waveform]
        return 200, {}, {"predictions": [{"logits": [1.0, 2.0], "block1": block}]}


@contextlib.contextmanager
def serve(fake: FakeServer) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(None)

        def do_POST(self) -> None:
            self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def reply(self, body: Any) -> None:
            fake.tokens.append(self.headers.get("Authorization"))
            status, headers, value = fake.answer(self.path, body)
            content = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for key, text in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(key, text)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def fake() -> FakeServer:
    return FakeServer()


@pytest.fixture
def address(fake: FakeServer) -> Iterator[str]:
    with serve(fake) as found:
        yield found + PATH


WAVEFORMS = [np.array([0.1, -0.5, 1.0, 0.0], np.float32), np.array([0.25], np.float32)]


def test_each_clip_is_one_request_of_its_own_length(fake: FakeServer, address: str) -> None:
    source = ServedSource(address, FACTS)
    assert source.activation_names == ("logits", "block1")
    for waveform in WAVEFORMS:
        (found,) = source.compute([waveform], ["block1"])["block1"]
        # A float32 survives being written in decimals, to the last bit.
        np.testing.assert_array_equal(found.ravel(), waveform)
        assert found.dtype == np.float32
    both = source.compute([WAVEFORMS[0], WAVEFORMS[0]], ["logits", "block1"])
    assert both["logits"].tolist() == [[1.0, 2.0]] * 2 and both["block1"].shape == (2, 4, 1, 1)
    assert [len(request["instances"]) for request in fake.requests] == [1] * 4
    assert {request["signature_name"] for request in fake.requests} == {"activations"}
    assert set(fake.tokens) == {None}


def test_a_busy_server_is_asked_again(fake: FakeServer, address: str) -> None:
    busy = {"error": "queue is full"}
    fake.first = [(503, {"Retry-After": "7"}, busy), (503, {}, busy), (503, {}, busy)]
    waits: list[float] = []
    source = ServedSource(address, FACTS, token="secret", sleep=waits.append)
    assert len(source.compute([WAVEFORMS[0]], ["block1"])["block1"]) == 1
    assert waits == [7.0, 1.0, 2.0]
    assert set(fake.tokens) == {"Bearer secret"}


def test_a_server_that_stays_busy_is_given_up(fake: FakeServer, address: str) -> None:
    fake.first = [(503, {"Retry-After": "999"}, {"error": "queue is full"})] * 9
    waits: list[float] = []
    source = ServedSource(address, FACTS, sleep=waits.append)
    with pytest.raises(EscTfError, match=r"answers 503 \(queue is full\)"):
        source.compute([WAVEFORMS[0]], ["block1"])
    assert waits == [30.0] * 5


@pytest.mark.parametrize(
    ("status", "content", "kind", "words"),
    [
        (400, {"error": "too long"}, RequestError, r"answers 400 \(too long\)"),
        (500, b"<html>", EscTfError, r"answers 500 \(Internal Server Error\)"),
        (200, b"hello", EscTfError, "something else than JSON"),
        (200, {"predictions": [{"logits": [1.0]}]}, EscTfError, "without the activations .*block1"),
        (200, {"predictions": []}, EscTfError, "without the activations"),
    ],
)
def test_refusals_and_nonsense(
    fake: FakeServer, address: str, status: int, content: Any, kind: type, words: str
) -> None:
    source = ServedSource(address, FACTS)
    fake.first = [(status, {}, content)]
    with pytest.raises(EscTfError, match=words) as caught:
        source.compute([WAVEFORMS[0]], ["block1"])
    assert type(caught.value) is kind


def test_models_without_activations(fake: FakeServer, address: str) -> None:
    with pytest.raises(RequestError, match=r"answers 404 \(Could not find any versions"):
        ServedSource(address.replace("sounds", "none"), FACTS)
    fake.signatures = {"serving_default": {"outputs": OUTPUTS}}
    with pytest.raises(RequestError, match="no signature activations; serve an export"):
        ServedSource(address, FACTS)
    fake.signatures = []
    with pytest.raises(EscTfError, match="tells no signatures"):
        ServedSource(address, FACTS)


def test_addresses() -> None:
    for wrong in ("http://localhost:8501", "http:///v1/models/a", "http://a/v1/models/b?c=d"):
        with pytest.raises(RequestError, match="is no address of a served model"):
            ServedSource(wrong, FACTS)
    with pytest.raises(RequestError, match="name the model_card.json of the export too"):
        open_source("http://localhost:8501/v1/models/sounds")


def test_nobody_there() -> None:
    with serve(FakeServer()) as base:
        pass
    with pytest.raises(EscTfError, match="no answer .*is the server running there"):
        ServedSource(base + PATH, FACTS)
