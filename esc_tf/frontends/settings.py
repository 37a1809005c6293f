"""The settings of a layer, checked as those of a whole configuration are."""

from __future__ import annotations

import json
import typing
from typing import Any, TypeVar

from pydantic import ValidationError

from esc_tf.config import FrontEndConfig
from esc_tf.config.problems import describe_problems
from esc_tf.config.section import Section
from esc_tf.errors import ConfigError

SectionType = TypeVar("SectionType", bound=Section)


class _Whole(Section):
    """The settings where a whole configuration has them, so that problems are told alike."""

    front_end: FrontEndConfig


def check_settings(section: type[SectionType], settings: dict[str, Any]) -> SectionType:
    """Validate what a front end is called with.

    Args:
        section: the class of its configuration.
        settings: its fields but ``name``.

    Raises:
        ConfigError: a setting is unknown or wrong; all such are listed, as ``front_end.…``.
    """
    (name,) = typing.get_args(section.model_fields["name"].annotation)
    raw = {"front_end": {"name": name, **settings}}
    try:
        # JSON mode: strict about types, yet a list may become a tuple, as in a saved layer.
        checked = _Whole.model_validate_json(json.dumps(raw)).front_end
    except ValidationError as error:
        raise ConfigError(describe_problems(error, raw)) from None
    assert isinstance(checked, section)  # the name says so
    return checked
