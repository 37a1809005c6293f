"""The command line of the interpretations: one module a command, each in a row of ``COMMANDS``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from esc_tf.command import run_command
from esc_tf.interpret import front_end, grad_cam, listen, nmf

# Each adds its parser to the sub-commands and sets `run`, a function arguments → exit code.
COMMANDS: tuple[Callable[[argparse._SubParsersAction], None], ...] = (
    nmf.add_command,
    listen.add_command,
    grad_cam.add_command,
    front_end.add_command,
)


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m esc_tf.interpret",
        description="Show what the inside of a model stands for.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add_command in COMMANDS:
        add_command(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 1 failed while working, 2 the request was wrong."""
    return run_command(lambda arguments: arguments.run(arguments), build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
