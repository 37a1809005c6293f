"""Long commands in processes of their own, some at a time, each with its log and its share."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from esc_tf.training.termination import StopSignal

_THREAD_VARIABLES = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
_NUM_LINES_KEPT = 50


@dataclass(frozen=True)
class Task:
    """A command to run.

    Attributes:
        name: stands before its lines.
        command: the program and its arguments.
        log: what it says is added to this file.
    """

    name: str
    command: Sequence[str]
    log: Path


@dataclass(frozen=True)
class Ending:
    """How a task ended.

    Attributes:
        exit_code: as the operating system has it; negative: the signal; None: never started.
        reason: its lines that begin with ``error:``, else its last line.
    """

    exit_code: int | None
    reason: str = ""


def divide_machine(parallel: int, slot: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Environment variables with which one of ``parallel`` processes takes only its share.

    Args:
        parallel: number of processes at a time.
        slot: which of them, from 0.
        environment: the variables of this process; threads that it sets stay as they are.

    >>> divide_machine(2, 1, {"CUDA_VISIBLE_DEVICES": "0,1,2,3"})["CUDA_VISIBLE_DEVICES"]
    '1,3'
    """
    if parallel == 1:
        return {}
    affinity = getattr(os, "sched_getaffinity", None)
    num_cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    threads = str(max(1, num_cores // parallel))
    share = {name: threads for name in _THREAD_VARIABLES if name not in environment}
    gpus = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if len(gpus) >= parallel:
        share["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[slot::parallel])
    return share


@dataclass
class TaskRunner:
    """Runs tasks, some at a time.

    Args:
        parallel: how many at a time; cores, and the GPUs named in ``CUDA_VISIBLE_DEVICES`` where
            there are enough, are divided among them.
        report: takes a line for the user; called from several threads.
        on_end: called with each task and its ending, from several threads.
    """

    parallel: int
    report: Callable[[str], object]
    on_end: Callable[[Task, Ending], object]
    _running: set[subprocess.Popen[str]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: bool = False

    def run(self, tasks: Sequence[Task]) -> list[Ending]:
        """Run all tasks to their end; one that fails does not keep the others from running.

        Whatever interrupts this process, Ctrl-C and SIGTERM included, is passed on to the tasks
        under way as SIGTERM, and they are waited for.

        Raises:
            Terminated: SIGTERM came.
        """
        slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(self.parallel):
            slots.put(slot)
        is_main = threading.current_thread() is threading.main_thread()
        with (
            StopSignal() if is_main else contextlib.nullcontext(),
            ThreadPoolExecutor(self.parallel) as pool,  # waits for its threads when left
        ):
            try:
                futures = [pool.submit(self._run_in_slot, task, slots) for task in tasks]
                return [future.result() for future in futures]
            except BaseException:
                self._stop()
                raise

    def _stop(self) -> None:
        with self._lock:
            self._stopping = True
            for process in self._running:
                process.terminate()

    def _run_in_slot(self, task: Task, slots: queue.SimpleQueue[int]) -> Ending:
        slot = slots.get()
        try:
            ending = self._run_task(task, slot)
        finally:
            slots.put(slot)
        self.on_end(task, ending)
        return ending

    def _run_task(self, task: Task, slot: int) -> Ending:
        last: deque[str] = deque(maxlen=_NUM_LINES_KEPT)
        shows_all = True
        with task.log.open("a", encoding="utf-8") as log:
            process = self._start(task, slot)
            if process is None:
                return Ending(None)
            with process:
                assert process.stdout is not None
                for line in process.stdout:
                    log.write(line)
                    log.flush()
                    line = line.rstrip()
                    # Behind an empty line come tables; the log has them, and a terminal with
                    # several tasks on it has no room.
                    shows_all = shows_all and bool(line)
                    if shows_all or line.startswith("error:"):
                        self.report(f"[{task.name}] {line}")
                    if line:
                        last.append(line)
                code = process.wait()
            with self._lock:
                self._running.discard(process)
        said = [line for line in last if line.startswith("error:")] or list(last)[-1:]
        return Ending(code, "; ".join(line.removeprefix("error:").strip() for line in said))

    def _start(self, task: Task, slot: int) -> subprocess.Popen[str] | None:
        share = divide_machine(self.parallel, slot, os.environ)
        with self._lock:
            if self._stopping:
                return None
            process = subprocess.Popen(
                list(task.command),
                env={**os.environ, **share, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            self._running.add(process)
        return process
