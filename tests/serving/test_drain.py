"""A server that is told to stop answers what it has accepted, whatever state that is in."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from pathlib import Path

from tests.serving.running_server import RunningServer, in_background, read_answer, read_reply

PREDICT = "/v1/models/half:predict"


def post(body: bytes) -> bytes:
    return (
        f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )


def test_requests_that_run_and_that_wait_are_answered(tmp_path: Path) -> None:
    with RunningServer(tmp_path, num_threads=1) as server:
        server.gate.close()
        with in_background(*[lambda n=n: server.predict(n) for n in range(5)]) as answers:
            assert server.gate.entered.acquire(timeout=60)
            wait_for_places(server, 5)
            server.stop()
            assert wait_for_refusal(server)
            server.gate.open()
        server.wait()
        assert [answer.json for answer in answers] == [
            {"predictions": [n / 2 + 2]} for n in range(5)
        ]
        assert {answer.headers["connection"] for answer in answers} == {"close"}
        assert server.http.num_lost == 0


def wait_for_places(server: RunningServer, number: int) -> None:
    done = threading.Event()
    while server.services.work.running + server.services.work.waiting < number:
        assert not done.wait(0.01)


def wait_for_refusal(server: RunningServer) -> bool:
    """Until nobody can connect any more."""
    pause = threading.Event()
    for _ in range(6000):
        try:
            server.connect().close()
        except ConnectionRefusedError:
            return True
        pause.wait(0.01)
    return False


def test_health_says_so_and_a_connection_that_is_open_still_gets_its_answer(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        health = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        health.request("GET", "/healthz")
        assert read_answer(health).status == 200
        idle = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        idle.request("POST", PREDICT, b'{"instances": [1]}')
        assert read_answer(idle).status == 200
        server.gate.close()
        with in_background(lambda: server.predict(3)) as late:
            for _ in range(2):
                assert server.gate.entered.acquire(timeout=60)
            server.stop()
            assert wait_for_refusal(server)
            # Both connections were idle when the server was told to stop.
            health.request("GET", "/healthz")
            answer = read_answer(health)
            server.gate.open()
            idle.request("POST", PREDICT, b'{"instances": [2]}')
            accepted = read_answer(idle)
        assert (answer.status, answer.json) == (503, {"status": "draining"})
        assert accepted.json == {"predictions": [3.0]}
        assert accepted.headers["connection"] == "close"
        assert late[0].json == {"predictions": [3.5]}
        server.wait()


def test_a_connection_that_only_the_kernel_has_accepted_is_answered(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        accepted: list[socket.socket] = []

        def connect_and_stop() -> None:
            """In the server's loop, which cannot accept while this runs."""
            client = server.connect()
            client.sendall(post(b'{"instances": [1]}'))
            accepted.append(client)
            server.http.stop()

        assert server._loop is not None
        server._loop.call_soon_threadsafe(connect_and_stop)
        server.wait()
        with accepted[0] as client:
            assert b'"predictions": [2.5' in read_reply(client)


def test_a_body_that_is_on_its_way_is_waited_for(tmp_path: Path) -> None:
    body = json.dumps({"instances": [1.0]}).encode()
    with RunningServer(tmp_path) as server, server.connect() as client:
        client.sendall(post(body)[: -len(body) // 2])
        held = threading.Event()
        while not server.services.pending.held:
            held.wait(0.01)
        server.stop()
        assert wait_for_refusal(server)
        client.sendall(post(body)[-len(body) // 2 :])
        assert b'"predictions": [2.5' in read_reply(client)
        server.wait()


def test_the_time_to_drain_is_limited(tmp_path: Path) -> None:
    with RunningServer(tmp_path, drain_timeout_s=0.3) as server:
        server.gate.close()
        with in_background(lambda: server.predict(1)) as lost:
            assert server.gate.entered.acquire(timeout=60)
            server.stop()
            server.wait()
            assert server.http.num_lost == 1
            server.gate.open()
        assert isinstance(lost[0], (ConnectionError, http.client.HTTPException))


def test_idle_connections_do_not_hold_the_server_up(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        clients = [server.connect() for _ in range(3)]
        server.predict(1)
        server.stop()
        server.wait()
        assert [read_reply(client) for client in clients] == [b"", b"", b""]
        assert server.http.num_lost == 0
        for client in clients:
            client.close()
