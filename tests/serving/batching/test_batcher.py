"""Calls that share a batch get what they would get alone; nothing here loads TensorFlow."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from serving.batching.batcher import ServableBatcher
from serving.batching.parameters import BatchingParameters
from serving.batching.scheduler import BatchRun, BatchScheduler
from serving.errors import ServingError
from tests.serving.batching.gates import WAIT_S, GatedSum, make_signature

FREE = make_signature()
NEVER_MICROS = 10**12


def rows(*values: float, width: int = 2) -> dict[str, np.ndarray]:
    """One row for each value, which comes ``width`` times."""
    return {"x": np.repeat(np.array(values, np.float32)[:, None], width, axis=1)}


class Bench:
    """A batcher with its scheduler, and threads that call it."""

    def __init__(self, servable: Any, **parameters: Any) -> None:
        given = BatchingParameters(**{"num_batch_threads": 1, **parameters})
        self.runs: list[BatchRun] = []
        self.scheduler = BatchScheduler(given.num_batch_threads, self.runs.append)
        self.batcher = ServableBatcher(self.scheduler, servable, given)
        self._clients = ThreadPoolExecutor(32)

    def call(self, inputs: dict[str, np.ndarray], **how: Any) -> Future[dict[str, np.ndarray]]:
        """Call in a thread of its own."""
        signature = how.pop("signature", FREE)
        deadline = how.pop("deadline", None)
        return self._clients.submit(self.batcher.run, signature, inputs, ("y",), deadline)

    def wait_until_queued(self, num_calls: int) -> None:
        end = time.monotonic() + WAIT_S
        while self.scheduler.num_queued != num_calls:
            assert time.monotonic() < end
            threading.Event().wait(0.001)

    def close(self) -> None:
        self.scheduler.close()
        self._clients.shutdown()


@contextmanager
def bench(servable: Any, **parameters: Any) -> Iterator[Bench]:
    made = Bench(servable, **parameters)
    try:
        yield made
    finally:
        if isinstance(servable, GatedSum):
            servable.gate.set()
        made.close()


def y_of(future: Future[dict[str, np.ndarray]]) -> list[float]:
    values: list[float] = future.result(WAIT_S)["y"].tolist()
    return values


def error_of(future: Future[dict[str, np.ndarray]]) -> ServingError:
    error = future.exception(2 * WAIT_S)
    assert isinstance(error, ServingError)
    return error


def occupy(made: Bench, servable: GatedSum) -> Future[dict[str, np.ndarray]]:
    """Keep the one thread busy with a call of its own."""
    first = made.call(rows(0.0))
    servable.wait_until_begun(1)
    return first


# --- what shares a batch


def test_calls_that_wait_for_the_thread_run_together() -> None:
    servable = GatedSum(is_open=False)
    with bench(servable) as made:
        first = occupy(made, servable)
        others = [made.call(rows(1.0)), made.call(rows(2.0, 3.0)), made.call(rows(4.0))]
        made.wait_until_queued(3)
        servable.gate.set()
        assert [y_of(call) for call in (first, *others)] == [[0.0], [2.0], [4.0, 6.0], [8.0]]
    assert servable.sizes == [1, 4]
    assert [(run.num_tasks, run.num_rows) for run in made.runs] == [(1, 1), (3, 4)]
    assert all(run.waited_s >= 0 and run.ran_s > 0 for run in made.runs)


def test_other_shapes_are_not_mixed() -> None:
    servable = GatedSum(is_open=False)
    with bench(servable) as made:
        occupy(made, servable)
        narrow, wide = made.call(rows(1.0)), made.call(rows(1.0, width=5))
        more = made.call(rows(2.0))
        made.wait_until_queued(3)
        servable.gate.set()
        assert [y_of(narrow), y_of(wide), y_of(more)] == [[2.0], [5.0], [4.0]]
    assert sorted(batch.shape for batch in servable.batches) == [(1, 2), (1, 5), (2, 2)]


def test_other_shapes_are_padded_where_that_is_asked_for() -> None:
    servable = GatedSum(is_open=False)
    with bench(servable, pad_variable_length_inputs=True) as made:
        occupy(made, servable)
        narrow = made.call(rows(1.0))
        made.wait_until_queued(1)
        wide = made.call(rows(2.0, width=5))
        made.wait_until_queued(2)
        servable.gate.set()
        assert [y_of(narrow), y_of(wide)] == [[5.0], [10.0]]  # filled up with 1.0: not as alone
    assert servable.sizes == [1, 2]


def test_a_batch_waits_until_it_is_full() -> None:
    servable = GatedSum()
    with bench(servable, max_batch_size=2, batch_timeout_micros=NEVER_MICROS) as made:
        first = made.call(rows(1.0))
        made.wait_until_queued(1)
        assert servable.sizes == []
        second = made.call(rows(2.0))
        assert [y_of(first), y_of(second)] == [[2.0], [4.0]]
    assert servable.sizes == [2]


def test_a_batch_does_not_wait_for_ever() -> None:
    with bench(servable := GatedSum(), max_batch_size=100, batch_timeout_micros=20_000) as made:
        start = time.monotonic()
        assert y_of(made.call(rows(1.0))) == [2.0]
        assert time.monotonic() - start >= 0.02
    assert servable.sizes == [1]


def test_a_call_that_does_not_fit_sends_the_batch_off() -> None:
    servable = GatedSum()
    with bench(servable, max_batch_size=3, batch_timeout_micros=NEVER_MICROS) as made:
        first = made.call(rows(1.0, 2.0))
        made.wait_until_queued(1)
        second = made.call(rows(3.0, 4.0))
        assert y_of(first) == [2.0, 4.0]
        assert not second.done()
        made.scheduler.close()  # what waits is run
        assert y_of(second) == [6.0, 8.0]
    assert servable.sizes == [2, 2]


def test_batches_are_filled_up_to_the_allowed_sizes() -> None:
    servable = GatedSum()
    with bench(servable, max_batch_size=8, allowed_batch_sizes=(4, 8)) as made:
        assert y_of(made.call(rows(1.0))) == [2.0]
        assert y_of(made.call(rows(1.0, 2.0, 3.0, 4.0, 5.0))) == [2.0, 4.0, 6.0, 8.0, 10.0]
    assert servable.sizes == [4, 8]


# --- bounds


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    servable = GatedSum(is_open=False)
    with bench(servable, max_batch_size=1, max_enqueued_batches=2) as made:
        held = [occupy(made, servable), made.call(rows(1.0)), made.call(rows(2.0))]
        made.wait_until_queued(2)
        error = error_of(made.call(rows(3.0)))
        assert (error.code, error.http_status, error.retry_after_s) == ("UNAVAILABLE", 503, 1)
        assert error.message == (
            "The batch scheduling queue to which this task was submitted is full; currently 2 "
            "batches enqueued and max_enqueued_batches is 2"
        )
        servable.gate.set()
        assert sorted(map(y_of, held)) == [[0.0], [2.0], [4.0]]
        assert y_of(made.call(rows(3.0))) == [6.0]


def test_a_call_of_too_many_rows_is_refused() -> None:
    with bench(servable := GatedSum(), max_batch_size=2) as made:
        error = error_of(made.call(rows(1.0, 2.0, 3.0)))
    assert error.code == "INVALID_ARGUMENT"
    assert error.message == "Task size 3 is larger than maximum input batch size 2"
    assert servable.sizes == []


def test_large_calls_are_spread_over_batches_where_that_is_asked_for() -> None:
    servable = GatedSum()
    limits = {"max_batch_size": 9, "max_execution_batch_size": 2}
    with bench(servable, enable_large_batch_splitting=True, **limits) as made:
        assert y_of(made.call(rows(1.0, 2.0, 3.0, 4.0, 5.0))) == [2.0, 4.0, 6.0, 8.0, 10.0]
        assert error_of(made.call(rows(*range(10)))).code == "INVALID_ARGUMENT"
    assert sorted(servable.sizes) == [1, 2, 2]


def test_a_large_call_waits_whole_or_not_at_all() -> None:
    servable = GatedSum(is_open=False)
    limits = {"max_batch_size": 9, "max_execution_batch_size": 2, "max_enqueued_batches": 2}
    with bench(servable, enable_large_batch_splitting=True, **limits) as made:
        occupy(made, servable)
        assert error_of(made.call(rows(1.0, 2.0, 3.0, 4.0, 5.0))).code == "UNAVAILABLE"
        assert made.scheduler.num_queued == 0


def test_who_waits_too_long_in_the_queue_is_told_so_and_not_run() -> None:
    servable = GatedSum(is_open=False)
    with bench(servable) as made:
        first = occupy(made, servable)
        late = made.call(rows(7.0), deadline=time.monotonic() + 0.02)
        error = error_of(late)
        assert error.code == "RESOURCE_EXHAUSTED"
        assert error.message == "Run() timeout exceeded while waiting in batching queue"
        patient = made.call(rows(1.0), deadline=time.monotonic() + WAIT_S)
        made.wait_until_queued(2)
        servable.gate.set()
        assert [y_of(first), y_of(patient)] == [[0.0], [2.0]]
    assert servable.sizes == [1, 1]


def test_who_runs_too_long_is_told_so() -> None:
    codes = []
    for limit_s in (0.1, 1.0, 10.0, WAIT_S):  # a busy machine may need longer to begin
        servable = GatedSum(is_open=False)
        with bench(servable) as made:
            late = made.call(rows(7.0), deadline=time.monotonic() + limit_s)
            codes.append(error_of(late).code)
        if servable.sizes == [1]:
            break
    assert codes == ["RESOURCE_EXHAUSTED"] * (len(codes) - 1) + ["DEADLINE_EXCEEDED"]


# --- what must not be batched, and what fails


def test_one_failing_call_fails_alone() -> None:
    servable = GatedSum(is_open=False)
    servable.poison = 13.0
    with bench(servable) as made:
        occupy(made, servable)
        calls = [made.call(rows(value)) for value in (1.0, 13.0, 2.0)]
        made.wait_until_queued(3)
        servable.gate.set()
        assert [y_of(calls[0]), y_of(calls[2])] == [[2.0], [4.0]]
        assert error_of(calls[1]).message == "poisoned row"
        assert y_of(made.call(rows(5.0))) == [10.0]
    assert servable.sizes == [1, 3, 1, 1, 1, 1]


def test_a_signature_with_a_fixed_number_of_rows_runs_alone() -> None:
    servable = GatedSum()
    with bench(servable, batch_timeout_micros=NEVER_MICROS) as made:
        assert y_of(made.call(rows(1.0), signature=make_signature(rows=1))) == [2.0]
    assert made.runs == []


def test_calls_without_rows_in_common_run_alone() -> None:
    def execute(name: str, inputs: Any, outputs: Any) -> dict[str, np.ndarray]:
        return {"y": np.array(sum(value.size for value in inputs.values()))}

    with bench(execute, batch_timeout_micros=NEVER_MICROS) as made:
        for inputs in ({}, {"x": np.float32(1.0)}, {"x": np.zeros(2), "z": np.zeros(3)}):
            arrays = {alias: np.asarray(value) for alias, value in inputs.items()}
            total = sum(value.size for value in arrays.values())
            assert made.call(arrays).result(WAIT_S)["y"] == total
    assert made.runs == []


@pytest.mark.parametrize("splitting", [False, True])
def test_outputs_that_turn_out_not_to_be_per_row_are_right_and_run_alone(splitting: bool) -> None:
    gate, begun = threading.Event(), threading.Event()

    def execute(name: str, inputs: Any, outputs: Any) -> dict[str, np.ndarray]:
        begun.set()
        assert gate.wait(WAIT_S)
        return {"y": inputs["x"].sum()}

    signature = make_signature(output_rank=None)
    how = {"enable_large_batch_splitting": True, "max_execution_batch_size": 2} if splitting else {}
    with bench(execute, **how) as made:
        first = made.call(rows(1.0), signature=signature)
        assert begun.wait(WAIT_S)
        others = [made.call(rows(2.0, 3.0), signature=signature)]
        others.append(made.call(rows(4.0, 5.0, 6.0), signature=signature))
        made.wait_until_queued(3 if splitting else 2)
        gate.set()
        results = [call.result(WAIT_S)["y"] for call in (first, *others)]
        assert results == [2.0, 10.0, 30.0]
        before = len(made.runs)
        assert made.call(rows(7.0, 8.0), signature=signature).result(WAIT_S)["y"] == 30.0
        assert len(made.runs) == before


def test_what_a_servable_raises_besides_does_not_stop_the_threads() -> None:
    def execute(name: str, inputs: Any, outputs: Any) -> dict[str, np.ndarray]:
        if inputs["x"][0, 0] == 1.0:
            raise MemoryError("no room")
        return {"y": inputs["x"].sum(axis=1)}

    with bench(execute) as made:
        assert isinstance(made.call(rows(1.0)).exception(WAIT_S), MemoryError)
        assert y_of(made.call(rows(2.0))) == [4.0]


# --- many at once


def test_two_servables_share_the_threads_in_turn() -> None:
    one = GatedSum(is_open=False)
    num_before: list[int] = []

    def other(name: str, inputs: Any, outputs: Any) -> dict[str, np.ndarray]:
        num_before.append(len(one.batches))
        return {"y": inputs["x"].sum(axis=1)}

    with bench(one, max_batch_size=1, max_enqueued_batches=100) as made:
        second = ServableBatcher(made.scheduler, other, BatchingParameters())
        occupy(made, one)
        calls = [made.call(rows(1.0)) for _ in range(20)]
        made.wait_until_queued(20)
        with ThreadPoolExecutor(1) as clients:
            late = clients.submit(second.run, FREE, rows(1.0), ("y",), None)
            made.wait_until_queued(21)
            one.gate.set()
            assert y_of(late) == [2.0]
        assert [y_of(call) for call in calls] == [[2.0]] * 20
        assert num_before[0] <= 2  # it did not wait for all that had come before
        second.close()
        assert y_of(made.call(rows(3.0))) == [6.0]


def test_many_clients_each_get_their_own_rows() -> None:
    servable = GatedSum()
    limits = {"max_batch_size": 8, "allowed_batch_sizes": (2, 5, 8), "max_enqueued_batches": 1000}
    with bench(servable, num_batch_threads=3, batch_timeout_micros=500, **limits) as made:
        draw = random.Random(0)
        asked, calls = [], []
        for _ in range(600):
            values = [float(draw.randrange(1000)) for _ in range(draw.randrange(1, 9))]
            width = draw.choice([2, 3])
            asked.append([value * width for value in values])
            calls.append(made.call(rows(*values, width=width)))
        assert [y_of(call) for call in calls] == asked
        assert made.scheduler.num_queued == 0
    assert max(servable.sizes) <= 8
    assert len(servable.sizes) < 600
