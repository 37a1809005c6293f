"""Where activations come from: a model in training form, an exported file, or a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from esc_tf.cards import find_card
from esc_tf.errors import RequestError
from esc_tf.interpretation.model_facts import ModelFacts, read_model_card

_SAVED_MODEL_FILE = "saved_model.pb"


class ActivationSource(Protocol):
    """A model that tells what is inside it.

    Attributes:
        name: where it lies, for messages and records.
        facts: how clips reach it.
        activation_names: what can be asked for; of a server, after its first answer.
    """

    @property
    def name(self) -> str: ...

    @property
    def facts(self) -> ModelFacts: ...

    @property
    def activation_names(self) -> Sequence[str]: ...

    def compute(
        self, waveforms: Sequence[np.ndarray], names: Sequence[str]
    ) -> Mapping[str, np.ndarray]:
        """Activations of some clips.

        Args:
            waveforms: float32 ``(samples,)`` each, at the model's rate, of any lengths; each is
                brought to the model's length as in its training.
            names: of ``activation_names``.

        Returns:
            name → float32 ``(len(waveforms), …)``.
        """
        ...


def open_source(
    place: str | Path, card: str | Path | None = None, token: str | None = None
) -> ActivationSource:
    """Open a model for its activations.

    Args:
        place: a run directory or a ``.keras`` file; a SavedModel's folder, of one version or of
            all (the newest is taken); a ``.tflite`` file; or the address of a served model,
            ``http://HOST:PORT/v1/models/NAME``, with ``/versions/N`` behind it if wanted.
        card: ``model_card.json`` of the export; None: the one that lies with the exported files.
            A server does not tell the rate of its waveforms, so for an address it is needed, and a
            ``.tflite`` file without it cannot be used either.
        token: for a server that asks for one.

    Raises:
        RequestError: there is no such model, it gives no activations, or a card is missing.
        EscTfError: it is damaged, or the server cannot be reached.
    """
    facts = None if card is None else read_model_card(Path(card).expanduser())
    if str(place).startswith(("http://", "https://")):
        from esc_tf.interpretation.served_source import ServedSource

        if facts is None:
            raise RequestError(
                f"{place}: a server does not say at which rate its model hears; name the "
                "model_card.json of the export too"
            )
        return ServedSource(str(place), facts, token)
    path = Path(place).expanduser()
    if path.suffix == ".tflite":
        from esc_tf.interpretation.tflite_source import TFLiteSource

        return TFLiteSource(path, facts or _read_its_card(path))
    version = find_saved_model(path)
    if version is not None:
        from esc_tf.interpretation.tensorflow_sources import SavedModelSource

        found = None if facts is not None else find_card(version)
        return SavedModelSource(version, facts if found is None else read_model_card(found))
    from esc_tf.interpretation.tensorflow_sources import ClassifierSource

    return ClassifierSource(path)


def find_saved_model(path: Path) -> Path | None:
    """The folder of a SavedModel: ``path``, or the highest number in it; None: neither is one."""
    if (path / _SAVED_MODEL_FILE).is_file():
        return path
    if not path.is_dir():
        return None
    versions = [
        folder
        for folder in path.iterdir()
        if folder.name.isdecimal() and (folder / _SAVED_MODEL_FILE).is_file()
    ]
    return max(versions, key=lambda folder: int(folder.name), default=None)


def _read_its_card(path: Path) -> ModelFacts:
    if not path.is_file():
        raise RequestError(f"{path}: no such model")
    card = find_card(path)
    if card is None:
        raise RequestError(
            f"{path}: has no model_card.json beside it or one folder above, which says at which "
            "rate it hears; keep the file in the folder of its export, or name the card"
        )
    return read_model_card(card)
