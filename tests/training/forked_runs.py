"""Real processes of the training command, with faults at exact moments.

Starting TensorFlow takes most of a short run's time. So one process imports it, runs nothing, and
forks a child for each run: a process of its own, with its own signals, files and exit code. What
goes wrong in a child, it does to itself at a named moment, so that no test depends on timing.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]


def fault(at: str, do: str, epoch: int = 1, step: int = 1, path: str = "") -> dict[str, Any]:
    """Describe what a child does to itself.

    Args:
        at: ``step`` (while step ``step`` of ``epoch`` is under way, both from 1), ``validation``
            (of ``epoch``, after one batch) or ``decoding``.
        do: a signal's name; ``hide`` renames the folder ``path``; ``fill`` fills the disk below
            ``path``; ``limit`` lets no file grow any more.
        epoch: counted from 1.
        step: counted from 1.
        path: see ``do``.
    """
    return {"at": at, "do": do, "epoch": epoch, "step": step, "path": path}


def free_ports(count: int) -> list[int]:
    """Ports that were free on the loopback device a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


def cluster_of(ports: Sequence[int], index: int) -> dict[str, str]:
    """``TF_CONFIG`` of one of several local workers."""
    workers = [f"127.0.0.1:{port}" for port in ports]
    task = {"type": "worker", "index": index}
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": workers}, "task": task})}


@dataclass
class ForkedRun:
    """A running child; ``wait`` gives its exit code, negative for a signal."""

    parent: ForkingParent
    process_id: int
    output: Path

    def wait(self) -> int:
        """Wait until it has ended."""
        return int(self.parent.ask({"wait": self.process_id})["code"])

    def has_ended(self) -> bool:
        """Whether it has ended and only ``wait`` is missing."""
        return bool(self.parent.ask({"poll": self.process_id})["ended"])

    def said(self) -> str:
        """Everything that it printed."""
        return self.output.read_text(errors="replace")


class ForkingParent:
    """The process that forks the children; ``close`` ends it."""

    def __init__(self) -> None:
        # Threads do not survive a fork, so there must be none: OpenBLAS would start some.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
        environment.pop("TF_CONFIG", None)
        self._folder = Path(tempfile.mkdtemp())
        self._count = 0
        self._log = open(self._folder / "parent.txt", "w")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.training.forked_runs"],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request and return the answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the forking process ended; see {self._log.name}")
        return json.loads(answer)

    def start(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        faults: Sequence[Mapping[str, Any]] = (),
    ) -> ForkedRun:
        """Start ``python -m esc_tf.train`` with ``arguments`` in a child."""
        self._count += 1
        output = self._folder / f"{self._count}.txt"
        output.touch()  # it may be asked for before the child has opened it
        request = {
            "start": [str(item) for item in arguments],
            "environment": dict(environment or {}),
            "faults": list(faults),
            "output": str(output),
        }
        return ForkedRun(self, int(self.ask(request)["process_id"]), output)

    def run(self, arguments: Sequence[str], **options: Any) -> tuple[int, str]:
        """Run a child to its end; return its exit code and what it said."""
        child = self.start(arguments, **options)
        return child.wait(), child.said()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        self._log.close()


# --- in the forking process


def _serve() -> None:
    with mock.patch.dict(os.environ):
        # Everything that a run imports, so that no child has to.
        import esc_tf.evaluation.metrics
        import esc_tf.train
        import esc_tf.training.experiment  # noqa: F401

    threads = os.listdir("/proc/self/task") if os.path.isdir("/proc/self/task") else [""]
    if len(threads) > 1:
        raise RuntimeError(f"there are {len(threads)} threads, so forking is not safe")
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            answer = {"code": os.waitstatus_to_exitcode(status)}
        elif "poll" in request:
            found = os.waitid(os.P_PID, request["poll"], os.WEXITED | os.WNOHANG | os.WNOWAIT)
            answer = {"ended": found is not None}
        else:
            answer = {"process_id": os.fork()}
            if not answer["process_id"]:
                _become_run(request)
        print(json.dumps(answer), flush=True)


def _become_run(request: Mapping[str, Any]) -> None:
    code = 70  # of no exception that the command knows
    try:
        file = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(file, number)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.environ.update(request["environment"])
        from esc_tf import train

        for item in request["faults"]:
            _plan(item, request["output"])
        code = train.main(request["start"])
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _plan(item: Mapping[str, Any], output: str) -> None:
    """Patch the moment into this process."""
    import keras

    from esc_tf.training import classification, experiment

    def act() -> None:
        _DEEDS.get(item["do"], lambda path: _send(item["do"]))(item["path"])

    if item["at"] == "step":

        class Fault(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                self.now = epoch + 1

            def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
                if (self.now, batch + 1) == (item["epoch"], item["step"]):
                    act()

        plain_callbacks = experiment.build_callbacks
        experiment.build_callbacks = lambda *given: [*plain_callbacks(*given), Fault()]
    elif item["at"] == "validation":
        plain_step = classification.build_predict_step
        epochs = []

        def build(*given: Any) -> Callable[[Any], Any]:
            step = plain_step(*given)

            def first_of_two(batch: Any) -> Any:
                found = step(batch)
                epochs.append(batch)
                if len(epochs) == item["step"]:
                    act()
                return found

            return first_of_two

        classification.build_predict_step = build
    elif item["at"] == "end":
        plain_write = experiment.RunDirectory.write_model

        def write(run: Any, save: Any) -> None:
            variables = save.__self__.variables
            arrays = {str(place): np.array(item) for place, item in enumerate(variables)}
            np.savez(f"{output}.npz", **arrays)
            plain_write(run, save)

        experiment.RunDirectory.write_model = write
    else:
        plain_load = experiment.load_run_data

        def load(*given: Any) -> Any:
            act()
            return plain_load(*given)

        experiment.load_run_data = load


def _send(name: str) -> None:
    os.kill(os.getpid(), getattr(signal, name))


def _hide(path: str) -> None:
    os.rename(path, f"{path}.away")


def _fill(path: str) -> None:
    with open(os.path.join(path, "filler"), "wb", buffering=0) as file:
        size = 1 << 16
        while size:
            try:
                file.write(b"\0" * size)
            except OSError:
                size //= 2


def _limit(path: str) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))


_DEEDS: dict[str, Callable[[str], None]] = {"hide": _hide, "fill": _fill, "limit": _limit}


if __name__ == "__main__":
    _serve()
