"""The client, against a small server that speaks Serving's REST dialect by hand."""

from __future__ import annotations

import base64
import contextlib
import http.server
import io
import json
import os
import socket
import subprocess
import sys
import threading
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from esc_tf.errors import RequestError
from serving.client import ClassScore, ServerError, ServingClient, main
from serving.wav_upload import is_wav_of_16_bits

ROOT = Path(__file__).resolve().parents[2]
RATE_HZ = 8_000
LABELS = ["quiet", "loud"]
PATH = "/v1/models/default"
PREDICT = {"method_name": "tensorflow/serving/predict"}
CLASSIFY = {"method_name": "tensorflow/serving/classify"}
SIGNATURES = {"serving_default": PREDICT, "wav_bytes": PREDICT, "classify": CLASSIFY}

Reply = tuple[int, dict[str, str], bytes]


def as_reply(value: Any, status: int = 200, **headers: str) -> Reply:
    fields = {key.replace("_", "-"): text for key, text in headers.items()}
    return status, fields, value if isinstance(value, bytes) else json.dumps(value).encode()


def score(waveform: np.ndarray) -> list[float]:
    peak = float(np.abs(waveform).max())
    return [1.0 - peak, peak]


class FakeModel:
    """Answers as Serving does: ``loud`` is as likely as the sound's peak is high."""

    def __init__(self, signatures: dict[str, Any] | None = None) -> None:
        self.signatures = SIGNATURES if signatures is None else signatures
        self.requests: list[tuple[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.clients: set[tuple[str, int]] = set()
        self.wav_files: list[bytes] = []
        #: Replies that come first, whatever is asked; None closes the connection.
        self.first: list[Reply | None] = []

    def answer(self, path: str, body: Any) -> Reply | None:
        self.requests.append((path, body))
        if self.first:
            return self.first.pop(0)
        if path == f"{PATH}/metadata":
            return as_reply({"metadata": {"signature_def": {"signature_def": self.signatures}}})
        if path == f"{PATH}:classify" and body["examples"] == [{"waveform": [0.0]}]:
            return as_reply({"results": [[[label, 0.5] for label in LABELS]]})
        if path.endswith(":predict"):
            (value,) = body["instances"]
            if body["signature_name"] == "wav_bytes":
                self.wav_files.append(base64.b64decode(value["b64"]))
                with wave.open(io.BytesIO(self.wav_files[-1])) as file:
                    samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
            else:
                samples = np.array(value)
            return as_reply({"predictions": [{"probabilities": score(samples), "logits": [0, 0]}]})
        return as_reply({"error": f"Malformed request: POST {path}"}, 404)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: FakeModel

    def do_GET(self) -> None:
        self.reply(None)

    def do_POST(self) -> None:
        self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def reply(self, body: Any) -> None:
        self.model.headers.append(dict(self.headers))
        self.model.clients.add(self.client_address)
        found = self.model.answer(self.path, body)
        if found is None:
            self.close_connection = True
            return
        status, headers, content = found
        self.send_response(status)
        for key, text in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(key, text)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        pass


@contextlib.contextmanager
def serve(model: FakeModel) -> Iterator[str]:
    handler = type("ModelHandler", (Handler,), {"model": model})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def url(model: FakeModel) -> Iterator[str]:
    with serve(model) as address:
        yield address


def write_tone(
    path: Path, peak: float = 0.75, rate_hz: int = RATE_HZ, subtype: str = "PCM_16"
) -> Path:
    waveform = peak * np.sin(2 * np.pi * 500 * np.arange(rate_hz // 10) / rate_hz)
    soundfile.write(path, waveform, rate_hz, subtype=subtype)
    return path


# --- what is sent


def test_a_16_bit_wav_file_is_sent_as_it_is(model: FakeModel, url: str, tmp_path: Path) -> None:
    path = write_tone(tmp_path / "tone.wav")
    with ServingClient(url) as client:
        scores = client.classify_file(path)
    assert model.wav_files == [path.read_bytes()]
    assert [entry.label for entry in scores] == ["loud", "quiet"]
    peak = np.abs(soundfile.read(path)[0]).max()
    assert scores == [ClassScore("loud", peak), ClassScore("quiet", 1.0 - peak)]


@pytest.mark.parametrize(
    ("name", "subtype"),
    [("a.flac", "PCM_24"), ("a.wav", "PCM_24"), ("a.wav", "FLOAT"), ("a.ogg", None)],
)
def test_other_files_are_converted_to_16_bit_wav(
    model: FakeModel, url: str, tmp_path: Path, name: str, subtype: str | None
) -> None:
    waveform = 0.5 * np.sin(np.arange(2_000) / 9.0)
    stereo = np.stack([waveform, -waveform], axis=1)
    soundfile.write(tmp_path / name, stereo, 44_100, subtype=subtype)
    with ServingClient(url) as client:
        client.classify_file(tmp_path / name)
    (sent,) = model.wav_files
    with wave.open(io.BytesIO(sent)) as file:
        assert (file.getsampwidth(), file.getnchannels(), file.getframerate()) == (2, 2, 44_100)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    decoded, _ = soundfile.read(tmp_path / name)
    assert np.abs(samples - 32768 * decoded).max() <= 0.51  # rounded to the nearest step


def test_wav_files_are_told_apart(tmp_path: Path) -> None:
    for name, subtype, is_plain in [
        ("a", "PCM_16", True),
        ("b", "PCM_24", False),
        ("c", "FLOAT", False),
    ]:
        path = write_tone(tmp_path / f"{name}.wav", subtype=subtype)
        assert is_wav_of_16_bits(path.read_bytes()) is is_plain, name
    assert not is_wav_of_16_bits(b"RIFF\0\0\0\0WAVE")
    assert not is_wav_of_16_bits(b"fLaC")
    # A chunk of odd length before the format, padded as the format wants it.
    content = write_tone(tmp_path / "d.wav").read_bytes()
    assert is_wav_of_16_bits(content[:12] + b"note\3\0\0\0abc\0" + content[12:])


def test_floats_for_a_model_without_wav_bytes(model: FakeModel, url: str, tmp_path: Path) -> None:
    model.signatures = {"serving_default": PREDICT}
    path = write_tone(tmp_path / "tone.wav", rate_hz=16_000)
    with ServingClient(url, sample_rate_hz=RATE_HZ) as client:
        scores = client.classify_file(path)
    _, request = model.requests[-1]
    assert request["signature_name"] == "serving_default"
    assert len(request["instances"][0]) == RATE_HZ // 10
    assert {entry.label for entry in scores} == {"class 0", "class 1"}
    with ServingClient(url) as client, pytest.raises(RequestError, match="--sample-rate HZ"):
        client.classify_file(path)


def test_versions_labels_and_names_are_in_the_path(
    tmp_path: Path, model: FakeModel, url: str
) -> None:
    path = write_tone(tmp_path / "tone.wav")
    options: dict[str, Any] = {"signature": "wav_bytes", "label_names": LABELS}
    for client, expected in [
        (
            ServingClient(url, "a b/c", version=3, **options),
            "/v1/models/a%20b%2Fc/versions/3:predict",
        ),
        (ServingClient(url, "m", label="stable", **options), "/v1/models/m/labels/stable:predict"),
        (
            ServingClient(f"{url}/v1/models/m/versions/2", **options),
            "/v1/models/m/versions/2:predict",
        ),
        (ServingClient(f"{url}/prefix/", "m", **options), "/prefix/v1/models/m:predict"),
    ]:
        with client:
            client.classify_file(path)
        assert model.requests[-1][0] == expected


def test_one_connection_and_one_question_for_labels(
    model: FakeModel, url: str, tmp_path: Path
) -> None:
    paths = [write_tone(tmp_path / f"{peak}.wav", peak) for peak in (0.25, 0.75)]
    with ServingClient(url, token="secret") as client:
        found = [client.classify_file(path)[0].label for path in paths]
    assert found == ["quiet", "loud"]
    assert len(model.clients) == 1
    assert [path.removeprefix(PATH) for path, _ in model.requests] == [
        "/metadata",
        ":predict",
        ":classify",
        ":predict",
    ]
    assert {headers["Authorization"] for headers in model.headers} == {"Bearer secret"}


# --- a server in trouble


def test_a_busy_server_is_asked_again_when_it_says(
    model: FakeModel, url: str, tmp_path: Path
) -> None:
    busy = as_reply({"error": "The queue is full"}, 503, Retry_After="7")
    model.first = [busy, as_reply(b"", 503), None]
    waits: list[float] = []
    with ServingClient(url, sleep=waits.append) as client:
        assert client.classify_file(write_tone(tmp_path / "a.wav"))[0].label == "loud"
    assert len(waits) == 3
    assert waits[0] == 7.0
    assert 0.5 <= waits[1] <= 1.0  # half to all of the second step
    assert 1.0 <= waits[2] <= 2.0


def test_a_server_that_stays_busy_fails(model: FakeModel, url: str, tmp_path: Path) -> None:
    model.first = [as_reply({"error": "The queue is full"}, 503)] * 9
    waits: list[float] = []
    with (
        ServingClient(url, retries=2, sleep=waits.append) as client,
        pytest.raises(ServerError, match=r"answers 503 \(The queue is full\)"),
    ):
        client.fetch_signatures()
    assert len(waits) == 2
    assert len(model.requests) == 3


def test_no_server_and_a_silent_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        # Accepted by the operating system, answered by nobody.
        client = ServingClient(f"http://127.0.0.1:{port}", timeout_s=0.05)
        with client, pytest.raises(ServerError, match="no answer .timed out; see --timeout"):
            client.fetch_signatures()
    waits: list[float] = []
    with (
        ServingClient(f"http://127.0.0.1:{port}", sleep=waits.append) as client,
        pytest.raises(ServerError, match="Connection refused"),
    ):
        client.fetch_signatures()
    assert waits == []


@pytest.mark.parametrize(
    "url",
    ["localhost:8501", "ftp://host", "http://", "http://h:x", "http://u:p@h", "http://h/?a=b"],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(RequestError, match=r"is no address of a server; write http://HOST:PORT"):
        ServingClient(url)


# --- answers that say something else


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (as_reply({"error": "Servable not found"}, 404), RequestError, "404 .Servable not found"),
        (as_reply(b"<html>", 502), ServerError, "502 and nothing that can be understood"),
        (as_reply(b"[" * 100_000), ServerError, "200 and nothing that can be understood"),
        (as_reply({"metadata": {}}), ServerError, "tells no signatures"),
    ],
)
def test_answers_of_no_use(
    model: FakeModel, url: str, reply: Reply, kind: type[Exception], message: str
) -> None:
    model.first = [reply]
    with ServingClient(url) as client, pytest.raises(kind, match=message):
        client.fetch_signatures()


def test_labels_that_do_not_fit_are_refused(url: str, tmp_path: Path) -> None:
    path = write_tone(tmp_path / "tone.wav")
    with (
        ServingClient(url, label_names=["one"]) as client,
        pytest.raises(RequestError, match="1 labels do not fit 2 classes"),
    ):
        client.classify_file(path)


# --- the command


def test_the_command_names_what_it_can_and_says_what_it_cannot(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write_tone(tmp_path / "good.wav")
    (tmp_path / "bad.flac").write_bytes(b"nothing")
    files = [str(tmp_path / "bad.flac"), str(tmp_path / "none.wav"), str(good)]
    assert main([url, *files, "--json", "--top-k", "1"]) == 2
    out, err = capsys.readouterr()
    line = json.loads(out)
    assert line["file"] == str(good)
    assert [entry["label"] for entry in line["labels"]] == ["loud"]
    first, second = err.splitlines()
    assert first.startswith("error: ") and "bad.flac: no sound that can be read" in first
    assert second.endswith("none.wav: cannot be read (No such file or directory)")
    assert main([url, str(good)]) == 0
    assert capsys.readouterr().out == f"{good}: loud 0.750, quiet 0.250\n"


def test_the_command_ends_with_1_for_a_failing_server(
    model: FakeModel, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.first = [as_reply({"error": "out of memory"}, 500)]
    assert main([url, str(write_tone(tmp_path / "a.wav"))]) == 1
    assert "the server answers 500 (out of memory)" in capsys.readouterr().err


def test_wav_files_need_neither_numpy_nor_tensorflow(url: str, tmp_path: Path) -> None:
    path = write_tone(tmp_path / "a.wav")
    code = (
        "import sys; from serving.client import main; code = main(sys.argv[1:]);"
        "print(sorted({'numpy', 'tensorflow', 'soundfile'} & set(sys.modules)), code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, url, str(path)],
        cwd=ROOT,
        env={**os.environ, "ESC_TF_SERVING_TOKEN": "t"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "[] 0", done.stderr


@pytest.mark.parametrize(
    "option", [["--timeout", "0"], ["--top-k", "x"], ["--version", "1", "--label", "a"]]
)
def test_wrong_options_end_with_2(option: list[str]) -> None:
    assert main(["http://localhost:1", "a.wav", *option]) == 2
