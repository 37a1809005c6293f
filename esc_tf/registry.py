"""Lookup of names in explicit tables, with near matches when a name is unknown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from esc_tf.errors import UnknownNameError

T = TypeVar("T")


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for a near match of ``name``, else an empty string."""
    near = difflib.get_close_matches(str(name), [str(item) for item in known], n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def look_up(table: Mapping[str, T], name: str, kind: str) -> T:
    """Return ``table[name]``.

    Args:
        table: name → anything.
        name: the name asked for.
        kind: what the table holds, for the message, e.g. ``"model"``.

    Raises:
        UnknownNameError: the name is not in the table; near matches and all names are listed.
    """
    if name in table:
        return table[name]
    raise UnknownNameError(
        f"unknown {kind} '{name}'{suggest_name(name, table)} (known: {', '.join(sorted(table))})"
    )
