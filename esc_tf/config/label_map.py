"""Label maps: classes of one's own, each made of labels that a model knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, field_validator

from esc_tf.config.loading import read_config_file
from esc_tf.config.problems import describe_problems
from esc_tf.config.section import Section
from esc_tf.errors import ConfigError
from esc_tf.registry import suggest_name

Labels = Annotated[list[str], Field(min_length=1)]


class LabelMap(Section):
    """A model's labels read as other classes, without training.

    ``labels`` names the classes and, for each, the model's labels that mean it; a class's score is
    the best of its labels. A label stands for one class: with two, no score could tell them apart.
    """

    labels: Annotated[dict[str, Labels], Field(min_length=1)]

    @field_validator("labels")
    @classmethod
    def _check_unique(cls, labels: dict[str, list[str]]) -> dict[str, list[str]]:
        owners: dict[str, str] = {}
        twice = []
        for class_name, names in labels.items():
            for name in names:
                if name in owners:
                    both = " and ".join(dict.fromkeys((owners[name], class_name)))
                    twice.append(f"'{name}' stands twice, for {both}")
                owners.setdefault(name, class_name)
        if twice:
            raise ValueError("; ".join(twice))
        return labels

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in the order of the file."""
        return tuple(self.labels)

    def find_labels(self, label_names: Sequence[str]) -> list[list[int]]:
        """Positions of each class's labels among those of a model.

        Args:
            label_names: the model's labels, in the order of its logits.

        Raises:
            ConfigError: the model has no such label; all such are listed, with near matches.

        >>> pets = LabelMap(labels={"dog": ["Bark", "Howl"], "cat": ["Meow"]})
        >>> pets.find_labels(["Howl", "Meow", "Speech", "Bark"])
        [[3, 0], [1]]
        """
        places = {name: place for place, name in enumerate(label_names)}
        problems = [
            f"labels.{class_name}: the model has no label '{name}'{suggest_name(name, places)} "
            f"(it has {len(places)}: {_shorten(label_names)})"
            for class_name, names in self.labels.items()
            for name in names
            if name not in places
        ]
        if problems:
            raise ConfigError(problems)
        return [[places[name] for name in names] for names in self.labels.values()]


def load_label_map(path: str | Path) -> LabelMap:
    """Load a label map, a YAML file ``labels: {dog: [Dog, Bark], rain: [Rain]}``.

    It may extend another one, as every configuration may.

    Raises:
        ConfigError: the file cannot be read or is no label map; all problems at once.
    """
    raw = read_config_file(path)
    try:
        return LabelMap.model_validate(raw)
    except ValidationError as error:
        problems = describe_problems(error, raw, LabelMap)
        raise ConfigError([f"{path}: {problem}" for problem in problems]) from None


def _shorten(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
