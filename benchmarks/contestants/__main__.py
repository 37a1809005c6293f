"""One contestant: reads its settings, then does a round for each line that it is sent.

Settings and replies are JSON, one a line. A round's reply has ``seconds`` (what the round
measured), ``cpu_seconds`` (what all threads of the process worked meanwhile) and ``peak_bytes``,
the most memory that the process has held since its set-up.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")


def read_memory_bytes(key: str) -> int:
    """``VmHWM`` (the peak) or ``VmRSS`` (now) of this process."""
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    # Elsewhere only the peak is known, on some systems in kilobytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_peak() -> None:
    """Forget the peak so far, which the set-up may have left, where the system can do that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def main() -> int:
    """Serve rounds until the input ends."""
    # Libraries may print; only replies go where the reader listens.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def reply(content: dict[str, Any]) -> None:
        replies.write(json.dumps(content) + "\n")
        replies.flush()

    settings = json.loads(sys.stdin.readline())
    part = settings.get("part", "network")
    contestant = importlib.import_module(f"benchmarks.contestants.{settings['side']}_{part}")
    imported_bytes = read_memory_bytes("VmRSS")
    round_ = contestant.set_up(settings)
    reset_peak()
    reply({"imported_bytes": imported_bytes})
    for _ in sys.stdin:
        worked_s = time.process_time()
        seconds = round_()
        worked_s = time.process_time() - worked_s
        peak_bytes = read_memory_bytes("VmHWM")
        reply({"seconds": seconds, "cpu_seconds": worked_s, "peak_bytes": peak_bytes})
    return 0


if __name__ == "__main__":
    sys.exit(main())
