"""SIGTERM, the polite request to stop: obeyed at once, or at the end of the step under way."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

from esc_tf.errors import Terminated


class StopSignal:
    """Turns SIGTERM into ``Terminated``; a context manager, for the main thread.

    Outside ``held`` the exception is raised wherever the program is. Inside, ``requested``
    becomes true and the program asks for it when it can stop. Where it was never entered it
    does nothing, and ``requested`` stays false.
    """

    def __init__(self) -> None:
        self.requested = False
        self._held = False
        self._before: Any = None

    def __enter__(self) -> StopSignal:
        self._before = signal.signal(signal.SIGTERM, self._take_note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def take_back(self) -> None:
        """Handle SIGTERM again after a library has put a handler of its own in place."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._take_note)

    def _take_note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if not self._held:
            raise Terminated("stopped by SIGTERM")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Raise nothing inside; at the end raise what came meanwhile.

        Raises:
            Terminated: SIGTERM came and nobody asked ``requested``.
        """
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self.requested:
            raise Terminated("stopped by SIGTERM")

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """Inside ``held``: raise at once for a while, and what came before.

        Raises:
            Terminated: SIGTERM came.
        """
        held, self._held = self._held, False
        try:
            if self.requested:
                raise Terminated("stopped by SIGTERM")
            yield
        finally:
            self._held = held

    @contextlib.contextmanager
    def ends_process(self) -> Iterator[None]:
        """Let SIGTERM and Ctrl-C end the process inside, where Python itself cannot act.

        Python's handlers wait until a call into a library returns, and waiting for other workers
        may take for ever. There must be nothing to save.
        """
        if self._before is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        before = signal.set_wakeup_fd(writer)
        thread = threading.Thread(target=_end_on_signal, args=(reader,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            os.close(writer)  # ends the thread
            thread.join()
            os.close(reader)


def _end_on_signal(reader: int) -> None:
    for number in iter(lambda: os.read(reader, 1), b""):
        if number[0] in (signal.SIGTERM, signal.SIGINT):
            os._exit(128 + number[0])
