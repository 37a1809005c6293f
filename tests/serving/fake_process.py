"""The servers of a process with a fake model: ``python -m tests.serving.fake_process FOLDER``.

Prints the port once it listens.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from serving.access_log import AccessLog
from serving.app import create_app
from serving.envelope import Draining
from serving.lifecycle import bind, run_servers
from tests.serving.fake_models import Gate, build_services


def main() -> int:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    draining = Draining()
    app = create_app(build_services(Path(sys.argv[1]), Gate()), AccessLog("none"), draining)
    listener = bind("127.0.0.1", 0)
    all_answered = run_servers(
        app,
        listener,
        None,
        draining,
        client_timeout_s=60,
        drain_timeout_s=60,
        on_listening=lambda: print(listener.getsockname()[1], flush=True),
    )
    return 0 if all_answered else 1


if __name__ == "__main__":
    sys.exit(main())
