"""What every export computes: one set of folded weights, and the functions that use them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from esc_tf.data import fit_length
from esc_tf.errors import RequestError
from esc_tf.frames import count_samples
from esc_tf.registry import look_up
from esc_tf.tasks.classifier import Classifier

SCORES = ("probabilities", "logits")
ALL_ACTIVATIONS = "all"


class InferenceGraphs(tf.Module):
    """A classifier for inference: batch norms folded, float32, and none of what trains it.

    It holds the variables and not the Keras model: with the model its training functions come into
    the SavedModel, after which the TFLite converter leaves batch statistics unfrozen and the file
    computes NaN without an error.

    The methods are plain Python and become graphs in a ``tf.function`` of the caller's, with the
    shapes that he wants. A waveform ``(batch, samples)`` of any length from 1 is brought to the
    model's own length as ``predict`` brings a clip; one whose static length is ``num_samples``
    goes in as it is. All results are float32, whatever the precision of the training.

    Args:
        model: a classifier, which is left as it was.
        activations: names from ``choose_activations``.
        merge_padding: see ``esc_tf.models.folding``.

    Attributes:
        model: the folded classifier (hidden from what TensorFlow saves).
        activations: the names.
        label_names: name of each class, in the order of the logits.
        sample_rate_hz: rate of the waveforms.
        num_samples: the length of the model's clips.
        num_heard: as many samples at the start of a clip are all that is heard of it; None if
            longer clips are cut elsewhere.

    Raises:
        RequestError: an activation is not there after folding.
        UnknownNameError: no such activation.
    """

    def __init__(
        self, model: Classifier, activations: Sequence[str] = (), merge_padding: bool = True
    ) -> None:
        super().__init__(name="inference")
        check_activations(model, activations)
        exact = compute_in_float32(model)
        folded = exact.fold_batch_norms(merge_padding)
        for name in activations:
            _check_that_it_is_kept(name, folded)
        # In a closure, where tf.Module does not look.
        self._find_model = lambda: folded
        self._find_original = lambda: exact
        self.weights = [weight.value for weight in folded.weights]
        self.activations = tuple(activations)
        self.label_names = tuple(folded.label_names)
        self._audio = folded.audio
        self.sample_rate_hz = int(self._audio["sample_rate_hz"])
        self.num_samples = count_samples(self._audio["duration_s"], self.sample_rate_hz)
        self.num_heard = self.num_samples if self._audio["crop"] == "start" else None
        # Functions of their own, so that a SavedModel has each once, constants (windows, filters)
        # included, however many signatures call it.
        self._extract = tf.function(folded.extract_features, autograph=False)
        self._classify = tf.function(folded.classify_features, autograph=False)

    @property
    def model(self) -> Classifier:
        """The folded classifier that computes."""
        return self._find_model()

    def keep_padding_apart(self) -> InferenceGraphs:
        """The same functions of a network that TFLite's interpreter computes faster."""
        return InferenceGraphs(self._find_original(), self.activations, merge_padding=False)

    def classify(self, waveform: Any, valid: Any = None) -> dict[str, Any]:
        """Waveform ``(batch, samples)`` → ``probabilities`` and ``logits`` ``(batch, classes)``.

        Args:
            waveform: float32, full scale 1.
            valid: for waveforms that ``fit`` or ``fit_clip`` has brought to their length: what it
                said of them.
        """
        return self._compute(self.classify_features, waveform, valid)

    def activate(self, waveform: Any, valid: Any = None) -> dict[str, Any]:
        """As ``classify``, and each of ``activations`` by its name."""
        return self._compute(self._activate_features, waveform, valid)

    def embed(self, waveform: Any, valid: Any = None) -> dict[str, Any]:
        """Waveform ``(batch, samples)`` → ``embedding`` ``(batch, units)``."""
        return self._compute(self._embed_features, waveform, valid)

    def extract_features(self, waveform: Any, valid: Any = None) -> Any:
        """Waveform → features ``(batch, time, frequency, channel)`` of the model's own length."""
        return self._extract(*self._fit_where_needed(waveform, valid))

    def classify_features(self, features: Any) -> dict[str, Any]:
        """Features of the model's own length → ``probabilities`` and ``logits``."""
        outputs = self._classify(features)
        return {name: outputs[name] for name in SCORES}

    def _activate_features(self, features: Any) -> dict[str, Any]:
        names = dict.fromkeys((*SCORES, *self.activations))
        values = self.model.compute_feature_activations(features, tuple(names))
        return {name: tf.cast(value, tf.float32) for name, value in values.items()}

    def _embed_features(self, features: Any) -> dict[str, Any]:
        return {"embedding": self._classify(features)["embedding"]}

    def _compute(
        self, function: Callable[[Any], dict[str, Any]], waveform: Any, valid: Any
    ) -> dict[str, Any]:
        if waveform.shape[0] is not None:
            return function(self.extract_features(waveform, valid))
        # Not every kernel takes a batch of none, so such a one gets a clip of silence for a while.
        waveform, valid = self._fit_where_needed(waveform, valid)
        num_clips = tf.shape(waveform)[0]
        missing = tf.cast(num_clips == 0, tf.int32)
        waveform = tf.pad(waveform, [[0, missing], [0, 0]])
        if valid is not None:
            valid = tf.pad(valid, [[0, missing]], constant_values=self.num_samples)
        outputs = function(self.extract_features(waveform, valid))
        return {name: value[:num_clips] for name, value in outputs.items()}

    def _fit_where_needed(self, waveform: Any, valid: Any) -> tuple[Any, Any]:
        if valid is None and waveform.shape[1] != self.num_samples:
            return self.fit(waveform)
        return waveform, valid

    def fit(self, waveform: Any) -> tuple[Any, Any]:
        """Bring waveforms ``(batch, samples)`` to ``(batch, num_samples)``.

        Returns:
            The waveforms, and how many samples of each are its own, int32 ``(batch,)``.
        """
        length = tf.shape(waveform)[1]
        with tf.control_dependencies([_check_length(length)]):
            # All have one length, so that one row of places says where each sample comes from.
            places, valid = self.fit_clip(tf.range(1, length + 1))
        fitted = tf.gather(waveform, tf.maximum(places - 1, 0), axis=1)
        fitted = tf.where(places > 0, fitted, 0.0)
        return fitted, tf.fill([tf.shape(waveform)[0]], valid)

    def fit_clip(self, waveform: Any) -> tuple[Any, Any]:
        """Bring one clip ``(samples,)`` to its length; also return how many samples are its own."""
        return fit_length(waveform, self.num_samples, self._audio["pad"], self._audio["crop"])


