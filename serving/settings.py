"""What the server's parts need to know, apart from the models."""

from __future__ import annotations

import dataclasses

MIB = 1024 * 1024


@dataclasses.dataclass(frozen=True)
class ServerSettings:
    """Limits and habits of the HTTP and gRPC servers.

    Args:
        max_request_bytes: a longer body, also after decompression, is refused with 413.
        max_pending_bytes: bodies of all requests under way together; beyond it 503.
        num_threads: requests that are worked on at once.
        max_queue: requests that may wait for one of these threads; beyond it 503.
        request_timeout_s: from the last byte of a request to its answer, else 504; None: no limit.
        client_timeout_s: what a client may take for its head, and for its body beyond the time
            that a slow line needs; then 408.
        retry_after_s: what a refused client is told to wait.
        metrics_path: where Prometheus reads; None: nowhere.
        auth_token: what ``Authorization: Bearer`` must bring; None: nobody is asked.
        enable_cors: whether replies of the REST API say that any web page may read them.
        cors_origins: the web pages that may use everything here, such as ``https://example.org``.
    """

    max_request_bytes: int = 64 * MIB
    max_pending_bytes: int = 256 * MIB
    num_threads: int = 8
    max_queue: int = 256
    request_timeout_s: float | None = 30.0
    client_timeout_s: float = 20.0
    retry_after_s: int = 1
    metrics_path: str | None = None
    auth_token: str | None = None
    enable_cors: bool = False
    cors_origins: tuple[str, ...] = ()
