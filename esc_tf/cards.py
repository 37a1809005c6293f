"""Where a model card lies: what an export says of its files, beside them."""

from __future__ import annotations

from pathlib import Path

CARD_FILE = "model_card.json"


def find_card(model: Path) -> Path | None:
    """The card of the export that a file or folder belongs to: beside it, or one folder above.

    >>> find_card(Path("nowhere/tflite/model.tflite")) is None
    True
    """
    for folder in list(model.absolute().parents)[:2]:
        if (folder / CARD_FILE).is_file():
            return folder / CARD_FILE
    return None
