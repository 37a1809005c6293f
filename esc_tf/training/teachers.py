"""Models as teachers: whatever it is, waveforms go in and logits come out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from esc_tf.cards import CARD_FILE, find_card
from esc_tf.config import AudioConfig
from esc_tf.data import fit_length
from esc_tf.errors import CheckpointError, EscTfError, RequestError
from esc_tf.frames import count_samples
from esc_tf.tasks.classifier import load_classifier
from esc_tf.training.run_directory import MODEL_FILE, RESOLVED_FILE, RunDirectory
from esc_tf.training.split_file import SPLIT_FILE, read_split

_SCORES = {"softmax": "categorical_crossentropy", "sigmoid": "binary_crossentropy"}
_BLOCK_BYTES = 1 << 20
# Logits of a probability of 0 or 1 would be infinite.
_SMALLEST_PROBABILITY = 1e-7

ComputeLogits = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
ComputeAnswers = Callable[[tf.Tensor, tf.Tensor], Mapping[str, tf.Tensor]]


@dataclass(frozen=True)
class Facts:
    """What a model says of itself, or somebody else of it.

    Attributes:
        label_names: names of the classes in the order of the logits.
        audio: rate, and how clips are brought to its length.
        output: ``softmax`` or ``sigmoid``.
    """

    label_names: tuple[str, ...]
    audio: AudioConfig
    output: str


@dataclass(frozen=True)
class Teacher:
    """A model that can be asked.

    Attributes:
        path: as it was named.
        file: the file or folder itself.
        digest: SHA-256 of its content.
        facts: what it says of itself.
        num_samples: the length that it was made for; None: not known, and clips are heard as they
            are.
        any_length: whether it hears longer ones as they are.
        seen: names of the clips that it trained or was selected on; None: not known.
        compute_answers: (waveform ``(batch, samples)``, num_samples ``(batch,)``) → ``logits`` and,
            if ``in_graph``, ``embedding``, in a graph.
        in_graph: whether it can be part of a training step.
    """

    path: str
    file: Path
    digest: str
    facts: Facts
    num_samples: int | None
    any_length: bool
    seen: tuple[str, ...] | None
    compute_answers: ComputeAnswers
    in_graph: bool

    @property
    def loss(self) -> str:
        """The loss of a recipe that fits its scores."""
        return _SCORES[self.facts.output]

    def hear(self, waveform: tf.Tensor, num_samples: tf.Tensor) -> tf.Tensor:
        """Logits ``(batch, classes)``; see ``answer``."""
        return self.answer(waveform, num_samples)["logits"]

    def answer(self, waveform: tf.Tensor, num_samples: tf.Tensor) -> Mapping[str, tf.Tensor]:
        """Answers to waveforms of any length at the teacher's rate, see ``compute_answers``.

        Shorter ones are filled up as the model's own training did it.

        Args:
            waveform: ``(batch, samples)``.
            num_samples: valid samples ``(batch,)``, int32.

        Raises:
            RequestError: they are longer than what it takes.
        """
        audio, length = self.facts.audio, self.num_samples
        if length is not None:
            self.check_length(waveform.shape[1])
        if length is not None and waveform.shape[1] < length:
            waveform, num_samples = tf.map_fn(
                lambda row: fit_length(row[0][: row[1]], length, audio.pad, audio.crop),
                (waveform, num_samples),
                fn_output_signature=(tf.TensorSpec([length], tf.float32), tf.int32),
            )
        return self.compute_answers(waveform, num_samples)

    def check_length(self, num_samples: int) -> None:
        """Refuse waveforms that are too long for the teacher.

        Raises:
            RequestError: they are longer than what it takes.
        """
        if self.any_length or self.num_samples is None or num_samples <= self.num_samples:
            return
        duration_s = self.num_samples / self.facts.audio.sample_rate_hz
        raise RequestError(
            f"{self.path}: takes clips of {duration_s:g} s only; lower audio.duration_s of the "
            "student to that"
        )


def load_teacher(
    path: str,
    *,
    labels: str | None = None,
    sample_rate_hz: int | None = None,
    output: str | None = None,
) -> Teacher:
    """Load a teacher: a run directory, a ``.keras`` file, a SavedModel or a ``.tflite`` file.

    An exported model's facts are read from the ``model_card.json`` of its export; what is named
    here counts more.

    Args:
        path: the model.
        labels: a file of class names, one a line.
        sample_rate_hz: the rate it hears at.
        output: ``softmax`` or ``sigmoid``.

    Raises:
        RequestError: there is no such model, or it does not say what it is.
        CheckpointError: it is damaged or of a kind that cannot be asked.
    """
    place = Path(path).expanduser()
    if (place / "saved_model.pb").is_file():
        build = _load_saved_model
    elif place.suffix == ".tflite":
        build = _load_tflite
    else:
        return _load_classifier(path, place, (labels, sample_rate_hz, output))
    if not place.exists():
        raise RequestError(f"{path}: no such model")
    facts, duration_s = _read_facts(path, place, labels, sample_rate_hz, output)
    try:
        compute_logits, fixed = build(place, facts.output)
    except EscTfError:
        raise
    except Exception as error:  # both loaders raise almost any type
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: cannot be loaded as a teacher ({reason})") from error
    num_samples = fixed
    if fixed is None and duration_s is not None:
        num_samples = count_samples(duration_s, facts.audio.sample_rate_hz)
    return Teacher(
        path=path,
        file=place,
        digest=digest_model(place),
        facts=facts,
        num_samples=num_samples,
        any_length=fixed is None,
        seen=None,
        compute_answers=lambda *heard: {"logits": compute_logits(*heard)},
        in_graph=False,
    )


def digest_model(file: Path) -> str:
    """SHA-256 of a file, or of all files in a folder with their names."""
    digest = hashlib.sha256()
    for part in sorted(file.rglob("*")) if file.is_dir() else [file]:
        if not part.is_file():
            continue
        if file.is_dir():
            digest.update(str(part.relative_to(file)).encode("utf-8", "surrogateescape") + b"\0")
        with open(part, "rb") as content:
            while block := content.read(_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def find_model_file(path: str) -> Path:
    """The file or folder that a teacher's name stands for."""
    place = Path(path).expanduser()
    is_run = place.is_dir() and not (place / "saved_model.pb").is_file()
    return place / MODEL_FILE if is_run else place


