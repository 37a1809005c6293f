"""What signals do to the servers, in processes whose models need no TensorFlow."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.serving.running_server import read_reply
from tests.serving.server_process import ROOT

GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
HALF_A_POST = b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\n\r\n{"
THE_REST = b'"instances": [1]}'


@contextlib.contextmanager
def started(
    folder: Path, prepare: Callable[[], object] | None = None
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.serving.fake_process", str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def start_a_post(port: int) -> socket.socket:
    """A connection whose request the server knows, and has not got whole."""
    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    client.sendall(HALF_A_POST)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as other:
        other.sendall(GET)  # answered after the first was accepted
        assert other.recv(1 << 16)
    return client


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_waits_for_the_answers(tmp_path: Path, number: signal.Signals) -> None:
    def hear_ctrl_c() -> None:  # which a shell that runs the tests in the background took away
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with started(tmp_path, hear_ctrl_c) as (process, port), start_a_post(port) as client:
        process.send_signal(number)
        assert process.stderr is not None
        assert number.name in process.stderr.readline()
        client.sendall(THE_REST)
        assert b'"predictions": [2.5' in read_reply(client)
        assert process.wait(60) == 0


def test_the_second_signal_ends_at_once(tmp_path: Path) -> None:
    with started(tmp_path) as (process, port), start_a_post(port) as client:
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 1
        assert b"200 OK" not in read_reply(client)
        assert "1 requests were not answered in time" in process.stderr.read()


def test_ctrl_c_is_ignored_where_the_shell_said_so(tmp_path: Path) -> None:
    def ignore_ctrl_c() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    with started(tmp_path, ignore_ctrl_c) as (process, port):
        os.kill(process.pid, signal.SIGINT)
        with start_a_post(port) as client:
            client.sendall(THE_REST)
            assert b"200 OK" in client.recv(1 << 16)
        process.terminate()
        assert process.wait(60) == 0
