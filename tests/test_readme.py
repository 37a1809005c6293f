"""The README keeps its word: its commands run, and it names everything that is registered.

A shell block (```sh, ```bash, ```shell or ```console) that needs more than the package says so in
a comment on the line before it::

    <!-- needs: ESC-50 in data/ESC-50-master, a GPU -->
    ```sh
    python -m esc_tf.train --config configs/experiment/se_cnn_esc50.yaml
    ```

Such a block is read, not run: its syntax, modules, configurations, flags and make targets must
exist. All other blocks run here, in the README's order and in one folder, so that a later block
finds the run directory of an earlier one. The folder holds ``configs``, ``benchmarks`` and
``sounds`` (three generated clips), and ``python`` is the Python of the tests. Keep such blocks
short: one epoch on the synthetic set, by ``--set``.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from esc_tf.config import load_experiment

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"

_BLOCK = re.compile(
    r"(?:^<!--[ ]*needs:(?P<needs>[^\n]*?)-->[ ]*\n)?"
    r"^```(?P<language>sh|bash|shell|console)[ ]*\n(?P<text>.*?)^```[ ]*$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A shell block of the README.

    Attributes:
        text: the commands, prompts removed.
        needs: what its tag says; empty: nothing but the package.
    """

    text: str
    needs: str = ""


def find_blocks(markdown: str) -> list[Block]:
    """All shell blocks in order."""
    blocks = []
    for match in _BLOCK.finditer(markdown):
        text = match["text"]
        if match["language"] == "console":  # commands behind a prompt, output between them
            text = "".join(f"{line[2:]}\n" for line in text.splitlines() if line[:2] == "$ ")
        blocks.append(Block(text, (match["needs"] or "").strip()))
    return blocks


def find_rows(markdown: str, name: str) -> list[str]:
    """Rows of tables whose first cell names ``name`` as code."""
    return re.findall(rf"^\|[^|\n]*`{re.escape(name)}`[^|\n]*\|.*$", markdown, re.MULTILINE)


def find_mistakes(block: Block) -> list[str]:
    """What a block asks for and there is not, as far as that can be said without running it."""
    checked = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
    if checked.returncode:
        return [checked.stderr.strip()]
    mistakes: list[str] = []
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        mistakes += _find_mistakes_in_line(words)
    return mistakes


def _find_mistakes_in_line(words: list[str]) -> list[str]:
    mistakes = []
    if "make" in words:
        targets = [word for word in words[words.index("make") + 1 :] if "=" not in word]
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        mistakes += [
            f"make has no target '{target}'"
            for target in targets
            if not re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE)
        ]
    if "-m" in words and words[words.index("-m") + 1].startswith(("esc_tf", "export", "serving")):
        module = words[words.index("-m") + 1]
        path = ROOT / module.replace(".", "/")
        if not path.with_suffix(".py").is_file() and not (path / "__main__.py").is_file():
            return [f"no command {module}"]
        source = (
            path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__main__.py"
        )
        known = source.read_text() + (ROOT / "esc_tf" / "command.py").read_text() + '"--help"'
        if module == "esc_tf.interpret":  # each sub-command is a file of its own
            name = words[words.index(module) + 1].replace("-", "_")
            if not (path / f"{name}.py").is_file():
                return [f"{module} has no command {name}"]
            shared = {"grad_cam": ["nmf.py"]}  # takes the same clips
            known += "".join(
                (path / file).read_text() for file in [f"{name}.py", *shared.get(name, [])]
            )
        flags = [word.split("=")[0] for word in words if word.startswith("--")]
        if module == "serving":  # the only command with flags by the dozen, in a file of their own
            known += (ROOT / "serving" / "flags.py").read_text()
        mistakes += [f"{module} has no {flag}" for flag in flags if f'"{flag}"' not in known]
        if "--config" in words:
            config = ROOT / words[words.index("--config") + 1]
            overrides = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
            try:
                load_experiment(config, overrides)
            except Exception as error:
                mistakes.append(str(error))
    return mistakes


