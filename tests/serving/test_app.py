"""The HTTP application around the REST dialect: routes, errors, token, CORS, metrics, log."""

from __future__ import annotations

import base64
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.access_log import AccessLog, AccessRecord
from tests.serving.running_server import RunningServer

STATUS = "/v1/models/half"
PREDICT = "/v1/models/half:predict"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("models"), metrics_path="/metrics") as running:
        yield running


# --- routes


def test_predict_status_and_metadata(server: RunningServer) -> None:
    assert server.predict(1, 2).json == {"predictions": [2.5, 3.0]}
    versioned = server.request("POST", f"{STATUS}/versions/1:predict", {"inputs": [4]})
    assert versioned.json == {"outputs": [4.0]}
    (status,) = server.request("GET", STATUS).json["model_version_status"]
    assert (status["version"], status["state"]) == ("1", "AVAILABLE")
    metadata = server.request("GET", f"{STATUS}/metadata").json
    assert metadata["model_spec"] == {"name": "half", "version": "1", "signature_name": ""}


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/v1/models/none", 404, "Could not find any versions of model none"),
        ("GET", f"{STATUS}/versions/7", 404, "Could not find version 7 of model half"),
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("GET", f"{STATUS}?x=1%20", 404, "Could not find any versions of model half?x=1 "),
        ("PUT", STATUS, 400, f"Malformed request: PUT {STATUS}"),
        ("DELETE", PREDICT, 400, f"Malformed request: DELETE {PREDICT}"),
        ("POST", f"{STATUS}:guess", 400, f"Malformed request: POST {STATUS}:guess"),
        ("POST", "/v1/models/none:predict", 404, "Servable not found for request: Latest(none)"),
        ("GET", "/v1/models/half%0A/metadata/x", 400, "Malformed request: GET "),
        ("GET", "/v2/models", 404, "Not Found: GET /v2/models"),
        ("GET", "/healthz/no", 404, "Not Found: GET /healthz/no"),
    ],
)
def test_errors_are_json_with_servings_status(
    server: RunningServer, method: str, path: str, status: int, error: str
) -> None:
    body = {"instances": [1]} if method == "POST" else None
    answer = server.request(method, path, body)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.error.startswith(error)


def test_head_has_no_body(server: RunningServer) -> None:
    answer = server.request("HEAD", STATUS)
    assert (answer.status, answer.body) == (400, b"")


def test_an_error_of_the_model_keeps_its_code_and_says_when_to_come_again(
    server: RunningServer,
) -> None:
    answer = server.predict(-2)
    assert (answer.status, answer.error) == (503, "come again")
    assert answer.headers["retry-after"] == "7"


