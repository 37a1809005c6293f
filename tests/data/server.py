"""A local HTTP server that serves one file and misbehaves when it is asked to."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator


class OneFileServer(http.server.ThreadingHTTPServer):
    """Serves ``content`` under every path.

    Attributes:
        content: the file.
        etag: its validator; None: none is sent.
        ranges: whether parts are sent.
        cut_after: bytes after which a connection is cut; None: never. Counted down once for each
            entry of a list, so that later connections live.
        status: answered instead of the file; None: the file.
        requests: the Range header of every request, None where there was none.
    """

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.etag: str | None = '"one"'
        self.ranges = True
        self.cut_after: list[int] = []
        self.status: int | None = None
        self.sends_length = True
        self.requests: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/archive.zip"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: OneFileServer

    def do_GET(self) -> None:  # noqa: N802
        server, asked = self.server, self.headers.get("Range")
        server.requests.append(asked)
        if server.status is not None:
            self.send_error(server.status)
            return
        start, total = 0, len(server.content)
        if asked and server.ranges and self.headers.get("If-Range") == server.etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        if server.etag:
            self.send_header("ETag", server.etag)
        if server.sends_length:
            self.send_header("Content-Length", str(total - start))
        self.end_headers()
        body = server.content[start:]
        cut = server.cut_after.pop(0) if server.cut_after else len(body)
        self.wfile.write(body[:cut])
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def serve(content: bytes) -> Iterator[OneFileServer]:
    """A server in a thread, stopped at the end."""
    with OneFileServer(content) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