def choose_activations(model: Classifier, text: str | None) -> tuple[str, ...]:
    """Names of activations from what a user writes.

    Args:
        model: a classifier.
        text: names with commas between them; ``all`` for the features and all named outputs of
            backbone and head; None or an empty text for none.

    Returns:
        The names, each once, without ``probabilities`` and ``logits``, which are always there.

    Raises:
        UnknownNameError: no such activation or layer.
    """
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    if ALL_ACTIVATIONS in names:
        names = list(model.activation_names)
    check_activations(model, names)
    return tuple(name for name in dict.fromkeys(names) if name not in SCORES)


def check_activations(model: Classifier, names: Sequence[str]) -> None:
    """Raise UnknownNameError for a name that is no activation and no layer of the model."""
    layers = (layer.name for part in (model.backbone, model.head) for layer in part.layers)
    known = dict.fromkeys((*model.activation_names, *layers))
    for name in names:
        look_up(known, name, "activation")


def compute_in_float32(model: Classifier) -> Classifier:
    """The same weights in a classifier that computes in float32; the model itself if it does.

    What a mixed precision rounds in training, an export does not round: this is the model that it
    is equal to. The two differ by that rounding, about 1e-2 of the logits in bfloat16.
    """
    config = model.get_config()
    precision = config["precision"]
    if precision == "float32":
        return model
    config["precision"] = "float32"
    config["backbone"] = _replace(config["backbone"], precision, "float32")
    exact = Classifier.from_config(config)
    exact.set_weights(model.get_weights())
    return exact


def _replace(config: Any, old: str, new: str) -> Any:
    """A configuration of plain values, with each text ``old`` made ``new``."""
    if isinstance(config, dict):
        return {key: _replace(value, old, new) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_replace(value, old, new) for value in config)
    return new if config == old else config


def _check_that_it_is_kept(name: str, folded: Classifier) -> None:
    layers = (layer.name for part in (folded.backbone, folded.head) for layer in part.layers)
    if name not in {*folded.activation_names, *layers}:
        raise RequestError(
            f"activation '{name}': an export computes convolution and batch norm in one, and this "
            "layer is one of the two; name the activation behind them (always there: "
            f"{', '.join(folded.activation_names)})"
        )


def _check_length(length: Any) -> Any:
    return tf.debugging.Assert(
        length > 0, ["the waveform has no samples; send one sample or more of each clip"]
    )
