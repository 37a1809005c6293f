"""Reads a ``--model_config_file`` again and again, and lets the manager follow it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from esc_tf.errors import RequestError
from serving.errors import ServingError
from serving.models.config import ModelConfig, read_model_config_file


class ConfigWatch:
    """A thread that calls ``reload`` when the file asks for other models.

    A file that cannot be read, or that the manager refuses, changes nothing: it is reported once
    and tried again at the next look, as Serving does.

    Args:
        path: of the file.
        current: the models that it asked for at the start.
        reload: makes the server follow; ``ModelManager.reload``.
        wait_s: seconds between two looks, more than 0.
        report: takes lines for the log.
    """

    def __init__(
        self,
        path: Path,
        current: Sequence[ModelConfig],
        reload: Callable[[Sequence[ModelConfig]], None],
        *,
        wait_s: float,
        report: Callable[[str], object] = print,
    ) -> None:
        self._path = path
        self._current: tuple[ModelConfig, ...] | None = tuple(current)
        self._reload = reload
        self._wait_s = wait_s
        self._report = report
        self._problem = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="config-watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """End the thread; waits for a ``reload`` that is running."""
        self._closing.set()
        self._thread.join()

    def look(self) -> None:
        """Read the file once, and reload if it has changed or was refused the last time."""
        try:
            configs = read_model_config_file(self._path)
            if configs == self._current:
                return
            self._current = None
            self._reload(configs)
        except (RequestError, ServingError) as error:
            if str(error) != self._problem:
                self._report(f"the models stay as they are: {error}")
            self._problem = str(error)
            return
        self._current, self._problem = configs, ""
        self._report(f"{self._path}: reloaded")

    def _watch(self) -> None:
        while not self._closing.wait(self._wait_s):
            self.look()
