"""Reads which module of the project imports which, and judges it by the order of the rooms."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

PACKAGES = ("esc_tf", "export", "serving")

# A room may import itself and the rooms before it. The commands stand above all rooms:
# they may import anything, and no room imports them. A room's ``__main__`` is a command too.
ROOMS = (
    "errors",
    "registry",
    "files",
    "frames",
    "cards",
    "shipped",
    "config",
    "audio",
    "data",
    "augment",
    "kernels",
    "frontends",
    "models",
    "tasks",
    "evaluation",
    "training",
    "export",
    "serving",
)
# Run as they are, beside each room's ``__main__``.
PROGRAMS = ("serving.client",)
# Reads models and is read by commands alone, so it may import whatever trains and tests them.
BESIDE = "interpretation"
COMMANDS = "commands"
# A command whose sub-commands are too many for one file.
COMMAND_FOLDERS = ("interpret",)

WITHOUT_TENSORFLOW = (
    "errors",
    "registry",
    "files",
    "frames",
    "cards",
    "shipped",
    "config",
    "audio",
    "frontends",
    "models",
)
WITHOUT_KERAS = ("errors", "registry", "files", "frames", "cards", "shipped", "config", "audio")


def find_modules(root: Path, packages: Iterable[str] = PACKAGES) -> dict[str, Path]:
    """Module name → file, of everything in the packages under ``root``."""
    modules = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            modules[".".join(parts)] = path
    return modules


def find_room(module: str) -> str | None:
    """The room of a module; None for one that is not ours and for the empty top package."""
    first, _, rest = module.partition(".")
    if first not in PACKAGES or module == "esc_tf":
        return None
    if module.endswith(".__main__") or module in PROGRAMS:
        return COMMANDS
    name = rest.split(".")[0] if first == "esc_tf" else first
    return name if name in ROOMS or name == BESIDE else COMMANDS


def read_imports(source: str, module: str, is_package: bool, known: Iterable[str]) -> set[str]:
    """Names of all modules that the source imports, at the top or inside functions.

    Args:
        source: Python code.
        module: the name of its module, from which relative imports start.
        is_package: whether it is an ``__init__.py``.
        known: names of our modules, to tell ``from package import module`` from other names.

    Returns:
        Full module names; ``import_module`` and ``__import__`` as ``<dynamic>``.
    """
    known = set(known)
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, base] if base else parts)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.add(full if full in known else base)
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "__import__"):
                found.add("<dynamic>")
    return found


def find_violations(imports: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """One line for each import that breaks the order of the rooms."""
    for module, targets in sorted(imports.items()):
        room = find_room(module)
        for target in sorted(targets):
            if not _may_import(room, target):
                yield f"{module} ({room or 'top'}) imports {target} ({find_room(target) or 'any'})"


def _may_import(room: str | None, target: str) -> bool:
    library = target.split(".")[0]
    if room == COMMANDS:
        return True
    if target == "<dynamic>":
        return False
    if library == "tensorflow":
        return room not in WITHOUT_TENSORFLOW
    if library == "keras":
        return room not in WITHOUT_KERAS
    wanted = find_room(target)
    if wanted is None or wanted == room:
        return True
    if room is None or wanted in (COMMANDS, BESIDE):
        return False
    if room == BESIDE:
        return ROOMS.index(wanted) < ROOMS.index("export")
    return ROOMS.index(wanted) < ROOMS.index(room)
