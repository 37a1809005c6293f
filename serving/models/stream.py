"""The versions of one model: which to load next, which to let go, and what became of each.

The order is that of Serving's availability preserving policy: the old version answers until a new
one does. Unlike there, a version that could not be loaded is marked as failed at once, not after
the last retry, and is tried again as soon as its files change.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from serving.errors import ServingError
from serving.models.servable import Servable
from serving.models.states import State, VersionStatus
from serving.models.versions import Fingerprint, take_fingerprint

#: Loads one version: name of the model, number, folder.
LoadVersion = Callable[[str, int, Path], Servable]


@dataclasses.dataclass(frozen=True)
class RetryPolicy:
    """When a version that could not be loaded is tried again with the same files.

    Args:
        num_retries: at most so many times.
        interval_s: seconds between two tries.
    """

    num_retries: int = 5
    interval_s: float = 60.0


@dataclasses.dataclass(eq=False)
class HeldVersion:
    """One version that is loaded, is going to be, or could not be.

    Attributes:
        wanted: whether the model's policy asks for it.
        num_leases: how many requests use it now.
        error: why it could not be loaded.
        files: what its folder held when that failed.
        num_failures: with these files.
        retry_at: when it is tried again, on the clock of ``time.monotonic``; None for never.
    """

    number: int
    folder: Path
    state: State = "START"
    wanted: bool = True
    servable: Servable | None = None
    num_leases: int = 0
    error: ServingError | None = None
    files: Fingerprint = frozenset()
    num_failures: int = 0
    retry_at: float | None = None

    @property
    def is_drained(self) -> bool:
        """Whether it is on its way out and no request uses it any more."""
        return self.state == "UNLOADING" and self.num_leases == 0

    @property
    def status(self) -> VersionStatus:
        """What is reported of it."""
        if self.error is None:
            return VersionStatus(self.number, self.state)
        return VersionStatus(self.number, self.state, self.error.code, self.error.message)


class ModelStream:
    """All versions of one model. Only one thread may call the methods that change it.

    Args:
        model_name: as in ``/v1/models/NAME``.
        load: loads one version.
        retry: when a broken version is tried again.
        changed: the lock under which requests read this, notified after each change.
        report: takes lines for the log.
    """

    def __init__(
        self,
        model_name: str,
        load: LoadVersion,
        retry: RetryPolicy,
        changed: threading.Condition,
        report: Callable[[str], object],
    ) -> None:
        self._model_name = model_name
        self._load = load
        self._retry = retry
        self._changed = changed
        self._report = report
        self._held: dict[int, HeldVersion] = {}
        self._unloading: list[HeldVersion] = []
        self._statuses: dict[int, VersionStatus] = {}

    # --- under the lock, by any thread

    @property
    def available(self) -> tuple[int, ...]:
        """Numbers of the versions that answer requests, lowest first."""
        return tuple(sorted(n for n, held in self._held.items() if held.state == "AVAILABLE"))

    @property
    def has_drained(self) -> bool:
        """Whether a version waits for nothing but ``finish_unloads``."""
        return any(held.is_drained for held in self._unloading)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is loaded, or on its way in or out."""
        return not self._unloading and not self.available

    @property
    def retry_at(self) -> float | None:
        """When the next broken version is due; None for never."""
        times = [held.retry_at for held in self._held.values() if held.retry_at is not None]
        return min(times, default=None)

    def find(self, version: int | None) -> HeldVersion | None:
        """Return an AVAILABLE version, the highest for None; None if there is no such."""
        numbers = self.available
        if version is None and numbers:
            version = numbers[-1]
        return self._held[version] if version is not None and version in numbers else None

    def list_statuses(self) -> list[VersionStatus]:
        """Return the status of every version there ever was, the highest number first."""
        return [self._statuses[number] for number in sorted(self._statuses, reverse=True)]

    # --- by the manager's thread

    def want(self, folders: Mapping[int, Path]) -> None:
        """Take note of the versions that are to be served."""
        with self._changed:
            for number, held in list(self._held.items()):
                held.wanted = number in folders
                if held.state == "END" and not held.wanted:
                    del self._held[number]  # its status stays
            for number, folder in folders.items():
                if number not in self._held:
                    self._held[number] = HeldVersion(number, folder)
                    self._note(self._held[number])

    def revive_failed(self) -> None:
        """Let versions be tried again whose time has come, or whose files have changed."""
        for held in self._held.values():
            if held.state != "END":
                continue
            has_other_files = take_fingerprint(held.folder) != held.files
            if has_other_files:
                held.num_failures = 0
            is_due = held.retry_at is not None and time.monotonic() >= held.retry_at
            if has_other_files or is_due:
                self._set_state(held, "START")

    def advance(self) -> None:
        """Load and unload, one version after the other, until all is as wanted."""
        while (step := self._choose_step()) is not None:
            action, held = step
            if action == "load":
                self._load_version(held)
            else:
                self._start_unload(held)

    def finish_unloads(self) -> None:
        """Free the versions that are on their way out and that no request uses any more."""
        with self._changed:
            drained = [held for held in self._unloading if held.is_drained]
            self._unloading = [held for held in self._unloading if not held.is_drained]
        for held in drained:
            assert held.servable is not None
            held.servable.close()
            held.servable = None
            self._set_state(held, "END")
            self._report(f"{self._name(held)}: unloaded")

    def _choose_step(self) -> tuple[Literal["load", "unload"], HeldVersion] | None:
        with self._changed:
            held = [self._held[number] for number in sorted(self._held)]
        wanted = [version for version in held if version.wanted]
        superfluous = [v for v in held if not v.wanted and v.state == "AVAILABLE"]
        answered = any(version.state == "AVAILABLE" for version in wanted)
        if superfluous and (not wanted or answered or len(superfluous) > 1):
            return "unload", superfluous[0]
        new = [version for version in wanted if version.state == "START"]
        return ("load", new[-1]) if new else None

    def _load_version(self, held: HeldVersion) -> None:
        self._set_state(held, "LOADING")
        files = take_fingerprint(held.folder)
        try:
            servable = self._load(self._model_name, held.number, held.folder)
        except Exception as error:  # a broken version must not stop what serves the others
            self._note_failure(held, files, error)
            return
        held.servable = servable
        held.num_failures, held.retry_at = 0, None
        self._set_state(held, "AVAILABLE")
        self._report(f"{self._name(held)}: loaded from {held.folder}")

    def _note_failure(self, held: HeldVersion, files: Fingerprint, error: Exception) -> None:
        if not isinstance(error, ServingError):
            error = ServingError("UNKNOWN", f"{type(error).__name__}: {error}")
        held.num_failures += 1
        held.files = files
        may_retry = held.num_failures <= self._retry.num_retries
        held.retry_at = time.monotonic() + self._retry.interval_s if may_retry else None
        self._set_state(held, "END", error)
        self._report(f"{self._name(held)}: cannot be loaded: {error.code}: {error.message}")

    def _start_unload(self, held: HeldVersion) -> None:
        with self._changed:
            del self._held[held.number]
            self._unloading.append(held)
        self._set_state(held, "UNLOADING")
        self.finish_unloads()

    def _set_state(
        self, held: HeldVersion, state: State, error: ServingError | None = None
    ) -> None:
        with self._changed:
            held.state, held.error = state, error
            self._note(held)
            self._changed.notify_all()

    def _note(self, held: HeldVersion) -> None:
        # A version may be back while the one that was loaded before is still on its way out.
        if self._held.get(held.number, held) is held:
            self._statuses[held.number] = held.status

    def _name(self, held: HeldVersion) -> str:
        return f"model {self._model_name} version {held.number}"
