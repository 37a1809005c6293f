"""Which requests are worked on now, which wait, and which are turned away.

Work is done in a fixed number of threads, which all use the one instance of a model. Requests that
find no free thread wait in a queue of bounded length; what does not fit is refused at once, since a
reply that comes too late costs the same work and helps nobody.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from serving.errors import ServingError

T = TypeVar("T")


class ClientGoneError(Exception):
    """The client closed its connection before it had its answer."""


class _Job(Generic[T]):
    """Work that lets go of its request when nobody waits for it any more.

    A cancelled job stays in the executor's queue until a thread comes to it; the request's body
    should not.
    """

    def __init__(self, work: Callable[[], T], deadline: float | None) -> None:
        self._work: Callable[[], T] | None = work
        self._deadline = deadline

    def forget(self) -> None:
        self._work = None

    def do(self) -> T:
        work, self._work = self._work, None
        if work is None or (self._deadline is not None and time.monotonic() >= self._deadline):
            raise deadline_exceeded()
        return work()


class WorkQueue:
    """Threads with a bounded queue in front of them.

    Args:
        num_threads: pieces of work done at once.
        max_queue: pieces of work that may wait.
        retry_after_s: what a refused client is told to wait.
    """

    def __init__(self, num_threads: int, max_queue: int, retry_after_s: int = 1) -> None:
        self._executor = concurrent.futures.ThreadPoolExecutor(num_threads, "request")
        self._capacity = num_threads + max_queue
        self._retry_after_s = retry_after_s
        self._lock = threading.Lock()
        self._admitted = 0
        self._running = 0

    @property
    def running(self) -> int:
        """Pieces of work that have a thread."""
        return self._running

    @property
    def waiting(self) -> int:
        """Pieces of work that wait for one."""
        return max(0, self._admitted - self._running)

    async def run(
        self,
        work: Callable[[], T],
        deadline: float | None = None,
        gone: Callable[[], Awaitable[object]] | None = None,
    ) -> T:
        """Do ``work`` in a thread, and wait for its result.

        Args:
            work: what to do; it should itself stop at the deadline if it can.
            deadline: in seconds of ``time.monotonic``; None: whenever it is done.
            gone: what it returns is done once nobody waits for the result any more.

        Returns:
            What ``work`` returns.

        Raises:
            ServingError: UNAVAILABLE, the queue is full; DEADLINE_EXCEEDED, it took too long. Work
                that has a thread then still goes on to its end, and keeps its place until then.
            ClientGoneError: what ``gone`` returned was done first.
        """
        job = _Job(work, deadline)
        waiter = asyncio.wrap_future(self._submit(job))
        watched: set[asyncio.Future[Any]] = {waiter}
        departure = asyncio.ensure_future(gone()) if gone is not None else None
        if departure is not None:
            watched.add(departure)
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            done, _ = await asyncio.wait(
                watched, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            if departure is not None:
                departure.cancel()
            if not waiter.done():
                waiter.cancel()  # frees the place, if it still waits for a thread
                job.forget()
        if waiter in done:
            return waiter.result()
        if departure is not None and departure in done:
            raise ClientGoneError
        raise deadline_exceeded()

    def close(self) -> None:
        """Let the threads end once they are idle."""
        self._executor.shutdown(wait=False)

    def _submit(self, job: _Job[T]) -> concurrent.futures.Future[T]:
        with self._lock:
            if self._admitted >= self._capacity:
                raise ServingError(
                    "UNAVAILABLE",
                    f"The queue is full: {self._capacity} requests are under way",
                    self._retry_after_s,
                )
            self._admitted += 1
        try:
            future = self._executor.submit(self._do, job)
        except RuntimeError:  # the threads have been told to end
            self._leave(None)
            raise ServingError("UNAVAILABLE", "The server is shutting down") from None
        future.add_done_callback(self._leave)
        return future

    def _do(self, job: _Job[T]) -> T:
        with self._lock:
            self._running += 1
        try:
            return job.do()
        finally:
            with self._lock:
                self._running -= 1

    def _leave(self, _: object) -> None:
        with self._lock:
            self._admitted -= 1


def deadline_exceeded() -> ServingError:
    """The error of a request whose time is over."""
    return ServingError("DEADLINE_EXCEEDED", "Timed out waiting for notification")