# --- the README


@pytest.fixture(scope="module")
def readme() -> str:
    return README.read_text(encoding="utf-8")


def test_it_opens_with_train_and_test(readme: str) -> None:
    first = find_blocks(readme)[0].text
    assert "make train" in first
    assert "make test" in first


def test_every_block_asks_for_what_there_is(readme: str) -> None:
    blocks = find_blocks(readme)
    assert len(blocks) == len(re.findall(r"^```(?:sh|bash|shell|console)\b", readme, re.MULTILINE))
    assert {block.text: mistakes for block in blocks if (mistakes := find_mistakes(block))} == {}


def test_a_tag_stands_right_before_its_block(readme: str) -> None:
    tagged = [block for block in find_blocks(readme) if block.needs]
    assert len(tagged) == len(re.findall(r"<!--\s*needs:", readme))


def test_every_block_without_a_tag_runs(readme: str, tmp_path: Path) -> None:
    blocks = [block for block in find_blocks(readme) if not block.needs]
    assert blocks
    for name in ("configs", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "sounds").mkdir()
    rng = np.random.default_rng(0)
    for index, rate_hz in enumerate((16000, 22050, 44100)):
        noise = rng.uniform(-0.3, 0.3, rate_hz)
        soundfile.write(tmp_path / "sounds" / f"noise_{index}.wav", noise, rate_hz)
    # A folder of its own for `python`, since that of sys.executable may not be called so.
    commands = tmp_path / ".commands"
    commands.mkdir()
    for name in ("python", "python3"):
        script = commands / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        script.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "ESC_TF_CACHE": str(tmp_path / ".cache"),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    for block in blocks:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def test_everything_registered_has_a_row(readme: str) -> None:
    from esc_tf.frontends.factory import FRONT_ENDS
    from esc_tf.models.factory import MODELS

    names = [*MODELS, *FRONT_ENDS]
    assert names
    assert [name for name in names if not find_rows(readme, name)] == []


def test_every_file_it_links_to_exists(readme: str) -> None:
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", readme)
    assert [link for link in links if not (ROOT / link).exists()] == []


# --- the check itself


def test_blocks_tags_and_prompts_are_read() -> None:
    markdown = (
        "Text\n\n```sh\nls\n```\n<!-- needs: a GPU, an hour -->\n```bash\ncd x\nls\n```\n"
        "```python\nprint(1)\n```\n```console\n$ echo a\na\n$ echo b\n```\n"
    )
    assert find_blocks(markdown) == [
        Block("ls\n"),
        Block("cd x\nls\n", "a GPU, an hour"),
        Block("echo a\necho b\n"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("if true", "syntax error"),
        ("make trian", "make has no target 'trian'"),
        ("python -m esc_tf.trian --config configs/smoke.yaml", "no command esc_tf.trian"),
        ("python -m esc_tf.train --confg configs/smoke.yaml", "has no --confg"),
        ("python -m esc_tf.train --config configs/none.yaml", "cannot be read"),
        (
            "python -m esc_tf.train --config configs/smoke.yaml \\\n  --set recipe.epoch=1",
            "recipe.epoch: unknown key",
        ),
    ],
)
def test_mistakes_are_seen(text: str, words: str) -> None:
    (mistake,) = find_mistakes(Block(text))
    assert words in mistake


def test_what_there_is_is_no_mistake() -> None:
    text = (
        "make test VENV=/tmp/venv  # the suite\n"
        "CUDA_VISIBLE_DEVICES= python -m esc_tf.train --config configs/smoke.yaml \\\n"
        "  --set recipe.epochs=1 --run-dir runs/a\n"
    )
    assert find_mistakes(Block(text)) == []


def test_rows_are_found_by_their_first_cell() -> None:
    table = "| name | what |\n|---|---|\n| `se_cnn` | like `vgg` |\n"
    assert find_rows(table, "se_cnn") == ["| `se_cnn` | like `vgg` |"]
    assert find_rows(table, "vgg") == []
    assert find_rows(table, "cnn") == []
