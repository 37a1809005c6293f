"""Threads that work until a time: how long that took, and how much of the processor."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence


def run_threads(works: Sequence[Callable[[float], object]], seconds: float) -> dict[str, float]:
    """Run each in a thread of its own until a time, and wait for all.

    Args:
        works: each takes the time at which to stop, on the clock of ``time.monotonic``.
        seconds: until then.

    Returns:
        ``wall_s`` and ``cpu_s`` of the process, which may be longer than ``seconds``.
    """
    started, cpu = time.monotonic(), time.process_time()
    until = started + seconds
    threads = [threading.Thread(target=work, args=(until,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"wall_s": time.monotonic() - started, "cpu_s": time.process_time() - cpu}
