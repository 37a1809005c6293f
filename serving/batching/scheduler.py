"""Threads that run batches, and the queues in which requests wait for one.

A queue holds the batches of one signature of one servable. A batch takes tasks of one key (the same
shapes, say) until it is full or has waited long enough; then the next free thread runs it. All
queues share the threads, in turn. Bounds and words are those of Serving's shared batch scheduler.
No TensorFlow and no NumPy here: a task is whatever the owner of the queue knows how to run.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from serving.errors import ServingError

Content = TypeVar("Content")


@dataclasses.dataclass(eq=False)
class Task(Generic[Content]):
    """One request, or a part of one, that waits for its batch.

    Args:
        content: what the owner of the queue needs to run it.
        num_rows: how much of a batch it takes.
        key: tasks share a batch only with tasks of an equal key.
        deadline: on the clock of ``time.monotonic``; None for none.

    Attributes:
        result: what the one who waits for it gets; cancelled when he does not wait any longer.
    """

    content: Content
    num_rows: int
    key: Hashable
    deadline: float | None = None
    result: Future[Any] = dataclasses.field(default_factory=Future)


@dataclasses.dataclass(frozen=True)
class BatchRun:
    """What is told of a batch that was run, for metrics.

    Args:
        num_tasks: requests, or parts of them, in it.
        num_rows: their rows together.
        waited_s: from the arrival of the first of them until it was run.
        ran_s: how long it ran.
    """

    num_tasks: int
    num_rows: int
    waited_s: float
    ran_s: float


ObserveBatch = Callable[[BatchRun], object]


@dataclasses.dataclass(eq=False)
class _Batch(Generic[Content]):
    key: Hashable
    opened_at: float
    tasks: list[Task[Content]] = dataclasses.field(default_factory=list)
    num_rows: int = 0
    is_full: bool = False


@dataclasses.dataclass(frozen=True)
class QueueLimits:
    """How a queue makes batches.

    Args:
        max_rows: rows of a batch at most.
        timeout_s: how long a batch that is not full waits for more.
        max_batches: how many may wait; tasks that need one more are refused.
    """

    max_rows: int
    timeout_s: float
    max_batches: int


class BatchQueue(Generic[Content]):
    """Tasks of one kind; made by ``BatchScheduler.add_queue``."""

    def __init__(
        self,
        scheduler: BatchScheduler,
        limits: QueueLimits,
        run_batch: Callable[[Sequence[Task[Content]]], None],
    ) -> None:
        self._scheduler = scheduler
        self._limits = limits
        self.run_batch = run_batch
        self._batches: deque[_Batch[Content]] = deque()

    def submit(self, tasks: Sequence[Task[Content]]) -> None:
        """Let tasks wait for their batches: all of them, or none.

        Args:
            tasks: parts of one request, each of ``max_rows`` at most.

        Raises:
            ServingError: UNAVAILABLE when the queue is full.
        """
        with self._scheduler.lock:
            num_new = self._count_new_batches(tasks)
            if num_new and len(self._batches) + num_new > self._limits.max_batches:
                raise ServingError(
                    "UNAVAILABLE",
                    "The batch scheduling queue to which this task was submitted is full; "
                    f"currently {len(self._batches)} batches enqueued and max_enqueued_batches is "
                    f"{self._limits.max_batches}",
                    retry_after_s=1,
                )
            for task in tasks:
                self._add(task)
            self._scheduler.wake()

    @property
    def num_tasks(self) -> int:
        """How many tasks wait; under the scheduler's lock."""
        return sum(len(batch.tasks) for batch in self._batches)

    @property
    def next_due(self) -> float | None:
        """When a batch is due, at the latest; None without any. Under the scheduler's lock."""
        times = [0.0 if b.is_full else b.opened_at + self._limits.timeout_s for b in self._batches]
        return min(times, default=None)

    def take(self, now: float) -> _Batch[Content] | None:
        """Take the first batch that is due out of the queue; under the scheduler's lock."""
        for batch in self._batches:
            if batch.is_full or now >= batch.opened_at + self._limits.timeout_s:
                self._batches.remove(batch)
                return batch
        return None

    def close_batches(self) -> None:
        """Let no batch wait any longer; under the scheduler's lock."""
        for batch in self._batches:
            batch.is_full = True

    def _find_open(self, task: Task[Content]) -> _Batch[Content] | None:
        for batch in self._batches:
            fits = batch.num_rows + task.num_rows <= self._limits.max_rows
            if not batch.is_full and batch.key == task.key and fits:
                return batch
        return None

    def _count_new_batches(self, tasks: Sequence[Task[Content]]) -> int:
        # The parts of one request are full batches of their own, but for the first and the last.
        return sum(self._find_open(task) is None for task in tasks)

    def _add(self, task: Task[Content]) -> None:
        batch = self._find_open(task)
        if batch is None:
            for other in self._batches:  # too small for this one: it waits no longer
                other.is_full = other.is_full or other.key == task.key
            batch = _Batch(task.key, time.monotonic())
            self._batches.append(batch)
        batch.tasks.append(task)
        batch.num_rows += task.num_rows
        batch.is_full = batch.num_rows >= self._limits.max_rows


