"""Which classes of a data set take part, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

from esc_tf.errors import DataError
from esc_tf.registry import suggest_name

ESC10_CLASSES = (
    "dog",
    "rooster",
    "rain",
    "sea_waves",
    "crackling_fire",
    "crying_baby",
    "sneezing",
    "clock_tick",
    "helicopter",
    "chainsaw",
)

ESC19_CLASSES = (
    "crying_baby",
    "sneezing",
    "clapping",
    "breathing",
    "coughing",
    "footsteps",
    "laughing",
    "brushing_teeth",
    "snoring",
    "drinking_sipping",
    "door_wood_knock",
    "mouse_click",
    "keyboard_typing",
    "door_wood_creaks",
    "can_opening",
    "washing_machine",
    "vacuum_cleaner",
    "toilet_flush",
    "pouring_water",
)

NAMED_SELECTIONS = {"esc10": ESC10_CLASSES, "esc19": ESC19_CLASSES}


def select_classes(
    selection: str | Sequence[str], available: Sequence[str], place: str
) -> tuple[str, ...]:
    """Return the label names of a selection in label-id order.

    A named selection keeps the order of ``available`` (ascending target in ESC-50); a list keeps
    the order in which it was written.

    Args:
        selection: ``"all"``, ``"esc10"``, ``"esc19"`` or a list of class names.
        available: the classes that have clips, in the data set's own order.
        place: where the classes come from, for messages.

    Raises:
        DataError: a class is unknown (with a near match), named twice, or the selection needs a
            class that has no clips; all problems at once.

    >>> select_classes(["rain", "dog"], ["dog", "cat", "rain"], "here")
    ('rain', 'dog')
    """
    if isinstance(selection, str):
        if selection == "all":
            return tuple(available)
        wanted = NAMED_SELECTIONS[selection]
        absent = [name for name in wanted if name not in available]
        if absent:
            raise DataError(
                f"data.classes: '{selection}' needs clips of {', '.join(absent)}, and {place} has "
                "none; use 'all' or list the classes there are"
            )
        return tuple(name for name in available if name in wanted)
    problems = []
    for position, name in enumerate(selection):
        if name not in available:
            problems.append(
                f"data.classes: unknown class '{name}'{suggest_name(name, available)} "
                f"({place} has {', '.join(available)})"
            )
        elif name in selection[:position]:
            problems.append(f"data.classes: '{name}' is listed twice; remove one")
    if problems:
        raise DataError(problems)
    return tuple(selection)
