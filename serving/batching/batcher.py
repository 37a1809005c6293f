"""Runs the calls of one servable together, so that each gets what it would get alone.

A call that cannot share a batch runs by itself: one with inputs of different numbers of rows, and
one of a signature with a fixed number of rows or with outputs that are not per row. When a batch
fails, its calls are run one by one, so that only those fail that are to blame.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from serving.batching.arrays import count_rows, make_key, merge, split, split_rows
from serving.batching.parameters import BatchingParameters
from serving.batching.scheduler import (
    BatchQueue,
    BatchScheduler,
    QueueLimits,
    Task,
    make_queue_timeout,
)
from serving.errors import ServingError
from serving.models.servable import check_deadline, make_timeout
from serving.signatures import Signature, TensorSpec

Arrays = Mapping[str, np.ndarray]
#: As ``serving.models.servable.Execute``.
Execute = Callable[[str, Arrays, Sequence[str]], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class _Call:
    inputs: Arrays
    outputs: Sequence[str]


class ServableBatcher:
    """Batches the calls of one servable, each signature in a queue of its own.

    Args:
        scheduler: whose threads run the batches.
        execute: runs the servable.
        parameters: of the batches.
    """

    def __init__(
        self, scheduler: BatchScheduler, execute: Execute, parameters: BatchingParameters
    ) -> None:
        self._scheduler = scheduler
        self._execute = execute
        self._parameters = parameters
        self._queues: dict[str, BatchQueue[_Call]] = {}
        self._alone: set[str] = set()

    def run(
        self,
        signature: Signature,
        inputs: Arrays,
        outputs: Sequence[str],
        deadline: float | None,
    ) -> dict[str, np.ndarray]:
        """Run a call, together with others if that can be. Blocks.

        Args:
            signature: to call.
            inputs: complete, by alias.
            outputs: aliases of those wanted.
            deadline: on the clock of ``time.monotonic``; None for none.

        Raises:
            ServingError: INVALID_ARGUMENT for more rows than ``max_batch_size``; UNAVAILABLE when
                the queue is full; RESOURCE_EXHAUSTED when the time is over before a thread was
                free, DEADLINE_EXCEEDED when it is over while the call runs; and what the servable
                itself raises.
        """
        num_rows = count_rows(inputs)
        if num_rows is None or signature.name in self._alone or not has_free_rows(signature):
            return self._execute(signature.name, inputs, outputs)
        if num_rows > self._parameters.max_batch_size:
            raise ServingError(
                "INVALID_ARGUMENT",
                f"Task size {num_rows} is larger than maximum input batch size "
                f"{self._parameters.max_batch_size}",
            )
        key = (tuple(outputs), make_key(inputs, self._parameters.pad_variable_length_inputs))
        step = self._parameters.max_rows
        parts = [split_rows(inputs, first, step) for first in range(0, num_rows, step)]
        tasks: list[Task[_Call]] = [
            Task(_Call(part, outputs), min(step, num_rows - place * step), key, deadline)
            for place, part in enumerate(parts)
        ]
        self._find_queue(signature.name).submit(tasks)
        results = [_wait_for(task) for task in tasks]
        if len(results) == 1:
            return results[0]
        if not all(_has_rows(result, task) for result, task in zip(results, tasks, strict=True)):
            self._alone.add(signature.name)
            return self._execute(signature.name, inputs, outputs)
        return {alias: np.concatenate([result[alias] for result in results]) for alias in outputs}

    def close(self) -> None:
        """Give the queues back. No call may be running."""
        for queue in self._queues.values():
            self._scheduler.remove_queue(queue)
        self._queues.clear()

    def _find_queue(self, signature_name: str) -> BatchQueue[_Call]:
        with self._scheduler.lock:
            if signature_name not in self._queues:
                limits = QueueLimits(
                    max_rows=self._parameters.max_rows,
                    timeout_s=1e-6 * self._parameters.batch_timeout_micros,
                    max_batches=self._parameters.max_enqueued_batches,
                )
                run_batch = functools.partial(self._run_batch, signature_name)
                self._queues[signature_name] = self._scheduler.add_queue(limits, run_batch)
            return self._queues[signature_name]

    def _run_batch(self, signature_name: str, tasks: Sequence[Task[_Call]]) -> None:
        outputs = tasks[0].content.outputs
        sizes = [task.num_rows for task in tasks]
        num_rows = self._parameters.choose_size(sum(sizes))
        try:
            merged = merge([task.content.inputs for task in tasks], num_rows)
            results = self._execute(signature_name, merged, outputs)
        except Exception:
            self._run_alone(signature_name, tasks)
            return
        parts = [results] if sizes == [num_rows] else split(results, sizes, num_rows)
        if parts is None:
            self._alone.add(signature_name)
            self._run_alone(signature_name, tasks)
            return
        for task, part in zip(tasks, parts, strict=True):
            task.result.set_result(part)

    def _run_alone(self, signature_name: str, tasks: Sequence[Task[_Call]]) -> None:
        """Run each call of a batch by itself, so that it gets its own result or its own error."""
        for task in tasks:
            try:
                check_deadline(task.deadline)
                call = task.content
                task.result.set_result(self._execute(signature_name, call.inputs, call.outputs))
            except Exception as error:
                task.result.set_exception(error)


def has_free_rows(signature: Signature) -> bool:
    """Tell whether all inputs and outputs of a signature may have any number of rows."""
    return all(map(_has_free_rows, (*signature.inputs.values(), *signature.outputs.values())))


def _has_free_rows(spec: TensorSpec) -> bool:
    return spec.shape is None or (len(spec.shape) > 0 and spec.shape[0] is None)


def _has_rows(results: Arrays, task: Task[_Call]) -> bool:
    return all(value.shape[:1] == (task.num_rows,) for value in results.values())


def _wait_for(task: Task[_Call]) -> dict[str, np.ndarray]:
    limit_s = None if task.deadline is None else max(task.deadline - time.monotonic(), 0.0)
    try:
        results: dict[str, np.ndarray] = task.result.result(limit_s)
    except concurrent.futures.TimeoutError:
        if task.result.cancel():
            raise make_queue_timeout() from None
        raise make_timeout() from None
    return results
