"""One family of errors for the whole package.

Every error that a user can cause carries one or more readable sentences and an exit code, so that
a command can print them and stop without a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_BAD_REQUEST = 2
EXIT_TERMINATED = 143  # 128 + SIGTERM, as shells report it


class EscTfError(Exception):
    """Base of all errors raised on purpose by this package.

    Args:
        problems: one sentence, or several; each names the thing that is wrong and the remedy.
    """

    exit_code = EXIT_FAILED

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: list[str] = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class RequestError(EscTfError):
    """The request was wrong: a flag, a path, a run directory. Exit code 2."""

    exit_code = EXIT_BAD_REQUEST


class ConfigError(RequestError):
    """The configuration is wrong; one problem a line, each in the user's own path."""


class UnknownNameError(RequestError):
    """A name that no table holds; the message lists near matches."""


class DataError(RequestError):
    """A data set cannot be used as asked: missing folder, fold or class, or a leak."""


class AudioError(RequestError):
    """An audio file cannot be used; the message names the file and the reason."""


class DownloadError(EscTfError):
    """A file cannot be fetched, or is not what was promised."""


class CheckpointError(EscTfError):
    """A checkpoint cannot be read or does not belong to this model."""


class TrainingError(EscTfError):
    """Training cannot go on, for example because the loss is not finite."""


class ExportError(EscTfError):
    """A model cannot be exported, or what was exported is not equal to it."""


class UnreadableDataError(TrainingError):
    """Data that were there at the start cannot be read now: a share is away, or a disk is bad."""


class Terminated(EscTfError):
    """SIGTERM asked the process to stop, and it did. Exit code 143."""

    exit_code = EXIT_TERMINATED