def _load_classifier(path: str, place: Path, said: Sequence[object]) -> Teacher:
    if any(item is not None for item in said):
        raise RequestError(
            f"{path}: knows its own labels, rate and scores; --labels, --sample-rate and --scores "
            "are for a SavedModel or a .tflite file"
        )
    model = load_classifier(place)
    facts = Facts(model.label_names, AudioConfig.model_validate(model.audio), model.output_kind)
    folded = model.fold_batch_norms()

    def compute_answers(waveform: tf.Tensor, num_samples: tf.Tensor) -> Mapping[str, tf.Tensor]:
        inputs = {"waveform": waveform, "num_samples": num_samples}
        outputs = folded(inputs, training=False)
        return {key: outputs[key] for key in ("logits", "embedding")}

    file = find_model_file(path)
    seen = _read_seen(file.parent)
    return Teacher(
        path=path,
        file=file,
        digest=digest_model(file),
        facts=facts,
        num_samples=count_samples(facts.audio.duration_s, facts.audio.sample_rate_hz),
        any_length=model.any_length,
        seen=seen,
        compute_answers=compute_answers,
        in_graph=True,
    )


def _read_seen(folder: Path) -> tuple[str, ...] | None:
    """Names of the clips that the run in ``folder`` trained or was selected on."""
    run = RunDirectory(folder)
    if not ((folder / SPLIT_FILE).is_file() and (folder / RESOLVED_FILE).is_file()):
        return None
    split = read_split(run)
    return tuple(sorted({*split["train"], *split["validation"]}))


# --- exported models


