"""Activations of a ``.tflite`` file, by LiteRT alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from esc_tf.audio.length import fit_waveform
from esc_tf.errors import CheckpointError, RequestError
from esc_tf.interpretation.model_facts import SIGNATURE, ModelFacts

_INPUT = "waveform"


class TFLiteSource:
    """A ``.tflite`` file with a signature ``activations``, as ``python -m export`` writes it.

    A file takes one length and cannot be told which samples are padding: where the model's own
    padding is ``end``, a shorter clip is heard with silence behind it, as ``predict`` has it.
    Values of integer files are given as what they mean.

    Args:
        path: of the file.
        facts: from its model card.

    Raises:
        CheckpointError: it is damaged or no ``.tflite`` file.
        RequestError: it has no such signature, or hears no waveforms of that length.
    """

    def __init__(self, path: Path, facts: ModelFacts) -> None:
        self.name, self.facts = str(path), facts
        if not path.is_file():
            raise RequestError(f"{path}: no such model")
        try:
            interpreter = Interpreter(model_path=str(path))
            signatures = interpreter.get_signature_list()
            if SIGNATURE not in signatures:
                raise RequestError(
                    f"{path}: has no signature {SIGNATURE}; export the model again with "
                    "--activations"
                )
            self._run = interpreter.get_signature_runner(SIGNATURE)
        except (ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path}: LiteRT cannot load it ({error})") from error
        self.activation_names = tuple(signatures[SIGNATURE]["outputs"])
        shapes = {
            name: tuple(map(int, detail["shape"]))
            for name, detail in self._run.get_input_details().items()
        }
        if shapes != {_INPUT: (1, facts.num_samples)}:
            raise RequestError(
                f"{path}: takes {shapes}, not one waveform of the {facts.num_samples} samples that "
                "its model card says; name its own card, and a format that hears waveforms"
            )
        self._details = self._run.get_output_details()

    def compute(
        self, waveforms: Sequence[np.ndarray], names: Sequence[str]
    ) -> dict[str, np.ndarray]:
        facts = self.facts
        rows: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for waveform in waveforms:
            fitted, _ = fit_waveform(waveform, facts.num_samples, facts.pad, facts.crop)
            outputs = self._run(**{_INPUT: fitted[np.newaxis].astype(np.float32)})
            for name in names:
                rows[name].append(_to_numbers(outputs[name], self._details[name]))
        return {name: np.concatenate(values) for name, values in rows.items()}


def _to_numbers(values: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    """What the contents of a tensor mean; an own copy, since LiteRT uses its memory again."""
    if detail["dtype"] == np.float32:
        return np.array(values)
    scale, zero_point = detail["quantization"]
    return ((values.astype(np.float64) - zero_point) * scale).astype(np.float32)
