"""YAML text to plain values and back, without YAML 1.1's surprises.

Numbers are numbers (``1e-4``, ``012`` is twelve), only ``true`` and ``false`` are booleans (``on``,
``yes`` and dates are text), a key stands once, and there are no tags, merge keys or objects.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from esc_tf.errors import ConfigError

# Far above any configuration. Aliases make a short text stand for a huge or very deep one.
_MAX_VALUES = 100_000
_MAX_LEVELS = 50

_BOOL = re.compile(r"^(?:true|false)$", re.I)
_INT = re.compile(r"^[-+]?[0-9]+$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan)$", re.I
)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core scalars."""


class _Dumper(yaml.SafeDumper):
    """Puts in quotes what either version of YAML would not read as text."""


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0].endswith(":null")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern, _first in (
    ("bool", _BOOL, "tTfF"),
    ("int", _INT, "-+0123456789"),
    ("float", _FLOAT, "-+0123456789."),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, list(_first))
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, list(_first))
_Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rsplit(":", 1)[-1] in ("null", "bool", "float", "str", "seq")
}


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node), 10)


def _construct_mapping(loader: yaml.SafeLoader, node: yaml.Node) -> dict[Hashable, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"line {node.start_mark.line + 1}: '!!map' stands before something else")
    mapping: dict[Hashable, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigError(f"line {line}: a key must be one word, not a list or a mapping")
        key = loader.construct_object(key_node)
        if not isinstance(key, str):
            raise ConfigError(f"line {line}: key {key_node.value!r} is not text; put it in quotes")
        if key == "<<":
            raise ConfigError(f"line {line}: '<<' is not supported; use 'extends'")
        if key in mapping:
            raise ConfigError(f"line {line}: key '{key}' stands twice in one mapping")
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


def _measure(value: Any, level: int, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Values and levels in ``value`` with every alias written out, without writing it out."""
    if not isinstance(value, dict | list):
        return 1, 0
    if id(value) not in known and level <= _MAX_LEVELS:
        items = value.values() if isinstance(value, dict) else value
        parts = [_measure(item, level + 1, known) for item in items]
        num_values = 1 + sum(part[0] for part in parts)
        known[id(value)] = num_values, 1 + max((part[1] for part in parts), default=0)
    num_values, num_levels = known.get(id(value), (1, 1))
    if level + num_levels > _MAX_LEVELS:
        raise ConfigError(f"is nested more than {_MAX_LEVELS} levels deep")
    if num_values > _MAX_VALUES:
        raise ConfigError(f"stands for more than {_MAX_VALUES} values")
    return num_values, num_levels


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML text; ``source`` names it in the error.

    Returns:
        Dictionaries with text keys, lists, text, numbers, booleans and None.

    Raises:
        ConfigError: the text is not YAML, a key stands twice, or it is nested or repeated beyond
            reason.

    >>> parse_yaml("{rate: 1e-4, mode: on, fold: 012}", "here")
    {'rate': 0.0001, 'mode': 'on', 'fold': 12}
    """
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506, a SafeLoader with fewer types
        _measure(value, 0, {})
        return value
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    except RecursionError:
        raise ConfigError(f"{source}: is nested more than {_MAX_LEVELS} levels deep") from None
    except (yaml.YAMLError, ValueError, LookupError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}:" if mark else ""
        words = [getattr(error, key, None) for key in ("context", "problem", "reason")]
        reason = ", ".join(word for word in words if word) or str(error)
        raise ConfigError(f"{source}:{place} not valid YAML ({reason})") from None


def dump_yaml(value: Any) -> str:
    r"""YAML text that ``parse_yaml`` reads back as ``value``, keys in their order.

    >>> dump_yaml({"fold": 5, "folder": "1e-4"})
    "fold: 5\nfolder: '1e-4'\n"
    """
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text
