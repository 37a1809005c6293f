"""What every command shares: exit codes and readable lines instead of tracebacks."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys
import unittest
from pathlib import Path

from esc_tf.command import add_config_arguments, quiet_import, run_command
from esc_tf.errors import ConfigError, TrainingError


def run_body(body, argv=()) -> tuple[int, str]:
    parser = argparse.ArgumentParser(prog="test")
    parser.add_argument("--number", type=int, default=0)
    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        code = run_command(body, parser, list(argv))
    return code, stderr.getvalue()


def raising(error: BaseException):
    def body(arguments: argparse.Namespace) -> int:
        raise error

    return body


class RunCommandTest(unittest.TestCase):
    def test_the_body_sees_its_arguments_and_decides_the_code(self) -> None:
        self.assertEqual(run_body(lambda arguments: arguments.number, ["--number", "7"]), (7, ""))

    def test_each_problem_is_one_line(self) -> None:
        code, stderr = run_body(raising(ConfigError(["first thing", "second thing"])))
        self.assertEqual((code, stderr), (2, "error: first thing\nerror: second thing\n"))

    def test_a_failure_while_working_is_1(self) -> None:
        code, stderr = run_body(raising(TrainingError("the loss is not finite")))
        self.assertEqual((code, stderr), (1, "error: the loss is not finite\n"))

    def test_a_full_disk_is_one_line(self) -> None:
        code, stderr = run_body(raising(OSError(28, "No space left on device", "runs/x")))
        self.assertEqual((code, stderr), (1, "error: runs/x: No space left on device\n"))

    def test_interrupted_is_130(self) -> None:
        self.assertEqual(run_body(raising(KeyboardInterrupt())), (130, "interrupted\n"))

    def test_wrong_arguments_are_2_and_help_is_0(self) -> None:
        code, stderr = run_body(lambda _: 0, ["--nmber", "7"])
        self.assertEqual(code, 2)
        self.assertIn("--nmber", stderr)
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(run_body(lambda _: 1, ["--help"])[0], 0)

    def test_a_defect_of_ours_is_not_hidden(self) -> None:
        with self.assertRaises(ZeroDivisionError):
            run_body(raising(ZeroDivisionError()))

    def test_config_is_required_and_overrides_add_up(self) -> None:
        parser = argparse.ArgumentParser()
        add_config_arguments(parser)
        arguments = parser.parse_args(["--config", "a.yaml", "--set", "b=1", "--set", "c=2"])
        self.assertEqual((arguments.config, arguments.overrides), ("a.yaml", ["b=1", "c=2"]))
        with contextlib.redirect_stderr(io.StringIO()), self.assertRaises(SystemExit):
            parser.parse_args(["--set", "b=1"])


class ProcessTest(unittest.TestCase):
    def run_program(self, program: str, **environment: str) -> subprocess.CompletedProcess:
        root = str(Path(__file__).resolve().parents[1])
        return subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": root, **environment},
            capture_output=True,
            text=True,
        )

    def test_quiet_import_drops_greetings_and_nothing_else(self) -> None:
        program = (
            "import os, sys\n"
            "from esc_tf.command import quiet_import\n"
            "try:\n"
            "    with quiet_import():\n"
            "        os.write(2, b'I0000 00:00:17 1 port.cc:153] oneDNN operations are on.\\n')\n"
            "        os.write(2, b'E0000 00:00:17 1 cuda.cc:52] no driver\\n')\n"
            "        print('a warning', file=sys.stderr)\n"
            "        raise ValueError\n"
            "except ValueError:\n"
            "    print('afterwards', file=sys.stderr)\n"
        )
        kept = "E0000 00:00:17 1 cuda.cc:52] no driver\na warning\nafterwards\n"
        self.assertEqual(self.run_program(program).stderr, kept)
        everything = self.run_program(program, TF_CPP_MIN_LOG_LEVEL="0").stderr
        self.assertIn("I0000", everything)

    def test_a_reader_that_goes_away_is_no_error(self) -> None:
        program = (
            "import argparse, os, sys\n"
            "from esc_tf.command import run_command\n"
            "reader, writer = os.pipe()\n"
            "os.close(reader)\n"
            "os.dup2(writer, 1)\n"
            "body = lambda arguments: print('x' * 100000) or 0\n"
            "sys.exit(run_command(body, argparse.ArgumentParser(), []))\n"
        )
        done = self.run_program(program)
        self.assertEqual((done.returncode, done.stderr), (0, ""))


class QuietImportTest(unittest.TestCase):
    def test_stderr_is_itself_again(self) -> None:
        before = os.fstat(2)
        with quiet_import():
            pass
        self.assertEqual((os.fstat(2).st_dev, os.fstat(2).st_ino), (before.st_dev, before.st_ino))
