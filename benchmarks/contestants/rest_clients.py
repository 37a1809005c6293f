"""Concurrent clients of a REST server, in a process of their own.

Told on stdin how long to send (seconds, one number a line), it answers each line with one line of
JSON: latencies and failures of that time.
"""

from __future__ import annotations

import argparse
import functools
import json
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contestants.timed_threads import run_threads


class Client:
    """Sends one request after another on one connection, and reads each answer to its end."""

    def __init__(self, port: int, requests: Sequence[bytes]) -> None:
        self._requests = requests
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=120)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.latencies_s: list[float] = []
        self.failures: list[str] = []

    def run(self, first: int, until: float) -> None:
        """Send until a time on the clock of ``time.monotonic``; see what comes back."""
        self.latencies_s, self.failures = [], []
        number = first
        while (started := time.monotonic()) < until:
            request = self._requests[number % len(self._requests)]
            number += 1
            try:
                self._connection.sendall(request)
                status, body = self._read()
            except (OSError, ValueError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                return
            self.latencies_s.append(time.monotonic() - started)
            if status != 200 or b'"predictions"' not in body:
                self.failures.append(f"{status}: {body[:200]!r}")

    def _read(self) -> tuple[int, bytes]:
        reply = b""
        while b"\r\n\r\n" not in reply:
            piece = self._connection.recv(1 << 16)
            if not piece:
                raise ConnectionError("closed before the answer")
            reply += piece
        head, _, body = reply.partition(b"\r\n\r\n")
        (length,) = [
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        ]
        while len(body) < length:
            piece = self._connection.recv(1 << 16)
            if not piece:
                raise ConnectionError("closed within the answer")
            body += piece
        return int(head.split()[1]), body


def main(argv: Sequence[str] | None = None) -> int:
    """Connect, then send whenever told to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--bodies", type=Path, required=True, help="a folder of request bodies")
    arguments = parser.parse_args(argv)
    requests = []
    for file in sorted(arguments.bodies.iterdir()):
        body = file.read_bytes()
        head = f"POST {arguments.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        requests.append(head.encode() + body)
    clients = [Client(arguments.port, requests) for _ in range(arguments.clients)]
    for line in sys.stdin:
        works = [functools.partial(client.run, 7 * place) for place, client in enumerate(clients)]
        result = {
            **run_threads(works, float(line)),
            "latencies_s": [latency for client in clients for latency in client.latencies_s],
            "failures": [failure for client in clients for failure in client.failures],
        }
        print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
