"""One family of errors for the whole package.

Every error that a user can cause carries one or more readable sentences and an exit code, so that
a command can print them and stop without a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_BAD_REQUEST = 2


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


class CheckpointError(EscTfError):
    """A checkpoint cannot be read or does not belong to this model."""


class TrainingError(EscTfError):
    """Training cannot go on, for example because the loss is not finite."""