def _read_facts(
    path: str, place: Path, labels: str | None, sample_rate_hz: int | None, output: str | None
) -> tuple[Facts, float | None]:
    """What the model's card and the arguments say, and its clips' length in s if that is known."""
    card: Mapping[str, Any] = {}
    card_path = find_card(place)
    if card_path is not None:
        try:
            card = json.loads(card_path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RequestError(f"{card_path}: cannot be read ({error})") from None
    heard = card.get("input", {})
    names = _read_labels(labels) if labels is not None else tuple(card.get("labels", ()))
    sample_rate_hz = sample_rate_hz or heard.get("sample_rate_hz")
    output = output or card.get("scores")
    missing = [
        flag
        for flag, value in (
            ("--labels", names),
            ("--sample-rate", sample_rate_hz),
            ("--scores", output),
        )
        if not value
    ]
    if missing:
        raise RequestError(
            f"{path}: no {CARD_FILE} of an export lies beside it; say what it is with "
            f"{', '.join(missing)}"
        )
    if output not in _SCORES:
        raise RequestError(f"{path}: scores must be one of {', '.join(_SCORES)}, not '{output}'")
    audio = AudioConfig(
        sample_rate_hz=int(sample_rate_hz or 0),
        pad=heard.get("shorter_clips", "silence"),
        crop=heard.get("longer_clips", "start"),
    )
    return Facts(names, audio, output), heard.get("duration_s")


def _read_labels(path: str) -> tuple[str, ...]:
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise RequestError(f"--labels: {path}: cannot be read ({reason})") from None
    return tuple(line.strip() for line in lines if line.strip())


def _find_scores(outputs: Mapping[str, Any], output: str) -> Any:
    """Logits of a model's outputs, or of its probabilities what the logits may have been."""
    if "logits" in outputs:
        return outputs["logits"]
    if "probabilities" not in outputs:
        raise CheckpointError(
            f"gives {', '.join(sorted(outputs))}, but neither 'logits' nor 'probabilities'"
        )
    probabilities = np.clip(outputs["probabilities"], _SMALLEST_PROBABILITY, 1.0)
    if output == "softmax":
        return np.log(probabilities)
    rest = np.clip(1.0 - probabilities, _SMALLEST_PROBABILITY, 1.0)
    return np.log(probabilities) - np.log(rest)


def _load_saved_model(place: Path, output: str) -> tuple[ComputeLogits, int | None]:
    """Its default signature, and the one number of samples that this takes, if there is one."""
    loaded = tf.saved_model.load(str(place))
    run = loaded.signatures["serving_default"]
    ((name, specification),) = run.structured_input_signature[1].items()

    def compute_logits(waveform: tf.Tensor, num_samples: tf.Tensor) -> tf.Tensor:
        outputs = run(**{name: waveform})
        return _find_scores({key: value.numpy() for key, value in outputs.items()}, output)

    compute_logits.keep_alive = loaded  # type: ignore[attr-defined]
    return compute_logits, specification.shape[1]


def _load_tflite(place: Path, output: str) -> tuple[ComputeLogits, int | None]:
    """Its default signature, one clip at a time, and the number of samples that this takes."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        Interpreter = tf.lite.Interpreter  # noqa: N806, the same class in TensorFlow's own dress

    interpreter = Interpreter(model_path=str(place))
    run = interpreter.get_signature_runner("serving_default")
    ((name, details),) = run.get_input_details().items()
    num_clips, num_samples = (int(size) for size in details["shape"])
    if num_clips != 1:
        raise CheckpointError(f"takes {num_clips} clips at once, and only one was expected")

    def compute_logits(waveform: tf.Tensor, num_samples: tf.Tensor) -> tf.Tensor:
        rows = [run(**{name: row[np.newaxis]}) for row in np.asarray(waveform, np.float32)]
        outputs = {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}
        return _find_scores(outputs, output)

    compute_logits.keep_alive = interpreter  # type: ignore[attr-defined]
    return compute_logits, num_samples
