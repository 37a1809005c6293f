"""The model that comes with the package: where its files are. No TensorFlow."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from esc_tf.cards import CARD_FILE
from esc_tf.errors import RequestError

SHIPPED_FOLDER = Path(__file__).resolve().parent / "shipped_model"
KERAS_FILE = "model.keras"
TFLITE_FILE = "model.tflite"
CARD_TEXT_FILE = "model_card.md"
LABELS_FILE = "labels.txt"
CONFIG_FILE = "config.yaml"
CREDITS_FILE = "credits.md"

_NEEDED = (KERAS_FILE, TFLITE_FILE, CARD_FILE, LABELS_FILE, CONFIG_FILE)


@dataclass(frozen=True)
class ShippedModel:
    """The files of one model, which belong together.

    Attributes:
        folder: where they lie.
        name: what it is called, as its card says.
    """

    folder: Path
    name: str

    @property
    def keras_file(self) -> Path:
        """The classifier, waveform to scores, as ``load_classifier`` reads it."""
        return self.folder / KERAS_FILE

    @property
    def tflite_file(self) -> Path:
        """The same for LiteRT: front end in float, network in int8."""
        return self.folder / TFLITE_FILE

    @property
    def card_file(self) -> Path:
        """What it is, for programs; ``model_card.md`` is for people."""
        return self.folder / CARD_FILE

    @property
    def labels_file(self) -> Path:
        """Its classes, one a line."""
        return self.folder / LABELS_FILE

    @property
    def config_file(self) -> Path:
        """The experiment that it was trained by."""
        return self.folder / CONFIG_FILE


def find_shipped(folder: str | Path = SHIPPED_FOLDER) -> ShippedModel:
    """Find the model that comes with the package.

    Args:
        folder: where its files lie.

    Raises:
        RequestError: files are missing, as in a package that was built without them, or damaged.
    """
    folder = Path(folder)
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if missing:
        raise RequestError(
            f"the package's own model is not there ({folder} lacks {', '.join(missing)}); name a "
            "model, or install the package again"
        )
    try:
        name = str(json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))["name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(
            f"{folder / CARD_FILE}: damaged ({error}); install the package again"
        ) from None
    return ShippedModel(folder, name)
