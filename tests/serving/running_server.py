"""A real HTTP server in a thread, and the few ways in which tests talk to it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.access_log import AccessLog
from serving.app import create_app
from serving.envelope import Draining
from serving.http_server import HttpServer
from serving.lifecycle import bind
from tests.serving.fake_models import Gate, build_services


@dataclass
class Answer:
    """What came back: status, headers with names in lower case, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return self.json["error"]


class RunningServer:
    """The application with a fake model behind uvicorn."""

    def __init__(self, folder: Path, drain_timeout_s: float = 60.0, **settings: Any) -> None:
        self.gate = Gate()
        self.services = build_services(folder, self.gate, **settings)
        self.draining = Draining()
        self.log = io.StringIO()
        self._listening = threading.Event()
        app = create_app(self.services, AccessLog("json", self.log), self.draining)
        self.http = HttpServer(
            app,
            self.draining,
            self.services.settings.client_timeout_s,
            drain_timeout_s,
            self._listening.set,
        )
        self._socket = bind("127.0.0.1", 0)
        self.port = self._socket.getsockname()[1]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> RunningServer:
        self._thread.start()
        assert self._listening.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.open()
        self.stop()
        self.wait()
        self.services.close()
        self.services.manager.close()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self.http.serve([self._socket])

    def stop(self) -> None:
        """As SIGTERM does it."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # has ended
            self._loop.call_soon_threadsafe(self.http.stop)

    def wait(self) -> None:
        """Until the server has ended."""
        self._thread.join(60)
        assert not self._thread.is_alive()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own; a body that is no bytes goes as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, content, dict(headers or {}))
            return read_answer(connection)

    def predict(self, *values: float, **options: Any) -> Answer:
        return self.request("POST", "/v1/models/half:predict", {"instances": values}, **options)

    def find_record(self, **fields: Any) -> dict[str, Any]:
        """The newest line of the access log with these values; waits for it.

        A line is written after its reply.
        """
        pause = threading.Event()
        for _ in range(6000):
            for line in reversed(self.log.getvalue().splitlines()):
                record: dict[str, Any] = json.loads(line)
                if fields.items() <= record.items():
                    return record
            pause.wait(0.01)
        raise AssertionError(f"no line with {fields}")


def read_answer(connection: http.client.HTTPConnection) -> Answer:
    response = connection.getresponse()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


def read_reply(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    pieces = []
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(1 << 16):
            pieces.append(piece)
    return b"".join(pieces)


@contextlib.contextmanager
def in_background(*works: Any, patience_s: float = 60) -> Iterator[list[Any]]:
    """Runs each in a thread; results in their order, complete at the end of the block."""
    results: list[Any] = [None] * len(works)

    def run(place: int) -> None:
        try:
            results[place] = works[place]()
        except BaseException as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(works))]
    for thread in threads:
        thread.start()
    yield results
    for thread in threads:
        thread.join(patience_s)
        assert not thread.is_alive()
