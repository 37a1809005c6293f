"""The formats of an export, and how near to the model each must be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """How far a format may be from the model.

    Attributes:
        logits: largest ``‖found − wanted‖ / ‖wanted‖`` of any sound's logits, also for embedding
            and scores; None: not judged.
        activations: the same for each activation.
        agreement: smallest share of clips whose first class is the model's; None: not judged.
        agreement_generated: the same where there are no clips but generated ones, of classes that
            the model does not know, so that more of them lie on a border between two classes.
    """

    logits: float | None = None
    activations: float | None = None
    agreement: float | None = None
    agreement_generated: float | None = None


EXACT = Tolerance(logits=1e-5, activations=1e-4)
HALF = Tolerance(logits=1e-2, activations=1e-1)
INTEGER = Tolerance(agreement=0.99, agreement_generated=0.95)
TOLERANCES: dict[str, Tolerance] = {
    "saved_model": EXACT,
    "tflite_float32": EXACT,
    "tflite_float16": HALF,
    "tflite_dynamic": INTEGER,
    "tflite_int8": INTEGER,
    "tflite_int8_backbone": INTEGER,
}
# In the order in which they are made.
FORMATS = tuple(TOLERANCES)
# Those that start behind the front end, for devices that make features themselves.
TAKE_FEATURES = ("tflite_int8_backbone",)
