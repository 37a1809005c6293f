"""What every command shares: the configuration's arguments, readable errors, exit codes.

A command is ``main(argv) -> int``. It builds its parser and hands a body to ``run_command``. The
body imports what needs TensorFlow itself, under ``quiet_import``, so that ``--help`` and a wrong
configuration answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from esc_tf.config import Experiment, load_experiment
from esc_tf.errors import EXIT_DONE, EXIT_FAILED, EscTfError

EXIT_INTERRUPTED = 130

_GREETINGS = (
    b"WARNING: All log messages before absl::InitializeLog",
    b"I0000 ",
    b"INFO: Created TensorFlow Lite",
)


def add_config_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add ``--config FILE`` and ``--set KEY=VALUE`` (any number of times)."""
    parser.add_argument(
        "--config", required=required, metavar="FILE", help="the experiment, a YAML file"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one key of the experiment, e.g. recipe.epochs=5; may be repeated",
    )


def load_config(arguments: argparse.Namespace) -> Experiment:
    """Load the experiment that ``--config`` and ``--set`` describe.

    Raises:
        ConfigError: see ``esc_tf.config.load_experiment``.
    """
    return load_experiment(arguments.config, arguments.overrides)


def print_problems(problems: Sequence[str]) -> None:
    """Print each problem on lines of stderr that start with ``error:``."""
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)


def quieten_tensorflow() -> None:
    """Silence TensorFlow's C++ start-up messages unless the user set a level.

    Works only before the first import of TensorFlow.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@contextmanager
def quiet_import() -> Iterator[None]:
    """Keep TensorFlow's greetings off stderr while it is imported; errors and warnings pass.

    Those of LiteRT come when a model is loaded. TensorFlow's are written before it reads
    ``TF_CPP_MIN_LOG_LEVEL``. A user who sets that to 0 sees them.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            captured.seek(0)
            for line in captured:
                if not line.startswith(_GREETINGS):
                    os.write(2, line)


def run_command(
    body: Callable[[argparse.Namespace], int],
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None = None,
) -> int:
    """Parse ``argv``, run ``body`` and turn what goes wrong into lines on stderr.

    Args:
        body: takes the parsed arguments, returns the exit code.
        parser: the command's parser.
        argv: arguments without the program's name; None: those of the process.

    Returns:
        The body's exit code; 2 for wrong arguments; an ``EscTfError``'s own exit code; 1 for a
        failure of the operating system such as a full disk; 130 after Ctrl-C.
    """
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed its message, or the help
        return stop.code if isinstance(stop.code, int) else EXIT_FAILED
    quieten_tensorflow()
    try:
        code = body(arguments)
        sys.stdout.flush()  # here, so that a reader gone away is noticed inside the try
        return code
    except EscTfError as error:
        print_problems(error.problems)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (`| head`) has seen enough. Python would complain again when it
        # flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print_problems([f"{place}{error.strerror or error}"])
        return EXIT_FAILED
