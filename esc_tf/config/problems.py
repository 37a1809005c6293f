"""Validation errors as sentences: the user's own path, what is wrong, what was probably meant."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from esc_tf.config.experiment import Experiment
from esc_tf.registry import suggest_name

_BOUNDS = {
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length} item(s)",
    "too_long": "must have at most {max_length} item(s)",
    "string_pattern_mismatch": "must match {pattern}",
}
_WORDS = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "finite_number": "must be a finite number",
}
_LONGEST_VALUE = 60


def describe_problems(
    error: ValidationError, raw: Mapping[str, Any], whole: type[BaseModel] = Experiment
) -> list[str]:
    """One sentence for each wrong place, in the order of the sections.

    Args:
        error: from validating ``raw`` as ``whole``.
        raw: what the user wrote, merged; used to tell the user's keys from pydantic's tags.
        whole: the class of the whole file.
    """
    found: dict[str, list[tuple[str, str, str]]] = {}
    for item in error.errors(include_url=False):
        path = _user_path(item["loc"], item["type"], raw)
        found.setdefault(path, []).append(_describe(item, path, raw, whole))
    return [
        f"{path or 'the configuration'}: {_join(parts)}"
        for path, parts in found.items()
        # Of the members of a union, the one that got as far as an item is the one that was meant.
        if not any(other.startswith(f"{path}.") for other in found if path)
    ]


def _join(parts: list[tuple[str, str, str]]) -> str:
    """A value that fits no member of a union fails once for each; say each thing once."""
    reasons, values, suggestions = (
        list(dict.fromkeys(column)) for column in zip(*parts, strict=True)
    )
    text = " or ".join(reasons).replace(" or must be ", " or ")
    return text + "".join(values) + "".join(suggestions)


def _user_path(location: tuple[int | str, ...], kind: str, raw: Mapping[str, Any]) -> str:
    """The location without the union and literal tags that pydantic adds and no user wrote."""
    kept: list[str] = []
    here: Any = raw
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if isinstance(here, Mapping):
            if kept and not last and part == here.get("name"):
                continue
            if part in here:
                kept.append(str(part))
                here = here[part]
            elif last and kind == "missing":
                kept.append(str(part))
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            kept.append(str(part))
            here = here[part]
    return ".".join(kept)


def _describe(
    item: Mapping[str, Any], path: str, raw: Mapping[str, Any], whole: type[BaseModel]
) -> tuple[str, str, str]:
    """What is wrong, the value there is, what was probably meant."""
    kind, context, value = item["type"], item.get("ctx", {}), item.get("input")
    not_value = f", not {_show(value)}"
    if kind == "extra_forbidden":
        *parents, key = path.split(".")
        known = _known_keys(_section_at(parents, raw, whole))
        return "unknown key", "", suggest_name(key, known) or f" (known here: {', '.join(known)})"
    if kind == "missing":
        is_item = isinstance(item["loc"][-1], int)
        return "has too few items" if is_item else "is required", "", ""
    if kind == "union_tag_invalid":
        tag = str(context.get("tag"))
        known = [word.strip("' ") for word in str(context.get("expected_tags", "")).split(",")]
        return (
            f"unknown name '{tag}'",
            "",
            f"{suggest_name(tag, known)} (known: {', '.join(known)})",
        )
    if kind == "union_tag_not_found":
        return "needs a 'name' that says which kind it is", "", ""
    if kind == "literal_error":
        expected = str(context.get("expected", ""))
        options = [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]
        return f"must be {expected}", not_value, suggest_name(str(value), options)
    if kind == "value_error":
        return str(context.get("error", item["msg"])), "", ""
    if kind in _BOUNDS:
        return _BOUNDS[kind].format_map(context), not_value, ""
    message = str(item["msg"])
    return _WORDS.get(kind, f"{message[0].lower()}{message[1:]}"), not_value, ""


def _show(value: Any) -> str:
    """The value as the user would write it, shortened."""
    text = {True: "true", False: "false", None: "null"}[value] if _is_word(value) else repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _is_word(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _section_at(
    path: list[str], raw: Mapping[str, Any], whole: type[BaseModel]
) -> type[BaseModel] | None:
    """The section class that the user's path names, following ``name`` where kinds differ."""
    section: type[BaseModel] | None = whole
    named: list[type[BaseModel]] = []  # what a mapping from the user's own names holds
    here: Any = raw
    for key in path:
        candidates, named = named, []
        if not candidates:
            if section is None or key not in section.model_fields:
                return None
            annotation = section.model_fields[key].annotation
            candidates, named = _sections_in(annotation), _sections_by_name(annotation)
        here = here.get(key) if isinstance(here, Mapping) else None
        name = here.get("name") if isinstance(here, Mapping) else None
        section = next((item for item in candidates if _answers_to(item, name)), None)
    return section


def _answers_to(section: type[BaseModel], name: Any) -> bool:
    field = section.model_fields.get("name")
    if field is None or typing.get_origin(field.annotation) is not typing.Literal:
        return True
    return name is None or name in typing.get_args(field.annotation)


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return [item for part in typing.get_args(annotation) for item in _sections_in(part)]
    return []


def _sections_by_name(annotation: Any) -> list[type[BaseModel]]:
    if typing.get_origin(annotation) is dict:
        return _sections_in(typing.get_args(annotation)[1])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return [item for part in typing.get_args(annotation) for item in _sections_by_name(part)]
    return []


def _known_keys(section: type[BaseModel] | None) -> list[str]:
    return list(section.model_fields) if section is not None else []
