"""Tasks in processes: logs, shares of the machine, failures, and stopping them."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from esc_tf.errors import Terminated
from esc_tf.training.processes import Ending, Task, TaskRunner, divide_machine

# Says what the machine's share is, then does what its name asks for.
_TASK = """
import os, pathlib, signal, sys, time
name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
(folder / f"{name}.pid").write_text(str(os.getpid()))
print("threads", os.environ.get("TF_NUM_INTRAOP_THREADS"), flush=True)
def wait_for(path):
    stop = time.monotonic() + 60
    while not path.exists():
        if time.monotonic() > stop:
            sys.exit("error: waited for ever")
        time.sleep(0.01)
if name.startswith("meets_"):
    wait_for(folder / f"meets_{name[-1] == '1' and 2 or 1}.pid")
if name.startswith("alone"):
    os.mkdir(folder / "taken")
    os.rmdir(folder / "taken")
if name == "fails":
    print("error: out of luck", file=sys.stderr)
    print("\\ntable")
    sys.exit(3)
if name == "sleeps":
    def stop(number, frame):
        print("saved")
        sys.exit(143)
    signal.signal(signal.SIGTERM, stop)
    (folder / "asleep").touch()
    time.sleep(600)
"""


class Bench:
    """A folder, and a runner that notes what it is told."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.lines: list[str] = []
        self.endings: dict[str, Ending] = {}

    def run(self, *names: str, parallel: int) -> list[Ending]:
        def take_note(task: Task, ending: Ending) -> None:
            self.endings[task.name] = ending

        tasks = [
            Task(
                name,
                [sys.executable, "-c", _TASK, name, str(self.folder)],
                self.folder / f"{name}.log",
            )
            for name in names
        ]
        return TaskRunner(parallel, self.lines.append, take_note).run(tasks)


def test_one_failure_loses_no_other_and_says_why() -> None:
    bench = Bench()
    endings = bench.run("alone_1", "fails", "alone_2", parallel=1)
    assert [ending.exit_code for ending in endings] == [0, 3, 0]
    assert endings[1].reason == "out of luck"
    assert bench.endings["fails"] == endings[1]
    assert bench.lines.count("[fails] error: out of luck") == 1
    log = (bench.folder / "fails.log").read_text()
    assert "out of luck" in log and "table" in log
    assert not any("table" in line for line in bench.lines)


def test_parallel_tasks_run_at_the_same_time_on_a_share_of_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    bench = Bench()
    # Each waits for the other to have begun.
    endings = bench.run("meets_1", "meets_2", parallel=2)
    assert [ending.exit_code for ending in endings] == [0, 0], endings
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    assert f"[meets_1] threads {share}" in bench.lines


def test_a_task_alone_has_the_whole_machine() -> None:
    assert divide_machine(1, 0, {"CUDA_VISIBLE_DEVICES": "0,1"}) == {}
    share = divide_machine(1000, 3, {"OMP_NUM_THREADS": "7", "CUDA_VISIBLE_DEVICES": "0,1"})
    assert share == {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    shares = [divide_machine(2, i, {"CUDA_VISIBLE_DEVICES": "4,5,6"}) for i in range(2)]
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == ["4,6", "5"]


def test_sigterm_is_passed_on_and_waited_for() -> None:
    bench = Bench()

    def terminate_when_asleep() -> None:
        while not (bench.folder / "asleep").exists():
            threading.Event().wait(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    def fail(number: int, frame: object) -> None:
        raise AssertionError("SIGTERM came through")

    before = signal.signal(signal.SIGTERM, fail)
    thread = threading.Thread(target=terminate_when_asleep)
    thread.start()
    try:
        with pytest.raises(Terminated):
            bench.run("sleeps", "never", parallel=1)
    finally:
        thread.join()
        assert signal.signal(signal.SIGTERM, before) is fail
    assert bench.endings["sleeps"].exit_code == 143
    assert "saved" in (bench.folder / "sleeps.log").read_text()
    assert not (bench.folder / "never.pid").exists()
    pid = int((bench.folder / "sleeps.pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
