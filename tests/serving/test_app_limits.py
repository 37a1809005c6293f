"""Limits on what clients send: length, slowness, how much of all of them together."""

from __future__ import annotations

import gzip
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.running_server import RunningServer, in_background, read_answer, read_reply

LIMIT = 100_000
PREDICT = "/v1/models/half:predict"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("models")
    settings = {"max_request_bytes": LIMIT, "max_pending_bytes": 150_000, "client_timeout_s": 1.0}
    with RunningServer(folder, metrics_path="/metrics", **settings) as running:
        yield running


def post_head(length: int, *more: str) -> bytes:
    lines = [f"POST {PREDICT} HTTP/1.1", "Host: x", f"Content-Length: {length}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


# --- length


def test_a_body_at_the_limit_is_read(server: RunningServer) -> None:
    body = json.dumps({"instances": [1.0]}).encode().ljust(LIMIT)
    assert server.request("POST", PREDICT, body).json == {"predictions": [2.5]}


def test_a_body_beyond_the_limit_is_refused_before_it_is_sent(server: RunningServer) -> None:
    with server.connect() as client:
        client.sendall(post_head(LIMIT + 1, "Expect: 100-continue"))
        reply = read_reply(client)  # comes although no byte of the body does
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert f"longer than {LIMIT} bytes".encode() in reply
    assert b"100 Continue" not in reply


def test_a_client_that_sends_it_all_the_same_gets_its_answer(server: RunningServer) -> None:
    answer = server.request("POST", PREDICT, b" " * (50 * LIMIT))
    assert answer.status == 413
    assert answer.headers["connection"] == "close"
    assert answer.error == f"The request is longer than {LIMIT} bytes"


def test_a_body_of_unknown_length_is_refused_once_it_is_too_long(server: RunningServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    pieces = (b" " * 10_000 for _ in range(200))
    connection.request("POST", PREDICT, pieces, encode_chunked=True)
    answer = read_answer(connection)
    assert (answer.status, server.services.pending.held) == (413, 0)


def test_the_page_has_the_same_limit(server: RunningServer) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    answer = server.request("POST", "/page/analyse?model=half", b"x" * (LIMIT + 1), headers)
    assert answer.status == 413


# --- compression


def test_a_gzip_body_is_read_as_serving_reads_it(server: RunningServer) -> None:
    body = gzip.compress(b'{"instances": [1.0]}')
    answer = server.request("POST", PREDICT, body, {"Content-Encoding": "gzip"})
    assert answer.json == {"predictions": [2.5]}


@pytest.mark.parametrize(
    # Without the time of day, which would give each process tests of its own names.
    "body",
    [b"no gzip", gzip.compress(b'{"instances": [1.0]}', mtime=0)[:-12]],
    ids=["no gzip", "cut short"],
)
def test_a_damaged_gzip_body_is_refused(server: RunningServer, body: bytes) -> None:
    answer = server.request("POST", PREDICT, body, {"Content-Encoding": "gzip"})
    assert (answer.status, answer.error) == (400, "Failed to uncompress the gzipped body")


def test_a_bomb_is_not_unpacked(server: RunningServer) -> None:
    bomb = gzip.compress(b" " * (10 * LIMIT))
    assert len(bomb) < LIMIT / 50
    answer = server.request("POST", PREDICT, bomb, {"Content-Encoding": "gzip"})
    assert (answer.status, server.services.pending.held) == (413, 0)


# --- all together


def test_bodies_under_way_share_one_limit(server: RunningServer) -> None:
    with server.connect() as first:
        first.sendall(post_head(LIMIT) + b" " * 80_000)
        wait_until(lambda: server.services.pending.held >= 80_000)
        answer = server.request("POST", PREDICT, b" " * 80_000)
        assert answer.status == 503
        assert answer.headers["retry-after"] == "1"
    wait_until(lambda: server.services.pending.held == 0)
    assert server.predict(1.0).status == 200


def wait_until(is_so: object) -> None:
    deadline = time.monotonic() + 60
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- slowness


def test_a_client_that_stalls_in_the_head_is_let_go(server: RunningServer) -> None:
    with server.connect() as client:
        client.sendall(f"POST {PREDICT} HTTP/1.1\r\nHost:".encode())
        reply = read_reply(client)
    assert reply.startswith(b"HTTP/1.1 408 ")
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["error"].startswith(
        "The head of the request"
    )


def test_a_client_that_says_nothing_is_let_go_without_a_word(server: RunningServer) -> None:
    with server.connect() as client:
        assert read_reply(client) == b""


def test_a_client_that_stalls_in_the_body_is_let_go(server: RunningServer) -> None:
    with server.connect() as client:
        client.sendall(post_head(1000) + b'{"instances": ')
        reply = read_reply(client)
    assert reply.startswith(b"HTTP/1.1 408 ")
    assert server.find_record(status=408)["request_bytes"] == 14


def test_a_second_request_on_a_connection_may_not_stall_either(server: RunningServer) -> None:
    with server.connect() as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /hea")
        reply = read_reply(client)
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in reply


def test_a_slow_body_that_keeps_coming_is_read(server: RunningServer) -> None:
    body = json.dumps({"instances": [1.0]}).encode().ljust(30_000)
    with server.connect() as client:  # 12 kB a second, for longer than the client timeout
        client.sendall(post_head(len(body), "Connection: close"))
        for start in range(0, len(body), 3000):
            client.sendall(body[start : start + 3000])
            time.sleep(0.25)
        assert read_reply(client).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_does_not_read_loses_its_connection(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.services.metrics, "render", lambda: b"x" * (64 << 20))
    with server.connect() as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: server.http.server_state.connections)
        wait_until(lambda: not server.http.server_state.connections)
        assert len(read_reply(client)) < 64 << 20


def test_refusals_are_counted(server: RunningServer) -> None:
    page = server.request("GET", "/metrics").body.decode()
    for reason in ("too_large", "memory", "slow_client"):
        assert f'esc_tf_serving_refused_requests_total{{reason="{reason}"}}' in page


# --- the queue


def test_what_finds_no_place_in_the_queue_is_refused_at_once(tmp_path: Path) -> None:
    with RunningServer(tmp_path, num_threads=1, max_queue=1, metrics_path="/metrics") as server:
        server.gate.close()
        with in_background(lambda: server.predict(1.0)) as first:
            assert server.gate.entered.acquire(timeout=60)
            with in_background(lambda: server.predict(2.0)) as second:
                wait_until(lambda: server.services.work.waiting == 1)
                refused = server.predict(3.0)
                # What needs no model is answered all the while.
                assert server.request("GET", "/v1/models/half").status == 200
                assert server.request("GET", "/healthz").status == 200
                page = server.request("GET", "/metrics").body
                server.gate.open()
        assert refused.status == 503
        assert refused.headers["retry-after"] == "1"
        assert "queue is full" in refused.error
        assert b"esc_tf_serving_queue_length 1.0" in page
        assert (first[0].json, second[0].json) == ({"predictions": [2.5]}, {"predictions": [3.0]})
        assert server.predict(3.0).status == 200


def test_a_request_that_takes_too_long_is_answered_in_time(tmp_path: Path) -> None:
    with RunningServer(tmp_path, num_threads=1, request_timeout_s=0.5) as server:
        server.gate.close()
        running = server.predict(1.0)
        waiting = server.predict(2.0)
        assert (running.status, waiting.status) == (504, 504)
        assert running.error == waiting.error == "Timed out waiting for notification"
        server.gate.open()
        wait_until(lambda: not server.services.work.running)
        assert server.gate.num_runs == 1  # nobody waited for the second any more
        assert server.predict(2.0).status == 200


def test_work_whose_client_is_gone_is_not_begun(tmp_path: Path) -> None:
    with RunningServer(tmp_path, num_threads=1) as server:
        server.gate.close()
        body = b'{"instances": [1.0]}'
        with in_background(lambda: server.predict(1.0)):
            assert server.gate.entered.acquire(timeout=60)
            with server.connect() as client:
                client.sendall(post_head(len(body)) + body)
                wait_until(lambda: server.services.work.waiting == 1)
            wait_until(lambda: server.services.work.waiting == 0)
            server.gate.open()
        assert server.predict(2.0).status == 200
        assert server.gate.num_runs == 2
        assert server.find_record(status=499)["path"] == PREDICT