class BatchScheduler:
    """Threads that run the batches of all queues, in turn.

    Args:
        num_threads: how many batches run at a time.
        observe: is told of each batch that was run.
    """

    def __init__(self, num_threads: int, observe: ObserveBatch | None = None) -> None:
        self.lock = threading.RLock()
        self._due = threading.Condition(self.lock)
        self._observe = observe
        self._queues: deque[BatchQueue[Any]] = deque()
        self._closing = False
        self._threads = [
            threading.Thread(target=self._run, name=f"batch-{number}", daemon=True)
            for number in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def num_queued(self) -> int:
        """How many tasks wait for a batch now."""
        with self.lock:
            return sum(queue.num_tasks for queue in self._queues)

    def add_queue(
        self, limits: QueueLimits, run_batch: Callable[[Sequence[Task[Content]]], None]
    ) -> BatchQueue[Content]:
        """Open a queue.

        Args:
            limits: of its batches.
            run_batch: sets the result of every task that it is given; an exception that it raises
                instead becomes the result of those that have none.
        """
        queue = BatchQueue(self, limits, run_batch)
        with self.lock:
            self._queues.append(queue)
        return queue

    def remove_queue(self, queue: BatchQueue[Any]) -> None:
        """Close a queue to which nothing is submitted any more, and that is empty."""
        with self.lock:
            self._queues.remove(queue)

    def wake(self) -> None:
        """Let a thread look for a batch; under the lock."""
        self._due.notify()

    def close(self) -> None:
        """Run what waits, then end the threads."""
        with self.lock:
            self._closing = True
            for queue in self._queues:
                queue.close_batches()
            self._due.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (taken := self._wait_for_batch()) is not None:
            queue, batch = taken
            started = time.monotonic()
            tasks = [task for task in batch.tasks if _start(task, started)]
            if not tasks:
                continue
            try:
                queue.run_batch(tasks)
            except Exception as error:  # the thread has other batches to run
                for task in tasks:
                    if not task.result.done():
                        task.result.set_exception(error)
            if self._observe is not None:
                num_rows = sum(task.num_rows for task in tasks)
                ran_s = time.monotonic() - started
                self._observe(BatchRun(len(tasks), num_rows, started - batch.opened_at, ran_s))

    def _wait_for_batch(self) -> tuple[BatchQueue[Any], _Batch[Any]] | None:
        with self.lock:
            while True:
                now = time.monotonic()
                for _ in range(len(self._queues)):
                    queue = self._queues[0]
                    self._queues.rotate(-1)
                    batch = queue.take(now)
                    if batch is not None:
                        if any(other.next_due is not None for other in self._queues):
                            self._due.notify()  # another thread must watch over what is left
                        return queue, batch
                times = [due for queue in self._queues if (due := queue.next_due) is not None]
                if not times and self._closing:
                    return None
                self._due.wait(max(min(times) - now, 0.0) if times else None)


def _start(task: Task[Any], now: float) -> bool:
    """Tell whether a task is still to be run; say so to its owner if it is too late for that."""
    if not task.result.set_running_or_notify_cancel():
        return False
    if task.deadline is not None and now >= task.deadline:
        task.result.set_exception(make_queue_timeout())
        return False
    return True


def make_queue_timeout() -> ServingError:
    """Make the error of a task whose time was over before a thread was free for it."""
    return ServingError(
        "RESOURCE_EXHAUSTED",
        "Run() timeout exceeded while waiting in batching queue",
        retry_after_s=1,
    )