def test_an_error_that_nobody_expected_is_a_500_with_a_body(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    answer = server.predict(-1)
    assert answer.status == 500
    assert answer.error == "Internal error; the server's log says more"
    assert "an error that nobody expected" in caplog.text
    assert server.find_record(status=500)["error"] == "RuntimeError: an error that nobody expected"
    assert server.predict(1).status == 200


def test_no_http_at_all_is_a_400_with_a_body(server: RunningServer) -> None:
    with server.connect() as client:
        client.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        reply = client.recv(1 << 16)
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert "error" in json.loads(reply.partition(b"\r\n\r\n")[2])


def test_requests_on_one_connection(server: RunningServer) -> None:
    request = f"GET {STATUS} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with server.connect() as client:
        client.sendall(3 * request)
        reply = b""
        while reply.count(b"AVAILABLE") < 3:
            reply += client.recv(1 << 16)
    assert reply.count(b"HTTP/1.1 200 OK") == 3


# --- the file system

_opened: list[str] = []
_watching = False


def _note_file(event: str, arguments: tuple[Any, ...]) -> None:
    # The models' folders are looked at by a thread of their own, whatever requests say.
    if not _watching or threading.current_thread().name == "model-manager":
        return
    if event in ("open", "os.listdir", "os.scandir", "glob.glob"):
        _opened.append(f"{event} {arguments[0]}")


sys.addaudithook(_note_file)


@pytest.mark.parametrize("name", ["..%2f..%2fetc", "%2e%2e", "half%00", "%2Fetc%2Fpasswd", "C:%5C"])
def test_no_name_in_a_request_is_looked_for_on_disk(server: RunningServer, name: str) -> None:
    global _watching
    server.predict(1)  # whatever is imported on first use
    server.request("GET", "/page/models")
    _opened.clear()
    _watching = True
    try:
        for path in (
            f"/v1/models/{name}",
            f"/v1/models/{name}/metadata",
            f"/v1/models/half/labels/{name}",
            f"/page/{name}",
            f"/{name}",
        ):
            assert server.request("GET", path).status in (200, 400, 404)
        for path in (f"/v1/models/{name}:predict", f"/page/analyse?model={name}"):
            headers = {"Content-Type": "application/octet-stream"}
            answer = server.request("POST", path, b'{"instances": [1]}', headers)
            assert answer.status in (400, 404, 422)
    finally:
        _watching = False
    assert _opened == []


# --- health


def test_health(server: RunningServer) -> None:
    answer = server.request("GET", "/healthz")
    assert (answer.status, answer.json) == (200, {"status": "ok"})


# --- metrics


def read_metric(server: RunningServer, line: str) -> float:
    page = server.request("GET", "/metrics").body.decode()
    values = [row.rpartition(" ")[2] for row in page.splitlines() if row.startswith(line)]
    return sum(map(float, values))


def test_metrics_have_servings_names(server: RunningServer) -> None:
    counted = ':tensorflow:serving:request_count{model_name="half",status="OK"}'
    latency = ':tensorflow:serving:request_latency_count{API="predict",entrypoint="REST",'
    runtime = ':tensorflow:serving:runtime_latency_count{API="Predict",model_name="half",'
    before = [read_metric(server, line) for line in (counted, latency, runtime)]
    server.predict(1)
    server.request("POST", PREDICT, b"")
    after = [read_metric(server, line) for line in (counted, latency, runtime)]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1]
    page = server.request("GET", "/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert b"# TYPE :tensorflow:serving:request_count counter\n" in page.body


def test_failures_are_counted_by_their_code(server: RunningServer) -> None:
    line = ':tensorflow:serving:request_count{model_name="half",status="INVALID_ARGUMENT"}'
    before = read_metric(server, line)
    server.request("POST", PREDICT, b"")
    assert read_metric(server, line) == before + 1


def test_names_that_clients_make_up_cost_no_memory(server: RunningServer) -> None:
    for number in range(20):
        server.request("GET", f"/v1/models/invented_{number}")
    assert b"invented" not in server.request("GET", "/metrics").body


def test_buckets_are_servings(server: RunningServer) -> None:
    server.predict(1)
    page = server.request("GET", "/metrics").body.decode()
    start = ':tensorflow:serving:request_latency_bucket{API="predict"'
    rows = [row for row in page.splitlines() if row.startswith(start)]
    limits = [row.split('le="')[1].split('"')[0] for row in rows]
    assert limits[:3] == ["10.0", "18.0", "32.4"]
    assert (len(limits), limits[-1]) == (34, "+Inf")


# --- the access log


def test_each_request_is_a_line_of_json(server: RunningServer) -> None:
    server.predict(1, 2, 3)
    size = len('{"instances": [1, 2, 3]}')
    record = server.find_record(request_bytes=size)
    assert record.pop("duration_ms") > 0
    assert record.pop("client").startswith("127.0.0.1:")
    assert record.pop("time").endswith("+00:00")
    expected = {"protocol": "HTTP", "method": "POST", "path": PREDICT, "status": 200}
    sizes = {"request_bytes": size, "response_bytes": 43}
    assert record == {**expected, **sizes, "model": "half"}


def test_no_request_can_forge_a_line(server: RunningServer) -> None:
    server.request("GET", "/v1/models/x%0A%7B%22status%22/versions/1")
    record = server.find_record(model='x\n{"status"')
    assert record["path"] == "/v1/models/x%0A%7B%22status%22/versions/1"


def test_the_log_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    record = AccessRecord(client="c:1", method="GET", path='/"\n', status=404, error="no\nline")
    AccessLog("text").write(record)
    AccessLog("none").write(record)
    line, rest = capsys.readouterr().out.split("\n")
    assert line.endswith(r'c:1 HTTP GET "/\"\n" 404 0.0ms 0B 0B "no\nline"')
    assert rest == ""


# --- the token


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("guarded")
    settings = {"auth_token": "s3cret", "cors_origins": ("https://friend.example",)}
    with RunningServer(folder, metrics_path="/metrics", **settings) as running:
        yield running


@pytest.mark.parametrize("path", [STATUS, "/V1/models/half", "/", "/page/models", "/metrics"])
@pytest.mark.parametrize(
    "given", [None, "Bearer wrong", "Bearer", "s3cret", "Basic !!!", "Bearer é"]
)
def test_without_the_token_nothing_is_told(
    guarded: RunningServer, path: str, given: str | None
) -> None:
    answer = guarded.request("GET", path, headers={} if given is None else {"Authorization": given})
    assert answer.status == 401
    assert "token" in answer.error
    scheme = "Bearer" if path.lower().startswith("/v1") else "Basic"
    assert answer.headers["www-authenticate"].startswith(scheme)


def test_with_the_token(guarded: RunningServer) -> None:
    headers = {"Authorization": "Bearer s3cret"}
    assert guarded.predict(1, headers=headers).json == {"predictions": [2.5]}
    assert guarded.request("GET", "/metrics", headers=headers).status == 200
    assert guarded.request("GET", "/healthz").status == 200


def test_a_browser_may_bring_it_as_a_password_to_the_page_alone(guarded: RunningServer) -> None:
    headers = {"Authorization": "Basic " + base64.b64encode(b"anyone:s3cret").decode()}
    assert guarded.request("GET", "/page/models", headers=headers).status == 200
    assert guarded.request("GET", STATUS, headers=headers).status == 401


# --- web pages of other origins


def cors_headers(headers: Any) -> dict[str, str]:
    return {k: v for k, v in headers.items() if k.startswith("access-control-")}


def test_no_foreign_page_is_allowed_by_default(server: RunningServer) -> None:
    headers = {"Origin": "https://evil.example"}
    assert cors_headers(server.predict(1, headers=headers).headers) == {}
    preflight = server.request("OPTIONS", PREDICT, headers=headers)
    assert (preflight.status, preflight.body, cors_headers(preflight.headers)) == (200, b"", {})
    assert server.request("OPTIONS", PREDICT).status == 400
    assert server.request("OPTIONS", "/page/models", headers=headers).status in (404, 405)


def test_servings_own_cors_support(tmp_path: Path) -> None:
    with RunningServer(tmp_path, enable_cors=True) as server:
        answer = server.predict(1, headers={"Origin": "https://any.example"})
        assert cors_headers(answer.headers) == {
            "access-control-allow-origin": "*",
            "access-control-allow-methods": "POST, GET",
            "access-control-allow-headers": "Content-Type",
        }
        page = server.request("GET", "/page/models", headers={"Origin": "https://any.example"})
        assert cors_headers(page.headers) == {}


def test_a_page_that_is_named_may_use_everything(guarded: RunningServer) -> None:
    origin = "https://friend.example"
    for path in (PREDICT, "/page/models"):
        preflight = guarded.request("OPTIONS", path, headers={"Origin": origin})
        assert preflight.status in (200, 204)
        assert preflight.headers["access-control-allow-origin"] == origin
        assert "Authorization" in preflight.headers["access-control-allow-headers"]
    headers = {"Origin": origin, "Authorization": "Bearer s3cret"}
    assert guarded.predict(1, headers=headers).headers["access-control-allow-origin"] == origin
    foreign = {"Origin": "https://friend.example.evil", "Authorization": "Bearer s3cret"}
    answer = guarded.predict(1, headers=foreign)
    assert cors_headers(answer.headers) == {}
    assert "Origin" in answer.headers["vary"]
